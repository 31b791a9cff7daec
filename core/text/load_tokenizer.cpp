#include "core/text/load_tokenizer.h"

#include "core/base/error.h"
#include "core/text/sentencepiece.h"
#include "core/text/tokenizer_json/tokenizer_json.h"

namespace inoculum {

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  if (!fs::exists(folder))
    throw Error("there is no such folder", {.file = folder.string()},
                "a model is a folder; one of the Hugging Face Hub is fetched first: inoculum model "
                "fetch OWNER/NAME --output FOLDER");
  if (fs::exists(folder / "tokenizer.json")) return load_tokenizer_json(folder);
  const fs::path file = folder / "tokenizer.model";
  if (!fs::exists(file))
    throw Error("there is no tokenizer here", {.file = folder.string()},
                "a model folder needs tokenizer.json, or tokenizer.model (SentencePiece)");
  return load_sentencepiece(folder);
}

}  // namespace inoculum
