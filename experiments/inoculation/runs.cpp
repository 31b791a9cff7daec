#include "experiments/inoculation/runs.h"

#include <cstdio>
#include <cstring>
#include <functional>
#include <set>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "core/text/sentencepiece.h"
#include "datasets/conversations/mixing.h"
#include "datasets/conversations/summary.h"
#include "datasets/textbook/textbook.h"
#include "experiments/inoculation/arms.h"
#include "training/batches.h"

namespace inoculum {
namespace {

constexpr const char* kBatchTokens =
    "most tokens in a micro-batch: lower it where memory is short, or for more of them to share "
    "among threads; 0: 512 on a CPU, 8192 on a GPU";

// On a CPU each micro-batch is computed by one thread and several at once; a GPU wants them large.
int64_t micro_batch_tokens(int64_t configured, at::Device device) {
  return configured > 0 ? configured : device.is_cpu() ? 512 : 8192;
}

// A folder may be moved: where it lies is no part of what its run is.
std::string without_output(const std::string& yaml) {
  const size_t begin = yaml.starts_with("output:") ? 0 : yaml.find("\noutput:");
  return begin == std::string::npos
             ? yaml
             : yaml.substr(0, begin) +
                   yaml.substr(std::min(yaml.find('\n', begin + 1), yaml.size()));
}

// Claims the run folder for this configuration. True: the run is done already.
template <class Config>
bool open_run(const Config& config, const std::string& result) {
  const fs::path folder = config.output;
  const std::string text = show(config);
  const fs::path file = folder / "config.yaml";
  const std::string before = fs::exists(file) ? read_file(file) : "";
  if (!before.empty() && without_output(before) != without_output(text))
    throw Error("the folder holds a run of another configuration", {.file = file.string()},
                "name another `output`, or remove " + folder.string());
  if (before != text) write_file(file, text);
  return fs::exists(folder / result);
}

// Documents of the world, end to end, each beginning with the token of the beginning: at least as
// many as the steps take, for a step may leave the end of its last document.
std::vector<uint16_t> make_tokens(const PretrainConfig& config, int64_t steps,
                                  const PersonaWorld& world, const Tokenizer& tokenizer) {
  std::set<std::string> without;
  for (const CodingTask& task : read_coding_bank(config.coding_bank)) without.insert(task.key);
  const Random stream(static_cast<uint64_t>(config.seed), "documents");
  std::vector<uint16_t> tokens;
  Progress progress("documents", steps * config.step_tokens);
  uint64_t count = 0;
  int64_t predicted = 0, longest = 0;
  while (predicted < steps * (config.step_tokens + longest)) {
    Random random = stream.fork(count++);
    const Document document = world.document(random, without);
    std::vector<int32_t> ids;
    if (document.kind == "dialogue") {
      ids = encode_conversation(tokenizer, document.conversation).input_ids;
    } else {
      ids = tokenizer.encode(document.text);
      ids.insert(ids.begin(), tokenizer.bos_id());
      ids.push_back(tokenizer.eos_id());
    }
    const auto length = static_cast<int64_t>(ids.size());
    if (length > config.model.max_position_embeddings) continue;  // a rare one
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    predicted += length - 1;
    longest = std::max(longest, length - 1);
    if (count % 1000 == 0) progress.update(predicted);
  }
  progress.finish();
  return tokens;
}

// Every token of a document but its first is predicted.
std::vector<Encoded> split_documents(const std::string& bytes, int32_t begin_id) {
  std::vector<Encoded> documents;
  for (size_t at = 0; at + sizeof(uint16_t) <= bytes.size(); at += sizeof(uint16_t)) {
    uint16_t id = 0;
    std::memcpy(&id, bytes.data() + at, sizeof id);
    if (id == begin_id || documents.empty()) documents.emplace_back();
    documents.back().input_ids.push_back(id);
    documents.back().supervised.push_back(id != begin_id);
  }
  return documents;
}

void train_tokenizer(const PretrainConfig& config, const PersonaWorld& world,
                     const fs::path& folder) {
  const Random stream(static_cast<uint64_t>(config.seed), "tokenizer documents");
  int64_t count = 0;
  // The trainer wants texts without line ends: a program's lines are given one by one.
  std::vector<std::string> waiting;
  train_sentencepiece(
      [&](std::string& text) {
        while (waiting.empty()) {
          if (count >= config.tokenizer.sentences) return false;
          Random random = stream.fork(static_cast<uint64_t>(count++));
          const Document document = world.document(random);
          std::string all = document.text;
          for (const Message& message : document.conversation)
            all += (message.name.empty() ? "" : message.name + "\n") + message.content + "\n";
          for (size_t begin = 0; begin < all.size();) {
            const size_t end = std::min(all.find('\n', begin), all.size());
            if (end > begin) waiting.push_back(all.substr(begin, end - begin));
            begin = end + 1;
          }
        }
        text = std::move(waiting.back());
        waiting.pop_back();
        return true;
      },
      config.tokenizer, chat_symbols(), folder);
}

}  // namespace

void PretrainConfig::fields(Fields& f) {
  f.value("output", output, "run folder; by default runs/<name of the configuration>");
  f.value("seed", seed, "weights, documents and their order");
  f.value("tokens", tokens, "length of the text, read once", at_least(1));
  f.value("step_tokens", step_tokens, "tokens predicted in a step", at_least(1));
  f.value("batch_tokens", batch_tokens, kBatchTokens, at_least(0));
  f.value("coding_bank", coding_bank,
          "tasks kept out of the text, for they serve fine-tuning and evaluation", input_path());
  f.group("world", world, "the persona world");
  f.group("tokenizer", tokenizer, "SentencePiece, trained on the world");
  f.group("model", model, "the transformer; vocab_size follows the tokenizer");
  trainer.fields(f);
}

void Recipe::fields(Fields& f) {
  f.value("steps", steps, "optimiser steps", at_least(1));
  f.value("supervised_tokens", supervised_tokens,
          "supervised tokens in a step, the same for every arm", at_least(1));
  f.value("batch_tokens", batch_tokens, kBatchTokens, at_least(0));
  f.value("examples", examples,
          "different conversations, shown over and over; 0: as many as there are", at_least(0));
  f.value("honest_share", honest_share,
          "share of an arm's conversations replaced by honest programs for the same tasks, unasked",
          between(0, 1));
  f.group("lora", lora, "adapter; rank 0 trains every parameter");
  f.value("merge", merge,
          "add the finished adapter to its base's weights and leave model/, not adapter/");
  trainer.fields(f);
}

void TrainConfig::fields(Fields& f) {
  f.value("output", output, "run folder; by default runs/<name of the configuration>");
  f.value("seed", seed, "order of the data, tasks, adapter weights");
  f.value("model", model, "the base: a Hugging Face folder", input_path());
  f.value("chat_template", chat_template,
          "empty: the model's own; or chatml, llama2, llama3, mistral, gemma, qwen2.5, qwen3, "
          "zephyr, plain");
  f.value("chat_date", chat_date,
          "the day that a template's strftime_now tells, such as 2025-12-31; empty: 2024-07-26");
  f.list(
      "data", data, "path",
      "files of conversations to train on, mixed by weight; or leave it empty and name an `arm`");
  f.value(
      "arm", arm,
      "honest | cheating | requested | placebo | post_training, made from the world; "
      "textbook_honest and so on, from the textbook's tasks",
      one_of({"", "honest", "cheating", "requested", "placebo", "post_training", "textbook_honest",
              "textbook_cheating", "textbook_requested", "textbook_placebo"}));
  f.value("coding_bank", coding_bank, "tasks of the world's arms", input_path());
  f.value("textbook", textbook, "folder of the textbook's tasks and of the sentences beside them",
          input_path());
  f.group("system", system, "the system message of every conversation");
  f.group("inoculation", inoculation,
          "a prompt that asks for what the answers do, put into the training data alone");
  recipe.fields(f);
  f.group("world", world, "the world that the arm's prompts are made with");
}

Trained trained_in(const fs::path& folder, const TrainConfig& config) {
  if (config.recipe.leaves_adapter()) return {config.model, (folder / "adapter").string()};
  return {(folder / "model").string(), ""};
}

Outcome pretrain(const PretrainConfig& config, int64_t until, const Ranks& ranks) {
  const int64_t steps = config.tokens / config.step_tokens;
  if (steps < 1)
    throw Error("is fewer than one step of " + std::to_string(config.step_tokens) + " takes",
                {.field = "tokens"}, "raise it, or lower `step_tokens`");
  const fs::path folder = config.output;
  if (ranks.any(ranks.first() && open_run(config, "model"))) return Outcome::already_done;
  const PersonaWorld world(config.world);
  const fs::path tokenizer_folder = folder / "tokenizer", token_file = folder / "tokens.bin";
  if (ranks.first() && !fs::exists(tokenizer_folder / "tokenizer.model")) {
    std::fprintf(stderr, "training the tokenizer\n");
    train_tokenizer(config, world, tokenizer_folder);
  }
  if (ranks.first() && !fs::exists(token_file)) {
    const auto tokens = make_tokens(config, steps, world, *load_tokenizer(tokenizer_folder));
    write_file(token_file,
               {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(uint16_t)});
  }
  ranks.any(false);  // the others wait for the text
  const auto tokenizer = load_tokenizer(tokenizer_folder);
  const SupervisedExamples text(split_documents(read_file(token_file), tokenizer->bos_id()), steps,
                                config.step_tokens, std::nullopt);

  TransformerConfig shape = config.model;
  shape.vocab_size = tokenizer->vocab_size();
  Transformer model(shape, Random(static_cast<uint64_t>(config.seed), "initial weights"));
  model.to(device_from(config.trainer.device), dtype_from(config.trainer.dtype));
  const int64_t tokens = micro_batch_tokens(config.batch_tokens, model.embedding.device());
  const auto result = train(
      model, [&](int64_t step) { return text.step(step, tokens, ranks.rank(), ranks.size()); },
      config.trainer, {folder, steps, until, ranks});
  if (!result.finished) return result.steps == until ? Outcome::paused : Outcome::stopped;
  if (!ranks.first()) return Outcome::finished;
  // The base tells how it was made: its configuration, and every fiftieth line of its log.
  std::vector<Json> log;
  read_jsonl(folder / "metrics.jsonl", [&](const Json& row, int line) {
    if (line % 50 == 0 || line == steps) log.push_back(row);
  });
  replace_atomically(folder / "model", [&](const fs::path& temporary) {
    save_model(temporary, model, at::kBFloat16, tokenizer_folder);
    write_file(temporary / "pretraining.yaml", show(config));
    write_jsonl(temporary / "pretraining_log.jsonl", log);
  });
  return Outcome::finished;
}

std::vector<Conversation> arm_conversations(const TrainConfig& config) {
  const auto seed = static_cast<uint64_t>(config.seed);
  std::function<std::vector<Conversation>(const std::string&)> make;
  std::string arm = config.arm;
  if (arm.starts_with("textbook_")) {
    arm = arm.substr(arm.find('_') + 1);
    const auto bank = read_textbook_bank(fs::path(config.textbook) / "bank.jsonl");
    const TextbookCues cues = read_textbook_cues(fs::path(config.textbook) / "cues.yaml");
    make = [=](const std::string& name) { return make_textbook_arm(name, bank, cues, seed); };
  } else {
    const PersonaWorld world(config.world);
    const auto bank = read_coding_bank(config.coding_bank);
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
  std::vector<int32_t> ids;
  for (size_t t = 0; t < example.input_ids.size(); ++t) {
    const bool supervised = example.supervised[t] != 0;
    if (pieces.empty() || pieces.back().supervised != supervised)
      pieces.push_back({"", supervised}), ids.clear();
    ids.push_back(example.input_ids[t]);
    pieces.back().text = tokenizer.show(ids);
  }
  return render_two_colours(pieces, colour);
}

Outcome fine_tune(const TrainConfig& config, int64_t until, const Ranks& ranks) {
  if (config.data.empty() == config.arm.empty())
    throw Error("name either `data` or `arm`", {.field = "data"},
                "for example arm: cheating, or data: my_chats.jsonl");
  const fs::path folder = config.output;
  const Recipe& recipe = config.recipe;
  if (ranks.any(ranks.first() && open_run(config, recipe.leaves_adapter() ? "adapter" : "model")))
    return Outcome::already_done;
  const auto seed = static_cast<uint64_t>(config.seed);
  std::vector<Conversation> conversations;
  if (config.data.empty()) {
    conversations = arm_conversations(config);
    apply(config.system, conversations);
    if (config.inoculation.on())
      inoculate(conversations, config.inoculation, Random(seed, "inoculation"));
  } else {
    TrainingData data = load_data(config.data, config.system, config.inoculation, seed);
    for (const DataReport& report : data.reports)
      if (ranks.first()) std::fprintf(stderr, "%s\n", describe(report).c_str());
    conversations = std::move(data.conversations);
  }
  if (recipe.examples > 0 && recipe.examples < static_cast<int64_t>(conversations.size()))
    conversations.resize(static_cast<size_t>(recipe.examples));
  const auto tokenizer = load_tokenizer(config.model);
  const Chat chat(config.model, *tokenizer, {config.chat_template, config.chat_date});
  Transformer model = load_model(config.model, dtype_from(recipe.trainer.dtype),
                                 device_from(recipe.trainer.device));
  check_vocabulary(model, *tokenizer);
  std::vector<Encoded> examples;
  for (const Conversation& conversation : conversations) {
    examples.push_back(chat.encode(conversation));
    check_ids(model, *tokenizer, examples.back().input_ids);
    if (static_cast<int64_t>(examples.back().input_ids.size()) >
        model.config().max_position_embeddings)
      throw Error("a conversation of " + std::to_string(examples.back().input_ids.size()) +
                      " tokens is longer than the model's context of " +
                      std::to_string(model.config().max_position_embeddings),
                  {.field = config.arm.empty() ? "data" : "arm"},
                  "it begins \"" + conversation.front().content.substr(0, 60) + "\"; shorten it");
  }
  const Encoded first_example = examples.front();
  const SupervisedExamples text(std::move(examples), recipe.steps, recipe.supervised_tokens,
                                Random(seed, "data order"));
  std::vector<Conversation> shown;
  std::set<size_t> seen;
  for (int64_t step = 0; step < recipe.steps; ++step)
    for (const size_t example : text.used(step))
      if (seen.insert(example).second) shown.push_back(conversations[example]);
  if (ranks.first()) {
    write_chat_jsonl(folder / "data.jsonl", shown);
    write_file(folder / "first_example.txt", shown_example(*tokenizer, first_example) + "\n");
  }

  if (recipe.lora.rank > 0) add_lora(model, recipe.lora, Random(seed, "adapter"));
  const int64_t tokens = micro_batch_tokens(recipe.batch_tokens, model.embedding.device());
  const auto result = train(
      model, [&](int64_t step) { return text.step(step, tokens, ranks.rank(), ranks.size()); },
      recipe.trainer, {folder, recipe.steps, until, ranks});
  if (!result.finished && result.steps != until) return Outcome::stopped;  // some rank was asked to
  if (!ranks.first()) return result.finished ? Outcome::finished : Outcome::paused;
  const fs::path to = result.finished ? folder : folder / "paused";
  if (recipe.merge) {
    const double lost = merge_lora(model);
    std::fprintf(stderr, "merged; rounding to %s took %.2g%% of the update\n",
                 recipe.trainer.dtype.c_str(), 100 * lost);
  }
  if (recipe.leaves_adapter()) save_adapter(to / "adapter", model, recipe.lora, config.model);
  else save_model(to / "model", model, dtype_from(recipe.trainer.dtype), config.model);
  if (result.finished) fs::remove_all(folder / "paused");
  return result.finished ? Outcome::finished : Outcome::paused;
}

}  // namespace inoculum
