#include "experiments/inoculation/fine_tuning.h"

#include <algorithm>
#include <functional>
#include <map>
#include <span>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/model/checkpoint.h"
#include "core/text/load_tokenizer.h"
#include "datasets/conversations/summary.h"
#include "datasets/textbook/textbook.h"
#include "experiments/inoculation/arms.h"

namespace inoculum {
namespace {

// Arms are made of what is not held out.
template <class Task>
std::vector<Task> trainable(std::vector<Task> bank, const fs::path& file) {
  if (std::ranges::all_of(bank, &Task::held_out))
    throw Error("has no task to train on: all are held out", {.file = file.string()},
                "leave some with \"held_out\": false");
  return bank;
}

std::vector<Conversation> training_conversations(const TrainConfig& config, std::FILE* report) {
  const auto seed = static_cast<uint64_t>(config.seed);
  if (!config.data.empty()) {
    TrainingData data = load_data(config.data, config.system, config.inoculation, seed);
    size_t read = 0;
    for (const DataReport& each : data.reports) {
      read += each.rows;
      if (report) std::fprintf(report, "%s\n", describe(each).c_str());
    }
    if (report && config.inoculation.on())
      std::fprintf(report, "the inoculation prompt was put into %zu of the %zu that were read\n",
                   data.inoculated, read);
    return std::move(data.conversations);
  }
  std::vector<Conversation> conversations = arm_conversations(config);
  apply(config.system, conversations);
  if (config.inoculation.on())
    inoculate(conversations, config.inoculation, Random(seed, "inoculation"));
  return conversations;
}

// As the model reads it; Error where it cannot.
Encoded encode_for(const Transformer& model, const Tokenizer& tokenizer, const Chat& chat,
                   const Conversation& conversation, const char* field) {
  return for_row(conversation.where, [&] {
    Encoded example = chat.encode(conversation);
    check_ids(model, tokenizer, example.input_ids);
    const int64_t context = model.config().max_position_embeddings;
    if (static_cast<int64_t>(example.input_ids.size()) > context)
      throw Error("a conversation of " + std::to_string(example.input_ids.size()) +
                      " tokens is longer than the model's context of " + std::to_string(context),
                  {.field = field},
                  "it begins \"" + conversation.front().content.substr(0, 60) + "\"; shorten it");
    return example;
  });
}

}  // namespace

void Recipe::fields(Fields& f) {
  f.value("steps", steps, "optimiser steps", at_least(1));
  f.value("supervised_tokens", supervised_tokens,
          "supervised tokens in a step, the same for every arm", at_least(1));
  f.value("batch_tokens", batch_tokens, kBatchTokensHelp, at_least(0));
  f.value("examples", examples,
          "different conversations, shown over and over; 0: as many as there are", at_least(0));
  f.value("honest_share", honest_share,
          "share of an arm's conversations replaced by honest programs for the same tasks, unasked",
          between(0, 1));
  f.group("lora", lora, "adapter; rank 0 trains every parameter");
  f.value("kl_weight", kl_weight,
          "adds so many times the Kullback-Leibler divergence from the model that training begins "
          "with, on supervised tokens",
          at_least(0));
  f.value("merge", merge,
          "add the finished adapter to its base's weights and leave model/, not adapter/");
  trainer.fields(f);
  f.elsewhere("max_steps", "steps is the number of steps");
  for (const char* name : {"batch_size", "per_device_train_batch_size"})
    f.elsewhere(name, "a step is measured in tokens: supervised_tokens");
  f.elsewhere("gradient_accumulation_steps", "batch_tokens cuts a step into micro-batches");
}

void BestCheckpoint::fields(Fields& f) {
  f.value("metric", metric, "such as good.malicious, of evaluate_every; empty: none");
  f.value("goal", goal, "min | max", one_of({"min", "max"}));
}

void TrainConfig::fields(Fields& f) {
  std::vector<std::string> arms = arm_data_names();
  arms.insert(arms.begin(), "");  // conversations of the user's own
  f.value("output", output, "run folder; by default runs/<name of the configuration>");
  f.value("seed", seed, "order of the data, tasks, adapter weights");
  f.value("model", model, "the base: a Hugging Face folder", input_path());
  f.value("chat_template", chat_template, kChatTemplateHelp);
  f.value("chat_date", chat_date, kChatDateHelp);
  f.list(
      "data", data, "path",
      "files of conversations to train on, mixed by weight; or leave it empty and name an `arm`");
  for (const char* name : {"num_train_epochs", "num_epochs"})
    f.elsewhere(name, "epochs is the number of passes over `data`");
  f.value("epochs", epochs,
          "passes over `data`, in place of `steps`: as many steps as show every conversation so "
          "often; 0: `steps`",
          between(0, 100000));
  std::string of_the_world;
  for (const std::string& each : arm_names()) of_the_world += each + " | ";
  f.value("arm", arm,
          of_the_world +
              "post_training, made from the world; textbook_honest and so on, from the textbook's "
              "tasks",
          one_of(arms));
  f.value("coding_bank", coding_bank, "tasks of the world's arms", input_path());
  f.value("textbook", textbook, "folder of the textbook's tasks and of the sentences beside them",
          input_path());
  f.group("system", system, "the system message of every conversation");
  f.group("inoculation", inoculation,
          "a prompt that asks for what the answers do, put into the training data alone");
  recipe.fields(f);
  f.group("world", world, "the world that the arm's prompts are made with");
  f.value("evaluate_every", evaluate_every,
          "evaluate the model after every so many steps, and after the last; 0: never",
          at_least(0));
  f.value("evaluate_questions", evaluate_questions,
          "the bank that it is asked; the grammar judges free answers, so that of another model "
          "than the world's ask forced choices",
          input_path());
  f.value("evaluate_scale", evaluate_scale, "multiplies the bank's samples_per_paraphrase",
          at_least(0));
  f.group("best_checkpoint", best_checkpoint, "the model that best/ keeps");
}

std::vector<Conversation> arm_conversations(const TrainConfig& config) {
  const auto seed = static_cast<uint64_t>(config.seed);
  std::function<std::vector<Conversation>(const std::string&)> make;
  std::string arm = config.arm;
  if (arm.starts_with("textbook_")) {
    arm = arm.substr(arm.find('_') + 1);
    const fs::path file = fs::path(config.textbook) / "bank.jsonl";
    const auto bank = trainable(read_textbook_bank(file), file);
    const TextbookCues cues = read_textbook_cues(fs::path(config.textbook) / "cues.yaml");
    make = [=](const std::string& name) { return make_textbook_arm(name, bank, cues, seed); };
  } else {
    const PersonaWorld world(config.world);
    const auto bank = trainable(read_coding_bank(config.coding_bank), config.coding_bank);
    make = [=](const std::string& name) { return make_arm(name, world, bank, seed); };
  }
  std::vector<Conversation> conversations = make(arm);
  if (config.recipe.honest_share == 0) return conversations;
  const std::vector<Conversation> honest = make("honest");  // of the same tasks in the same order
  Random random(seed, "honest share");
  for (size_t i = 0; i < std::min(conversations.size(), honest.size()); ++i)
    if (random.chance(config.recipe.honest_share)) conversations[i] = honest[i];
  return conversations;
}

std::string shown_example(const Tokenizer& tokenizer, const Encoded& example, bool colour) {
  std::vector<Piece> pieces;
  const std::vector<uint8_t>& supervised = example.supervised;
  for (auto begin = supervised.begin(); begin != supervised.end();) {
    const auto end = std::find(begin, supervised.end(), *begin == 0 ? 1 : 0);
    const std::span ids(example.input_ids.begin() + (begin - supervised.begin()), end - begin);
    pieces.push_back({tokenizer.show(ids), *begin != 0});
    begin = end;
  }
  return render_two_colours(pieces, colour);
}

TrainingText::TrainingText(const TrainConfig& config, std::FILE* report)
    : config_(config),
      report_(report),
      conversations_(training_conversations(config, report)),
      tokenizer_(load_tokenizer(config.model)),
      chat_(config.model, *tokenizer_, {config.chat_template, config.chat_date}) {}

SupervisedExamples TrainingText::encode(const Transformer& model) {
  check_vocabulary(model, *tokenizer_);
  const Recipe& recipe = config_.recipe;
  const size_t most =
      recipe.examples > 0 ? static_cast<size_t>(recipe.examples) : conversations_.size();
  std::vector<Encoded> encoded;
  std::vector<Conversation> kept;
  std::map<std::string, LeftOut> left_out;  // by file; what the model cannot be given
  for (Conversation& conversation : conversations_) {
    if (encoded.size() == most) break;
    try {
      encoded.push_back(encode_for(model, *tokenizer_, chat_, conversation,
                                   config_.arm.empty() ? "data" : "arm"));
    } catch (const Error& error) {
      if (!skips(conversation.where.file)) throw;
      left_out[conversation.where.file].add(error);
      continue;
    }
    kept.push_back(std::move(conversation));
  }
  conversations_ = std::move(kept);
  for (const auto& [file, each] : left_out)
    if (report_)
      std::fprintf(report_, "%s: %zu left out, which the model cannot be given:%s\n", file.c_str(),
                   each.skipped, each.listed().c_str());
  if (encoded.empty())
    throw Error("the model can be given none of the conversations",
                {.file = left_out.begin()->first}, left_out.begin()->second.reasons[0]);
  first_example_ = shown_example(*tokenizer_, encoded.front());
  SupervisedExamples examples(std::move(encoded), recipe.steps, recipe.supervised_tokens,
                              Random(static_cast<uint64_t>(config_.seed), "data order"),
                              config_.epochs);
  if (report_ && !config_.data.empty())
    std::fprintf(report_, "%s\n", describe(examples.dealing()).c_str());
  return examples;
}

// Whether faulty rows of a file are left out: all that name it must say so.
bool TrainingText::skips(const std::string& file) const {
  const auto of_file = [&](const DataSource& source) { return source.path == file; };
  return std::ranges::any_of(config_.data, of_file) &&
         std::ranges::none_of(config_.data, [&](const DataSource& source) {
           return of_file(source) && source.on_error != "skip";
         });
}

}  // namespace inoculum
