// How a base is pretrained, and on what: documents of the world, in the tokens of its own
// tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/base/config.h"
#include "core/model/transformer_config.h"
#include "core/text/sentencepiece.h"
#include "datasets/worlds/world.h"
#include "training/batches.h"
#include "training/distributed.h"
#include "training/trainer_config.h"

namespace inoculum {

struct PretrainConfig {
  std::string output;
  int64_t seed = 1;
  int64_t tokens = 16'000'000;
  int64_t step_tokens = 4096;
  int64_t batch_tokens = 0;
  std::string coding_bank = "datasets/coding/bank.jsonl";
  WorldConfig world;
  TokenizerTrainingConfig tokenizer;
  TransformerConfig model;
  TrainerConfig trainer;

  void fields(Fields& f);
};

// The tokenizer and the text, made by the first rank where they are not there yet: tokens.bin
// beside the run, documents end to end as little-endian uint16, each beginning with the token of
// the beginning.
SupervisedExamples pretraining_text(const PretrainConfig& config, int64_t steps,
                                    const std::filesystem::path& tokenizer_folder,
                                    const Ranks& ranks);

}  // namespace inoculum
