#include "core/text/load_tokenizer.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/sentencepiece.h"
#include "core/text/tokenizer_json/tokenizer_json.h"

namespace inoculum {

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  if (!fs::exists(folder)) {
    const std::string name = folder.string();
    const bool on_the_hub = std::count(name.begin(), name.end(), '/') == 1 &&
                            name.find_first_of("/.~") != 0 && !name.ends_with('/') &&
                            !fs::exists(folder.parent_path());
    throw Error("there is no such folder", {.file = name},
                on_the_hub
                    ? "a model of the Hugging Face Hub is fetched first: inoculum model fetch " +
                          name + " --output models/" + folder.filename().string()
                    : "a model is a folder with config.json, weights and a tokenizer");
  }
  if (fs::exists(folder / "tokenizer.json")) return load_tokenizer_json(folder);
  const fs::path file = folder / "tokenizer.model";
  if (!fs::exists(file))
    throw Error("there is no tokenizer here", {.file = folder.string()},
                "a model folder needs tokenizer.json, or tokenizer.model (SentencePiece)");
  return load_sentencepiece(folder);
}

}  // namespace inoculum
