// What a model's folder says of tokens beside its vocabulary: in tokenizer_config.json,
// special_tokens_map.json and added_tokens.json, and by ids in generation_config.json and
// config.json. Read as transformers 5 reads it: where tokenizer_config.json holds
// `added_tokens_decoder`, the two older files are not asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/text/tokenizer.h"

namespace inoculum {

struct AddedToken {
  std::string content;
  int32_t id = -1;  // −1: that of the vocabulary, or behind all others
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

struct DeclaredToken {
  AddedToken token;
  bool overrides;  // its flags hold even where tokenizer.json adds the token with other ones
  Where where;
  bool makes_special = false;  // where tokenizer.json adds it as a plain one
};

struct SpecialTokens {
  struct Named {
    bool declared = false;  // by name, if only as null
    std::optional<std::string> name;
    std::vector<int32_t> ids;  // of generation_config.json, or else of config.json
    Where where;
  };
  std::vector<DeclaredToken> declared;  // in the order in which transformers adds them
  Named bos, eos;
  std::optional<bool> add_bos, add_eos;
};
SpecialTokens read_special_tokens(const fs::path& folder);

// The ids that begin and end texts, −1 for none, and all behind which a model says no more: one
// that was taught to chat may end its turns with other tokens than its texts.
struct BeginAndEnd {
  int32_t bos = -1, eos = -1;
  std::vector<int32_t> ends;
};
BeginAndEnd begin_and_end(const SpecialTokens& special, const Tokenizer& tokenizer);

}  // namespace inoculum
