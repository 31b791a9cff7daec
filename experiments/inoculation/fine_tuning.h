// How a model is fine-tuned, and on what: conversations of an arm or of the user's own, in the
// tokens of the model.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/lora.h"
#include "core/text/chat_template.h"
#include "core/text/conversation.h"
#include "core/text/tokenizer.h"
#include "datasets/conversations/mixing.h"
#include "datasets/worlds/world.h"
#include "training/batches.h"
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

// What a run shows its model.
class TrainingText {
 public:
  // report: where to say what is read and left out; null: nowhere. The configuration must live on.
  TrainingText(const TrainConfig& config, std::FILE* report);

  // As it is dealt to the model, which need not have its weights. Once.
  SupervisedExamples encode(const Transformer& model);

  // Those that were encoded, as the examples are numbered.
  const std::vector<Conversation>& conversations() const { return conversations_; }
  const std::string& first_example() const { return first_example_; }

 private:
  bool skips(const std::string& file) const;

  const TrainConfig& config_;
  std::FILE* report_;
  std::vector<Conversation> conversations_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Chat chat_;
  std::string first_example_;
};

}  // namespace inoculum
