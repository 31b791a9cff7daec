// SentencePiece: reading `tokenizer.model`, and making one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/files.h"
#include "core/text/tokenizer.h"

namespace inoculum {

std::unique_ptr<Tokenizer> load_sentencepiece(const fs::path& folder);

struct TokenizerTrainingConfig {
  int64_t vocab_size = 2048;
  int64_t sentences = 60000;  // texts that the vocabulary is made from

  void fields(Fields& f);
};

// Trains a byte-pair encoding with byte fallback on the texts that `next` yields (false: no more),
// each digit a piece of its own, nothing normalised: decoding gives back every text exactly. The
// folder gets tokenizer_config.json and then tokenizer.model.
void train_sentencepiece(const std::function<bool(std::string&)>& next,
                         const TokenizerTrainingConfig& config,
                         const std::vector<std::string>& symbols, const fs::path& folder);

}  // namespace inoculum
