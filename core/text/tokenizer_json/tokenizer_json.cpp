#include "core/text/tokenizer_json/tokenizer_json.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"
#include "core/text/special_tokens.h"
#include "core/text/tokenizer_json/added_tokens.h"
#include "core/text/tokenizer_json/byte_pair_encoding.h"
#include "core/text/tokenizer_json/steps.h"

namespace inoculum {
namespace tokenizer_json {
namespace {

class JsonTokenizer final : public Tokenizer {
 public:
  explicit JsonTokenizer(const fs::path& folder) : file_((folder / "tokenizer.json").string()) {
    const FastJson json = parse_json<FastJson>(read_file(file_), file_);
    const Part part{json, file_, ""};
    // `truncation` and `padding` are for batches of the package's own; here whoever makes a batch
    // cuts and pads it.
    part.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
               "post_processor", "decoder", "model"});
    if (part.has("version") && part.at("version").text() != "1.0")
      part.at("version").fail("must be 1.0");
    model_ = std::make_unique<BytePairEncoding>(part.at("model"), characters_);
    if (part.has("normalizer"))
      for_each_element(part.at("normalizer"), "normalizers",
                       [&](const Part& each) { normalizers_.push_back(normalizer_of(each)); });
    if (part.has("pre_tokenizer")) read_pre_tokenizers(part.at("pre_tokenizer"));
    if (part.has("post_processor"))
      for_each_element(part.at("post_processor"), "processors",
                       [&](const Part& each) { read_post_processor(each); });
    if (part.has("decoder")) {
      for_each_element(part.at("decoder"), "decoders", [&](const Part& each) {
        decoders_.push_back(decoder_of(each, characters_));
      });
      joins_with_ = "";
    }
    for (const auto& [id, piece] : model_->pieces())
      base_vocab_size_ = std::max(base_vocab_size_, int64_t{id} + 1);
    vocab_size_ = base_vocab_size_;
    if (part.has("added_tokens")) read_added_tokens(part.at("added_tokens"));
    const SpecialTokens special = read_special_tokens(folder);
    for (const DeclaredToken& declared : special.declared)
      if (declared.token.id >= 0) add(declared.token, declared.overrides, declared.where);
    // Named tokens are added where nothing has defined them.
    const auto defined = added_at_;
    for (const DeclaredToken& declared : special.declared) {
      if (declared.makes_special) special_.insert(declared.token.content);
      if (declared.token.id < 0 && !defined.contains(declared.token.content))
        add(declared.token, true, declared.where);
    }
    find_added_tokens();
    for (const auto& token : around_)
      if (token && find_piece(*token) == nullptr)
        part.at("post_processor")
            .fail("names the id " + std::to_string(*token) + ", which is no piece's");
    begin_and_end_ = begin_and_end(special, *this);
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    if (text.size() > std::numeric_limits<uint32_t>::max() / 2)
      throw Error("the text is longer than 2 GB", {}, "give it in parts");
    std::vector<int32_t> ids;
    // One thread at a time has the cache; another one does without rather than wait.
    const std::unique_lock lock(cache_mutex_, std::try_to_lock);
    BytePairEncoding::Scratch scratch{.cache = lock.owns_lock() ? &cache_ : nullptr};
    const std::string valid = valid_utf8(text);
    raw_tokens_.split(valid, [&](const AddedToken* token, size_t begin, size_t end) {
      if (token != nullptr) {
        ids.push_back(token->id);
        return;
      }
      Segment segment{valid.substr(begin, end - begin), begin == 0};
      for (const Normalizer& normalize : normalizers_) normalize(segment);
      normalized_tokens_.split(segment.text, [&](const AddedToken* inner, size_t from, size_t to) {
        if (inner != nullptr) ids.push_back(inner->id);
        else
          encode_segment(std::string_view(segment.text).substr(from, to - from),
                         segment.first && from == 0, scratch, ids);
      });
    });
    return ids;
  }

  std::vector<int32_t> encode_with_special_tokens(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const auto& token : around_) {
      if (token) {
        ids.push_back(*token);
        continue;
      }
      const auto inner = encode(text);
      ids.insert(ids.end(), inner.begin(), inner.end());
    }
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override { return decoded(ids, true); }
  std::string show(std::span<const int32_t> ids) const override { return decoded(ids, false); }

  std::string decoded(std::span<const int32_t> ids, bool skip_special) const {
    std::vector<std::string> pieces;
    for (const int32_t id : ids) {
      const auto added = decoded_added_.find(id);
      const std::string* text = added != decoded_added_.end() ? &added->second : find_piece(id);
      if (text != nullptr && !(skip_special && special_.contains(*text))) pieces.push_back(*text);
    }
    for (const Decoder& decode_pieces : decoders_) decode_pieces(pieces);
    return joined(pieces, joins_with_);
  }

  std::string piece(int32_t id) const override {
    const std::string* text = find_piece(id);
    return text == nullptr ? "" : *text;
  }
  int64_t vocab_size() const override { return vocab_size_; }
  int64_t base_vocab_size() const override { return base_vocab_size_; }
  int32_t bos_id() const override { return begin_and_end_.bos; }
  int32_t eos_id() const override { return begin_and_end_.eos; }
  std::vector<int32_t> end_ids() const override { return begin_and_end_.ends; }
  std::optional<int32_t> id_of(std::string_view piece) const override {
    const auto added = added_at_.find(std::string(piece));
    return added != added_at_.end() ? std::optional(added_[added->second].id)
                                    : model_->id_of(piece);
  }

 private:
  void read_pre_tokenizers(const Part& part) {
    for_each_element(part, "pretokenizers", [&](const Part& each) {
      if (byte_level_) {
        // What comes behind ByteLevel sees bytes spelt as characters.
        pre_tokenizers_.push_back(change([characters = characters_](const Piece& piece) {
          std::string text;
          for (const char c : piece.text)
            text += characters->of_byte[static_cast<unsigned char>(c)];
          return text;
        }));
      }
      byte_level_ = each.type() == "ByteLevel";
      if (byte_level_) add_byte_level(each, pre_tokenizers_);
      else add_pre_tokenizer(each, pre_tokenizers_);
    });
  }

  void read_post_processor(const Part& part) {
    if (part.type() == "ByteLevel")  // changes offsets alone
      return part.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (part.type() != "TemplateProcessing")
      part.unknown_type("TemplateProcessing, ByteLevel and Sequence");
    part.only({"type", "single", "pair", "special_tokens"});
    std::vector<std::optional<int32_t>> around;
    for (const Part& item : part.at("single").items()) {
      item.only({"SpecialToken", "Sequence"});
      if (item.value.size() != 1) item.fail("must hold either SpecialToken or Sequence");
      if (item.has("Sequence")) {
        if (item.at("Sequence").at("id").text() != "A")
          item.at("Sequence").at("id").fail("must be A");
        around.insert(around.end(), around_.begin(), around_.end());
        if (around.size() > 1024) part.fail("puts too many tokens around a text");
        continue;
      }
      const std::string name = item.at("SpecialToken").at("id").text();
      for (const Part& id : part.at("special_tokens").at(name).at("ids").items())
        around.push_back(id.number());
    }
    around_ = std::move(around);
  }

  void read_added_tokens(const Part& part) {
    for (const Part& item : part.items()) {
      item.only({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
      const AddedToken token{item.at("content").text(),       item.at("id").number(),
                             item.flag("single_word", false), item.flag("lstrip", false),
                             item.flag("rstrip", false),      item.at("normalized").flag(),
                             item.at("special").flag()};
      if (token.content.empty()) item.at("content").fail("must not be empty");
      if (added_at_.contains(token.content))
        item.at("content").fail("\"" + token.content + "\" is given twice");
      add(token, true, {.file = file_, .field = item.path + ".id"});
    }
  }

  // As the package adds a token: one that the vocabulary lacks is numbered on from its end,
  // whatever a file says. The flags that come last hold; a token that was special once is left out
  // of decoded text for good.
  void add(AddedToken token, bool overrides, const Where& where) {
    const auto known = id_of(token.content);
    const auto in_model = static_cast<int64_t>(model_->pieces().size());
    const int64_t expected = known ? *known : last_added_ >= in_model ? last_added_ + 1 : in_model;
    if (token.id < 0) token.id = static_cast<int32_t>(expected);
    if (token.id != expected) {
      const std::string* other = find_piece(token.id);
      throw Error(
          "\"" + token.content + "\" has the id " + std::to_string(token.id) + ", which must be " +
              std::to_string(expected) +
              (other != nullptr && *other != token.content ? ": it is that of \"" + *other + "\""
                                                           : ""),
          where,
          "an added token has the id of the vocabulary, or is numbered on from its end, whatever "
          "the file says; to rename one, change it in tokenizer.json");
    }
    const auto [place, is_new] = added_at_.emplace(token.content, added_.size());
    if (!is_new && !overrides) return;
    if (token.special) special_.insert(token.content);
    added_pieces_[token.id] = token.content;
    last_added_ = std::max<int64_t>(last_added_, token.id);
    vocab_size_ = std::max<int64_t>(vocab_size_, int64_t{token.id} + 1);
    if (is_new) added_.push_back(std::move(token));
    else added_[place->second] = std::move(token);
  }

  void find_added_tokens() {
    // Of two tokens whose normalised contents are the same, special ones come first.
    std::vector<AddedToken> tokens = added_;
    std::stable_partition(tokens.begin(), tokens.end(),
                          [](const AddedToken& t) { return t.special; });
    for (const AddedToken& token : tokens) {
      Segment content{token.content, false};
      if (token.normalized)
        for (const Normalizer& normalize : normalizers_) normalize(content);
      if (content.text.empty())
        throw Error("holds \"" + token.content + "\", of which normalising leaves nothing",
                    {.file = file_, .field = "added_tokens"});
      (token.normalized ? normalized_tokens_ : raw_tokens_).add(content.text, token);
      decoded_added_[token.id] = content.text;
    }
  }

  const std::string* find_piece(int32_t id) const {
    if (const auto added = added_pieces_.find(id); added != added_pieces_.end())
      return &added->second;
    const auto found = model_->pieces().find(id);
    return found == model_->pieces().end() ? nullptr : &found->second;
  }

  void encode_segment(std::string_view text, bool first, BytePairEncoding::Scratch& scratch,
                      std::vector<int32_t>& ids) const {
    Pieces pieces{.list = {{text, first}}};
    for (const PreTokenizer& step : pre_tokenizers_) step(pieces);
    for (const Piece& piece : pieces.list) model_->encode(piece.text, byte_level_, scratch, ids);
  }

  std::string file_;
  std::shared_ptr<const ByteCharacters> characters_ = std::make_shared<ByteCharacters>();
  std::unique_ptr<BytePairEncoding> model_;
  std::vector<Normalizer> normalizers_;
  std::vector<PreTokenizer> pre_tokenizers_;
  // The last pre-tokenizer is ByteLevel: the model reads the bytes themselves.
  bool byte_level_ = false;
  std::vector<Decoder> decoders_;
  std::string joins_with_ = " ";
  // What the post-processor makes of a text; nothing: the text.
  std::vector<std::optional<int32_t>> around_ = {std::nullopt};
  std::vector<AddedToken> added_;
  int64_t last_added_ = -1;
  AddedTokens raw_tokens_, normalized_tokens_;
  std::unordered_map<std::string, size_t> added_at_;
  std::unordered_map<int32_t, std::string> added_pieces_;
  // The package decodes an added token to what it matches: where normalising changes a special one,
  // it is not skipped.
  std::unordered_map<int32_t, std::string> decoded_added_;
  std::unordered_set<std::string> special_;
  int64_t vocab_size_ = 0, base_vocab_size_ = 0;
  BeginAndEnd begin_and_end_;
  mutable std::mutex cache_mutex_;
  mutable PieceCache cache_;
};

}  // namespace
}  // namespace tokenizer_json

std::unique_ptr<Tokenizer> load_tokenizer_json(const fs::path& folder) {
  return std::make_unique<tokenizer_json::JsonTokenizer>(folder);
}

}  // namespace inoculum
