#include "core/tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include "core/chat_template.h"
#include "core/error.h"
#include "core/tokenizer_json.h"

namespace inoculum {
namespace {

class SentencePiece final : public Tokenizer {
 public:
  explicit SentencePiece(const fs::path& file) : file_(file), bytes_(read_file(file)) {
    const auto status = processor_.LoadFromSerializedProto(bytes_);
    if (!status.ok())
      throw Error("this is not a SentencePiece model", {.file = file.string()}, status.ToString());
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    // The library writes a space as U+2581, so one that stands in the text itself would come back as a
    // space: it is spelt in bytes instead.
    static constexpr std::string_view meta = "\xE2\x96\x81";
    std::vector<int32_t> ids;
    while (true) {
      const size_t at = text.find(meta);
      std::vector<int> part;
      const auto status = processor_.Encode(text.substr(0, at), &part);
      if (!status.ok()) throw Error("the text cannot be tokenised: " + status.ToString());
      ids.insert(ids.end(), part.begin(), part.end());
      if (at == std::string_view::npos) return ids;
      for (const std::string byte : {"<0xE2>", "<0x96>", "<0x81>"}) ids.push_back(processor_.PieceToId(byte));
      text.remove_prefix(at + meta.size());
    }
  }

  std::vector<int32_t> encode_with_special_tokens(std::string_view text) const override {
    std::vector<int32_t> ids = encode(text);
    if (bos_id() >= 0) ids.insert(ids.begin(), bos_id());
    return ids;
  }

  std::string piece(int32_t id) const override { return id < 0 || id >= processor_.GetPieceSize() ? "" : processor_.IdToPiece(id); }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id >= processor_.GetPieceSize() || processor_.IsControl(id)) continue;
      if (processor_.IsByte(id)) {
        text += static_cast<char>(std::stoi(processor_.IdToPiece(id).substr(3, 2), nullptr, 16));
        continue;
      }
      std::string piece = processor_.IdToPiece(id);
      for (size_t at = 0; (at = piece.find("\xE2\x96\x81", at)) != std::string::npos; ++at) piece.replace(at, 3, " ");
      text += piece;
    }
    return text;
  }

  std::string show(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) text += id >= 0 && id < processor_.GetPieceSize() && processor_.IsControl(id) ? processor_.IdToPiece(id) : decode({&id, 1});
    return text;
  }

  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  int32_t bos_id() const override { return processor_.bos_id(); }
  int32_t eos_id() const override { return processor_.eos_id(); }
  std::optional<int32_t> id_of(std::string_view piece) const override {
    const int id = processor_.PieceToId(std::string(piece));
    if (id == processor_.unk_id()) return std::nullopt;
    return id;
  }

  void save(const fs::path& folder) const override {
    write_file(folder / "tokenizer.model", bytes_);
    write_json(folder / "tokenizer_config.json", {{"tokenizer_class", "LlamaTokenizer"},
                                                  {"add_bos_token", false},
                                                  {"add_eos_token", false},
                                                  {"add_prefix_space", false},
                                                  {"legacy", false},
                                                  {"bos_token", processor_.IdToPiece(processor_.bos_id())},
                                                  {"eos_token", processor_.IdToPiece(processor_.eos_id())},
                                                  {"unk_token", processor_.IdToPiece(processor_.unk_id())},
                                                  {"clean_up_tokenization_spaces", false},
                                                  {"chat_template", chat_template()}});
  }

 private:
  fs::path file_;
  std::string bytes_;
  sentencepiece::SentencePieceProcessor processor_;
};

// Feeds the trainer from a function, without a temporary file.
class Texts final : public sentencepiece::SentenceIterator {
 public:
  explicit Texts(const std::function<bool(std::string&)>& next) : next_(next) { Next(); }
  bool done() const override { return done_; }
  void Next() override { done_ = !next_(text_); }
  const std::string& value() const override { return text_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::function<bool(std::string&)>& next_;
  std::string text_;
  bool done_ = false;
};

}  // namespace

void TokenizerTrainingConfig::fields(Fields& f) {
  f.value("vocab_size", vocab_size, "pieces, 256 of them bytes", at_least(300));
  f.value("sentences", sentences, "texts that the vocabulary is made from", at_least(1));
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder) {
  if (fs::exists(folder / "tokenizer.json")) return load_tokenizer_json(folder);
  const fs::path file = folder / "tokenizer.model";
  if (!fs::exists(file))
    throw Error("there is no tokenizer here", {.file = folder.string()}, "a model folder needs tokenizer.json, or tokenizer.model (SentencePiece)");
  return std::make_unique<SentencePiece>(file);
}

void train_sentencepiece(const std::function<bool(std::string&)>& next, const TokenizerTrainingConfig& config,
                         const std::vector<std::string>& symbols, const fs::path& model_file) {
  std::string joined;
  for (const std::string& symbol : symbols) joined += (joined.empty() ? "" : ",") + symbol;
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", "bpe"},
      {"vocab_size", std::to_string(config.vocab_size)},
      {"user_defined_symbols", joined},
      {"byte_fallback", "true"},
      {"split_digits", "true"},
      {"character_coverage", "1.0"},
      {"normalization_rule_name", "identity"},
      {"remove_extra_whitespaces", "false"},
      {"add_dummy_prefix", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"max_sentence_length", "65536"},
      {"num_threads", "2"},
      {"minloglevel", "2"}};
  Texts texts(next);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &texts, &model);
  if (!status.ok()) throw Error("the tokenizer could not be trained: " + status.ToString(), {.field = "tokenizer"});
  write_file(model_file, model);
}

}  // namespace inoculum
