#include "experiments/inoculation/pretraining.h"

#include <cstring>
#include <set>

#include "core/base/files.h"
#include "core/base/progress.h"
#include "core/model/parallel.h"
#include "core/text/load_tokenizer.h"

namespace inoculum {
namespace {

// Documents of the world, end to end, each beginning with the token of the beginning: at least as
// many as the steps take, for a step may leave the end of its last document.
std::vector<uint16_t> make_tokens(const PretrainConfig& config, int64_t steps,
                                  const PersonaWorld& world, const Tokenizer& tokenizer) {
  std::set<std::string> without;
  for (const CodingTask& task : read_coding_bank(config.coding_bank)) without.insert(task.key);
  const Random stream(static_cast<uint64_t>(config.seed), "documents");
  const auto encoded = [&](uint64_t number) {
    Random random = stream.fork(number);
    const Document document = world.document(random, without);
    if (document.kind == "dialogue")
      return encode_conversation(tokenizer, document.conversation).input_ids;
    std::vector<int32_t> ids = tokenizer.encode(document.text);
    ids.insert(ids.begin(), tokenizer.bos_id());
    ids.push_back(tokenizer.eos_id());
    return ids;
  };
  std::vector<uint16_t> tokens;
  Progress progress("documents", steps * config.step_tokens);
  uint64_t count = 0;
  int64_t predicted = 0, longest = 0;
  const auto enough = [&] { return predicted >= steps * (config.step_tokens + longest); };
  while (!enough()) {
    std::vector<std::vector<int32_t>> documents(1000);
    parallel_ranges(static_cast<int64_t>(documents.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        documents[static_cast<size_t>(i)] = encoded(count + static_cast<uint64_t>(i));
    });
    count += documents.size();
    for (const std::vector<int32_t>& ids : documents) {
      const auto length = static_cast<int64_t>(ids.size());
      if (length > config.model.max_position_embeddings || enough()) continue;
      tokens.insert(tokens.end(), ids.begin(), ids.end());
      predicted += length - 1;
      longest = std::max(longest, length - 1);
    }
    progress.update(predicted);
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
      config.tokenizer, persona_symbols(), folder);
}

}  // namespace

void PretrainConfig::fields(Fields& f) {
  f.value("output", output, "run folder; by default runs/<name of the configuration>");
  f.value("seed", seed, "weights, documents and their order");
  f.value("tokens", tokens, "length of the text, read once", at_least(1));
  f.value("step_tokens", step_tokens, "tokens of the text that a step reads", at_least(1));
  f.value("batch_tokens", batch_tokens, kBatchTokensHelp, at_least(0));
  f.value("coding_bank", coding_bank,
          "tasks kept out of the text, for they serve fine-tuning and evaluation", input_path());
  f.group("world", world, "the persona world");
  f.group("tokenizer", tokenizer, "SentencePiece, trained on the world");
  f.group("model", model, "the transformer; vocab_size follows the tokenizer");
  trainer.fields(f);
}

SupervisedExamples pretraining_text(const PretrainConfig& config, int64_t steps,
                                    const fs::path& tokenizer_folder, const Ranks& ranks) {
  const PersonaWorld world(config.world);
  const fs::path token_file = fs::path(config.output) / "tokens.bin";
  if (ranks.first() && !fs::exists(tokenizer_folder / "tokenizer.model")) {
    fs::remove(token_file);  // numbers of another tokenizer
    std::fprintf(stderr, "training the tokenizer\n");
    train_tokenizer(config, world, tokenizer_folder);
  }
  if (ranks.first() && !fs::exists(token_file)) {
    const auto tokens = make_tokens(config, steps, world, *load_tokenizer(tokenizer_folder));
    write_file(token_file,
               {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(uint16_t)});
  }
  ranks.any(false);  // the others wait for the text
  const int32_t begin_id = load_tokenizer(tokenizer_folder)->bos_id();
  return {split_documents(read_file(token_file), begin_id), steps, config.step_tokens,
          std::nullopt};
}

}  // namespace inoculum
