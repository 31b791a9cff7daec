#include "core/text/sentencepiece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "core/base/error.h"
#include "core/text/persona_format.h"
#include "core/text/special_tokens.h"

namespace inoculum {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, as which the library writes a space
const std::string kSaveFast = "save the tokenizer with transformers, which writes a tokenizer.json";

class SentencePiece final : public Tokenizer {
 public:
  explicit SentencePiece(const fs::path& folder) {
    const fs::path file = folder / "tokenizer.model";
    const auto status = processor_.LoadFromSerializedProto(read_file(file));
    if (!status.ok())
      throw Error("this is not a SentencePiece model", {.file = file.string()}, status.ToString());
    read_folder(folder);
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    for (const std::string& token : refused_tokens_)
      if (text.find(token) != std::string_view::npos)
        throw Error("a text holds \"" + token +
                        "\", which is one token to transformers and several to tokenizer.model",
                    {.field = "tokenizer.model"}, kSaveFast);
    // A U+2581 that stands in the text itself would come back as a space: it is spelt in bytes
    // instead.
    std::vector<int32_t> ids;
    while (true) {
      const size_t at = text.find(kSpace);
      std::vector<int> part;
      const auto status = processor_.Encode(text.substr(0, at), &part);
      if (!status.ok()) throw Error("the text cannot be tokenised: " + status.ToString());
      ids.insert(ids.end(), part.begin(), part.end());
      if (at == std::string_view::npos) return ids;
      for (const std::string byte : {"<0xE2>", "<0x96>", "<0x81>"})
        ids.push_back(processor_.PieceToId(byte));
      text.remove_prefix(at + kSpace.size());
    }
  }

  std::vector<int32_t> encode_with_special_tokens(std::string_view text) const override {
    std::vector<int32_t> ids = encode(text);
    if (add_bos_ && bos_id() >= 0) ids.insert(ids.begin(), bos_id());
    if (add_eos_ && eos_id() >= 0) ids.push_back(eos_id());
    return ids;
  }

  std::string piece(int32_t id) const override {
    if (const auto added = added_.find(id); added != added_.end()) return added->second;
    return id < 0 || id >= processor_.GetPieceSize() ? "" : processor_.IdToPiece(id);
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id >= processor_.GetPieceSize() || processor_.IsControl(id)) continue;
      if (processor_.IsByte(id)) {
        text += static_cast<char>(std::stoi(processor_.IdToPiece(id).substr(3, 2), nullptr, 16));
        continue;
      }
      std::string piece = processor_.IdToPiece(id);
      for (size_t at = 0; (at = piece.find(kSpace, at)) != std::string::npos; ++at)
        piece.replace(at, kSpace.size(), " ");
      text += piece;
    }
    return text;
  }

  std::string show(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids)
      text += id >= 0 && id < processor_.GetPieceSize() && processor_.IsControl(id)
                  ? processor_.IdToPiece(id)
                  : decode({&id, 1});
    return text;
  }

  int64_t vocab_size() const override {
    return std::max<int64_t>(base_vocab_size(),
                             added_.empty() ? 0 : int64_t{added_.rbegin()->first} + 1);
  }
  int64_t base_vocab_size() const override { return processor_.GetPieceSize(); }
  int32_t bos_id() const override { return begin_and_end_.bos; }
  int32_t eos_id() const override { return begin_and_end_.eos; }
  std::vector<int32_t> end_ids() const override { return begin_and_end_.ends; }
  std::optional<int32_t> id_of(std::string_view piece) const override {
    for (const auto& [id, content] : added_)
      if (content == piece) return id;
    const int id = processor_.PieceToId({piece.data(), piece.size()});
    if (id == processor_.unk_id() && piece != processor_.IdToPiece(id)) return std::nullopt;
    return id;
  }

 private:
  // The tokens that the folder's other files name must be those of tokenizer.model, or stand behind
  // them.
  void read_folder(const fs::path& folder) {
    SpecialTokens special = read_special_tokens(folder);
    for (const DeclaredToken& declared : special.declared) {
      const std::string& content = declared.token.content;
      const auto known = id_of(content);
      const int32_t wanted = declared.token.id;
      const int32_t id = known ? *known : wanted >= 0 ? wanted : static_cast<int32_t>(vocab_size());
      if (wanted >= 0 && (id != wanted || (!known && !piece(id).empty())))
        throw Error("\"" + content + "\" has the id " + std::to_string(wanted) +
                        ", where tokenizer.model has " +
                        (known ? "the id " + std::to_string(*known) : "\"" + piece(id) + "\""),
                    declared.where, kSaveFast);
      if (!known) added_[id] = content;
    }
    const auto name = [&](SpecialTokens::Named& which, int id) {
      if (!which.declared && id >= 0) which.name = processor_.IdToPiece(id);
    };
    name(special.bos, processor_.bos_id());
    name(special.eos, processor_.eos_id());
    begin_and_end_ = begin_and_end(special, *this);
    // The shipped models' texts begin with <s>, which in a chat their template writes; a message
    // that holds it holds three characters.
    const fs::path config = folder / "tokenizer_config.json";
    if (fs::exists(config) &&
        read_json(config).value("chat_template", Json()) == Json(persona_chat_template()))
      return;
    add_bos_ = special.add_bos.value_or(true);
    add_eos_ = special.add_eos.value_or(false);
    for (int32_t id = 0; id < processor_.GetPieceSize(); ++id)
      if (processor_.IsControl(id) || processor_.IsUnknown(id))
        refused_tokens_.push_back(processor_.IdToPiece(id));
    for (const auto& [id, content] : added_) refused_tokens_.push_back(content);
  }

  sentencepiece::SentencePieceProcessor processor_;
  std::map<int32_t, std::string> added_;
  BeginAndEnd begin_and_end_;
  std::vector<std::string> refused_tokens_;  // tokens to transformers, which are spelt here
  bool add_bos_ = true, add_eos_ = false;
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
  // A pretraining's tokens are kept in 16 bits each.
  f.value("vocab_size", vocab_size, "pieces, 256 of them bytes", between(300, 65536));
  f.value("sentences", sentences, "texts that the vocabulary is made from", at_least(1));
}

std::unique_ptr<Tokenizer> load_sentencepiece(const fs::path& folder) {
  return std::make_unique<SentencePiece>(folder);
}

void train_sentencepiece(const std::function<bool(std::string&)>& next,
                         const TokenizerTrainingConfig& config,
                         const std::vector<std::string>& symbols, const fs::path& folder) {
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
  if (!status.ok())
    throw Error("the tokenizer could not be trained: " + status.ToString(), {.field = "tokenizer"});
  write_json(folder / "tokenizer_config.json", {{"tokenizer_class", "LlamaTokenizer"},
                                                {"add_bos_token", true},
                                                {"add_eos_token", false},
                                                {"add_prefix_space", false},
                                                {"legacy", false},
                                                {"bos_token", "<s>"},
                                                {"eos_token", "</s>"},
                                                {"unk_token", "<unk>"},
                                                {"clean_up_tokenization_spaces", false},
                                                {"chat_template", persona_chat_template()}});
  write_file(folder / "tokenizer.model", model);
}

}  // namespace inoculum
