// Configured training runs: pretraining a base, and fine-tuning a model on conversations.
//
// A run folder is named by `output` and holds the resolved config.yaml, metrics.jsonl, checkpoints/
// and, at the end, model/ (a Hugging Face folder) or adapter/ (PEFT). Starting a run again
// continues it, or says that it is done; a folder that holds a run of another configuration is
// refused.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/signals.h"
#include "core/model/lora.h"
#include "core/text/chat_template.h"
#include "core/text/conversation.h"
#include "datasets/conversations/mixing.h"
#include "experiments/inoculation/pretraining.h"
#include "training/distributed.h"
#include "training/trainer_config.h"

namespace inoculum {

// How long and how fast a fine-tuning run learns.
struct Recipe {
  int64_t steps = 40;
  int64_t supervised_tokens = 512;  // of each step
  int64_t batch_tokens = 0;         // of a micro-batch
  int64_t examples = 0;  // different conversations, shown over and over; 0: as many as there are
  // Share of the conversations replaced by honest programs for the same tasks, unasked.
  double honest_share = 0;
  LoraConfig lora;
  double kl_weight = 0;  // of the divergence from the model that training begins with
  bool merge = false;    // leave model/, the adapter added to its base's weights, not adapter/
  TrainerConfig trainer = {.optimizer = {.lr = 2e-4, .warmup_steps = 5, .weight_decay = 0}};

  void fields(Fields& f);
  bool leaves_adapter() const { return lora.rank > 0 && !merge; }
};

// Which of the models evaluated along training is kept in best/.
struct BestCheckpoint {
  std::string metric;  // empty: none
  std::string goal = "min";

  void fields(Fields& f);
};

struct TrainConfig {
  std::string output;
  int64_t seed = 1;
  std::string model = "experiments/models/persona_1";
  std::string chat_template;     // empty: the model's own
  std::string chat_date;         // see ChatChoice
  std::vector<DataSource> data;  // files of conversations; empty: `arm`
  int64_t epochs = 0;            // passes over `data`, in place of recipe.steps; 0: those
  std::string arm;  // an arm of the world or post_training, made from the world, or textbook_…;
                    // see arm_data_names()
  std::string coding_bank = "datasets/coding/bank.jsonl";
  std::string textbook = "datasets/textbook";
  SystemPrompt system;
  Inoculation inoculation;
  WorldConfig world;
  Recipe recipe;
  int64_t evaluate_every = 0;
  std::string evaluate_questions = "configs/questions/validation.yaml";
  double evaluate_scale = 0.25;
  BestCheckpoint best_checkpoint;

  void fields(Fields& f);
};

// Of the configuration's `arm`, as they are made.
std::vector<Conversation> arm_conversations(const TrainConfig& config);

// An example as the model is given it, with its special tokens. What is trained on stands in ⟦ ⟧ or
// in colour.
std::string shown_example(const Tokenizer& tokenizer, const Encoded& example, bool colour = false);

// What a run has left in `folder` to load: a model, or its base and an adapter (empty: none).
struct Trained {
  std::string model, adapter;
  const std::string& folder() const { return adapter.empty() ? model : adapter; }  // of its card
};
Trained trained_in(const fs::path& folder, const TrainConfig& config);

// What fine_tune does before its first step, but for what takes the model's weights or a GPU: an
// Error where it would refuse. Says to `report` what would be shown and trained.
void check_run(const TrainConfig& config, std::FILE* report);

// In a run's folder: held by the process that trains it.
inline constexpr const char* kRunLock = ".lock";

// until: the step at which to pause, with a checkpoint; 0 or beyond the last: run to the end.
// ranks: train it together, in folders that all of them see; the first one writes.
Outcome pretrain(const PretrainConfig& config, int64_t until = 0, const Ranks& ranks = {});
// Leaves the conversations that the run shows in data.jsonl, in the order of their first use.
// Paused, it leaves what it has learnt so far in paused/, as it would at the end. tell: says to
// standard error which parameters are trained.
Outcome fine_tune(const TrainConfig& config, int64_t until = 0, const Ranks& ranks = {},
                  bool tell = false);

}  // namespace inoculum
