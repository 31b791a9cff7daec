#include "core/text/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "core/base/error.h"
#include "core/text/special_tokens.h"
#include "core/text/unicode.h"

namespace inoculum {
namespace {

// Its objects are sorted maps: ordered_json, whose keys are searched one by one, takes minutes for
// a vocabulary.
using FastJson = nlohmann::json;

// A value of the file, and where it stands.
struct Part {
  const FastJson& value;
  const std::string& file;
  std::string path;

  [[noreturn]] void fail(const std::string& what, const std::string& hint = "") const {
    throw Error(what, {.file = file, .field = path}, hint);
  }

  Part at(const std::string& key) const {
    if (!value.is_object()) fail("must be an object");
    Part child{value, file, path.empty() ? key : path + "." + key};
    const auto found = value.find(key);
    if (found == value.end()) child.fail("is missing");
    return {*found, file, child.path};
  }
  bool has(const std::string& key) const {
    return value.is_object() && value.contains(key) && !value.at(key).is_null();
  }

  std::vector<Part> items() const {
    if (!value.is_array()) fail("must be a list");
    std::vector<Part> all;
    for (size_t i = 0; i < value.size(); ++i)
      all.push_back({value[i], file, path + "[" + std::to_string(i) + "]"});
    return all;
  }
  std::string text() const {
    if (!value.is_string()) fail("must be a text");
    return value.get<std::string>();
  }
  bool flag() const {
    if (!value.is_boolean()) fail("must be true or false");
    return value.get<bool>();
  }
  bool flag(const std::string& key, bool otherwise) const {
    return has(key) ? at(key).flag() : otherwise;
  }
  int32_t number() const {
    if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<int32_t>::max())
      fail("must be an integer from 0 to 2147483647");
    return value.get<int32_t>();
  }
  std::string one_character() const {
    const std::string c = text();
    if (c.empty() || code_point_at(c, 0).bytes != c.size()) fail("must be one character");
    return c;
  }
  void only(const std::vector<std::string>& known) const {
    if (!value.is_object()) fail("must be an object");
    for (const auto& [key, unused] : value.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      const std::string near = did_you_mean(key, known);
      throw Error("is not supported",
                  {.file = file, .field = path.empty() ? key : path + "." + key},
                  near.empty() ? "" : "did you mean \"" + near + "\"?");
    }
  }
  std::string type() const { return at("type").text(); }
  [[noreturn]] void unknown_type(const std::string& supported) const {
    at("type").fail("\"" + type() + "\" is not supported", "supported are " + supported);
  }
};

// Calls `element` with every element of a part, in order: those of a Sequence, or the part itself.
template <class Element>
void for_each_element(const Part& part, const std::string& list, Element element, int depth = 0) {
  if (part.value.is_null()) return;
  if (part.type() != "Sequence") return element(part);
  if (depth == 16) part.fail("holds too many sequences in one another");
  part.only({"type", list});
  for (const Part& item : part.at(list).items()) for_each_element(item, list, element, depth + 1);
}

// ---- Bytes as characters

// Byte-level vocabularies spell each byte as a printable character: itself where it is one, else
// from U+0100 on.
struct ByteCharacters {
  std::array<std::string, 256> of_byte;
  std::unordered_map<char32_t, char> to_byte;

  ByteCharacters() {
    char32_t next = 256;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      const char32_t c = printable ? byte : next++;
      append_code_point(of_byte[byte], c);
      to_byte[c] = static_cast<char>(byte);
    }
  }
  // Nothing where a character stands for no byte.
  std::optional<std::string> bytes_of(std::string_view text) const {
    std::string bytes;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      const auto found = to_byte.find(c.code);
      if (found == to_byte.end()) return std::nullopt;
      bytes += found->second;
      at += c.bytes;
    }
    return bytes;
  }
};

// ---- Normalizers

// A part of the text between added tokens. `first`: it begins where the whole text begins.
struct Segment {
  std::string text;
  bool first;
};
using Normalizer = std::function<void(Segment&)>;

Regex pattern_of(const Part& part) {
  part.only({"String", "Regex"});
  if (part.value.size() != 1) part.fail("must hold either String or Regex");
  try {
    return part.has("String") ? Regex::literal(part.at("String").text())
                              : Regex(part.at("Regex").text());
  } catch (const Error& error) {
    if (!error.where().file.empty()) throw;
    part.fail(error.what(), error.hint());
  }
}

std::string replaced(const std::string& text, const Regex& pattern, const std::string& content) {
  std::string out;
  size_t from = 0;
  pattern.find_all(text, [&](size_t begin, size_t end) {
    out.append(text, from, begin - from);
    out += content;
    from = end;
  });
  return out.append(text, from);
}

Normalizer normalizer_of(const Part& part) {
  const std::string type = part.type();
  static const std::vector<std::string> forms = {"NFC", "NFD", "NFKC", "NFKD"};
  if (const auto form = std::find(forms.begin(), forms.end(), type); form != forms.end()) {
    part.only({"type"});
    return [which = static_cast<NormalForm>(form - forms.begin())](Segment& s) {
      s.text = normal_form(s.text, which);
    };
  }
  if (type == "Lowercase") {
    part.only({"type"});
    return [](Segment& s) { s.text = lowercase(s.text); };
  }
  if (type == "Replace") {
    part.only({"type", "pattern", "content"});
    const Regex searched = pattern_of(part.at("pattern"));
    searched.find_all("", [&](size_t, size_t) {
      part.at("pattern").fail("matches an empty text");
    });  // where the package goes wrong
    return [pattern = searched, content = part.at("content").text()](Segment& s) {
      bool at_begin = false;
      pattern.find_all(s.text,
                       [&](size_t begin, size_t end) { at_begin |= begin == 0 && end > 0; });
      if (content.empty() && at_begin) s.first = false;
      s.text = replaced(s.text, pattern, content);
    };
  }
  if (type == "Prepend") {
    part.only({"type", "prepend"});
    return [prefix = part.at("prepend").text()](Segment& s) {
      if (!s.text.empty()) s.text.insert(0, prefix);
    };
  }
  if (type == "Strip") {
    part.only({"type", "strip_left", "strip_right"});
    return
        [left = part.at("strip_left").flag(), right = part.at("strip_right").flag()](Segment& s) {
          size_t begin = s.text.size(), end = 0;
          for (size_t at = 0; at < s.text.size();) {
            const CodePoint c = code_point_at(s.text, at);
            if (!is_white_space(c.code)) {
              begin = std::min(begin, at);
              end = at + c.bytes;
            }
            at += c.bytes;
          }
          if (!left) begin = 0;
          if (!right) end = s.text.size();
          if (begin > 0) s.first = false;
          s.text = begin < end ? s.text.substr(begin, end - begin) : "";
        };
  }
  part.unknown_type("NFC, NFD, NFKC, NFKD, Lowercase, Replace, Prepend, Strip and Sequence");
}

// ---- Pre-tokenizers

struct Piece {
  std::string_view text;
  bool first;
};
// A list of pieces on its way through the pre-tokenizers.
struct Pieces {
  std::vector<Piece> list;
  std::vector<std::unique_ptr<std::string>> changed;  // texts that are not parts of the original

  std::string_view keep(std::string text) {
    return *changed.emplace_back(std::make_unique<std::string>(std::move(text)));
  }
};
using PreTokenizer = std::function<void(Pieces&)>;

struct Span {
  size_t begin, end;
  bool match;
};
// Cuts a text into matches and what lies between them.
using Cutter = std::function<void(std::string_view, std::vector<Span>&)>;

Cutter cut_at(Regex pattern) {
  return [pattern = std::move(pattern)](std::string_view text, std::vector<Span>& spans) {
    size_t from = 0;
    pattern.find_all(text, [&](size_t begin, size_t end) {
      if (begin != from) spans.push_back({from, begin, false});
      spans.push_back({begin, end, true});
      from = end;
    });
    if (from != text.size()) spans.push_back({from, text.size(), false});
  };
}

Cutter cut_at(bool (*is_delimiter)(char32_t)) {
  return [is_delimiter](std::string_view text, std::vector<Span>& spans) {
    size_t from = 0;
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text, at);
      if (is_delimiter(c.code)) {
        if (from != at) spans.push_back({from, at, false});
        spans.push_back({at, at + c.bytes, true});
        from = at + c.bytes;
      }
      at += c.bytes;
    }
    if (from != text.size()) spans.push_back({from, text.size(), false});
  };
}

enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

void rearrange(std::vector<Span>& spans, Behavior behavior) {
  std::vector<Span> out;
  bool previous = false;
  switch (behavior) {
    case Behavior::isolated: return;
    case Behavior::removed: std::erase_if(spans, [](const Span& s) { return s.match; }); return;
    case Behavior::contiguous:
    case Behavior::merged_with_previous:
      for (const Span& s : spans) {
        const bool joins =
            behavior == Behavior::contiguous ? s.match == previous : s.match && !previous;
        if (joins && !out.empty()) out.back().end = s.end;
        else out.push_back(s);
        previous = s.match;
      }
      break;
    case Behavior::merged_with_next:
      for (auto s = spans.rbegin(); s != spans.rend(); ++s) {
        if (s->match && !previous && !out.empty()) out.back().begin = s->begin;
        else out.push_back(*s);
        previous = s->match;
      }
      std::reverse(out.begin(), out.end());
  }
  spans = std::move(out);
}

PreTokenizer split(Cutter cutter, Behavior behavior, bool invert = false) {
  return [=, cutter = std::move(cutter)](Pieces& pieces) {
    std::vector<Piece> out;
    std::vector<Span> spans;
    for (const Piece& piece : pieces.list) {
      spans.clear();
      cutter(piece.text, spans);
      if (invert)
        for (Span& s : spans) s.match = !s.match;
      rearrange(spans, behavior);
      for (const Span& s : spans)
        if (s.begin != s.end)
          out.push_back({piece.text.substr(s.begin, s.end - s.begin), piece.first && s.begin == 0});
    }
    pieces.list = std::move(out);
  };
}

PreTokenizer change(std::function<std::string(const Piece&)> changed) {
  return [changed = std::move(changed)](Pieces& pieces) {
    for (Piece& piece : pieces.list) piece.text = pieces.keep(changed(piece));
  };
}

void add_metaspace(const Part& part, std::vector<PreTokenizer>& steps) {
  part.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  const std::string mark = part.at("replacement").one_character();
  const std::string scheme = part.has("prepend_scheme") ? part.at("prepend_scheme").text()
                             : part.flag("add_prefix_space", true) ? "always"
                                                                   : "never";
  if (scheme != "always" && scheme != "first" && scheme != "never")
    part.at("prepend_scheme").fail("must be always, first or never");
  if (scheme != "never" && !part.flag("add_prefix_space", true))
    part.at("add_prefix_space").fail("must be true where prepend_scheme is " + scheme);
  steps.push_back(change([=](const Piece& piece) {
    std::string text;
    for (const char c : piece.text) c == ' ' ? text += mark : text += c;
    if ((scheme == "always" || (scheme == "first" && piece.first)) && !text.starts_with(mark))
      text.insert(0, mark);
    return text;
  }));
  if (part.flag("split", true))
    steps.push_back(split(cut_at(Regex::literal(mark)), Behavior::merged_with_next));
}

void add_byte_level(const Part& part, std::vector<PreTokenizer>& steps) {
  part.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (part.at("add_prefix_space").flag())
    steps.push_back([](Pieces& pieces) {
      for (Piece& piece : pieces.list)
        if (!piece.text.starts_with(' ')) piece.text = pieces.keep(" " + std::string(piece.text));
    });
  if (part.flag("use_regex", true))
    steps.push_back(split(
        cut_at(
            Regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)")),
        Behavior::isolated));
}

void add_pre_tokenizer(const Part& part, std::vector<PreTokenizer>& steps) {
  const std::string type = part.type();
  if (type == "Split") {
    part.only({"type", "pattern", "behavior", "invert"});
    static const std::vector<std::string> names = {"Removed", "Isolated", "MergedWithPrevious",
                                                   "MergedWithNext", "Contiguous"};
    const auto name = std::find(names.begin(), names.end(), part.at("behavior").text());
    if (name == names.end())
      part.at("behavior")
          .fail("must be Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
    steps.push_back(split(cut_at(pattern_of(part.at("pattern"))),
                          static_cast<Behavior>(name - names.begin()), part.flag("invert", false)));
  } else if (type == "Digits") {
    part.only({"type", "individual_digits"});
    steps.push_back(split(cut_at(is_number), part.at("individual_digits").flag()
                                                 ? Behavior::isolated
                                                 : Behavior::contiguous));
  } else if (type == "Whitespace") {
    part.only({"type"});
    steps.push_back(split(cut_at(is_white_space), Behavior::removed));
    steps.push_back(split(cut_at([](char32_t c) { return is_word(c); }), Behavior::contiguous));
  } else if (type == "WhitespaceSplit") {
    part.only({"type"});
    steps.push_back(split(cut_at(is_white_space), Behavior::removed));
  } else if (type == "Metaspace") {
    add_metaspace(part, steps);
  } else {
    part.unknown_type(
        "Split, ByteLevel, Digits, Metaspace, Whitespace, WhitespaceSplit and Sequence");
  }
}

// ---- Decoders

using Decoder = std::function<void(std::vector<std::string>&)>;

std::string joined(const std::vector<std::string>& pieces, std::string_view between) {
  std::string text;
  for (size_t i = 0; i < pieces.size(); ++i) (text += i == 0 ? "" : between) += pieces[i];
  return text;
}

// The byte that a piece such as <0x0A> stands for.
std::optional<char> byte_of(const std::string& piece) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>' || digit(piece[3]) < 0 ||
      digit(piece[4]) < 0)
    return std::nullopt;
  return static_cast<char>(digit(piece[3]) * 16 + digit(piece[4]));
}

// Bytes in a row become their text, or if they are none, a U+FFFD each.
void join_bytes(std::vector<std::string>& pieces) {
  std::vector<std::string> out;
  std::string bytes;
  const auto flush = [&] {
    if (valid_utf8(bytes) == bytes) {
      if (!bytes.empty()) out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
    }
    bytes.clear();
  };
  for (std::string& piece : pieces) {
    if (const auto byte = byte_of(piece)) {
      bytes += *byte;
      continue;
    }
    flush();
    out.push_back(std::move(piece));
  }
  flush();
  pieces = std::move(out);
}

Decoder decoder_of(const Part& part, const std::shared_ptr<const ByteCharacters>& characters) {
  const std::string type = part.type();
  if (type == "ByteLevel") {
    part.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    return [characters](std::vector<std::string>& pieces) {
      std::string bytes;
      for (const std::string& piece : pieces) bytes += characters->bytes_of(piece).value_or(piece);
      pieces = {valid_utf8(bytes)};
    };
  }
  if (type == "ByteFallback") {
    part.only({"type"});
    return join_bytes;
  }
  if (type == "Fuse") {
    part.only({"type"});
    return [](std::vector<std::string>& pieces) { pieces = {joined(pieces, "")}; };
  }
  if (type == "Strip") {
    part.only({"type", "content", "start", "stop"});
    return [content = part.at("content").one_character(), start = part.at("start").number(),
            stop = part.at("stop").number()](std::vector<std::string>& pieces) {
      for (std::string& piece : pieces) {
        for (int32_t i = 0; i < start && piece.starts_with(content); ++i)
          piece.erase(0, content.size());
        for (int32_t i = 0; i < stop && piece.ends_with(content); ++i)
          piece.resize(piece.size() - content.size());
      }
    };
  }
  if (type == "Replace") {
    part.only({"type", "pattern", "content"});
    return [pattern = pattern_of(part.at("pattern")),
            content = part.at("content").text()](std::vector<std::string>& pieces) {
      for (std::string& piece : pieces) piece = replaced(piece, pattern, content);
    };
  }
  if (type == "Metaspace") {
    part.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
    const bool prefixed = part.has("prepend_scheme") ? part.at("prepend_scheme").text() != "never"
                                                     : part.flag("add_prefix_space", true);
    return [mark = Regex::literal(part.at("replacement").one_character()),
            prefixed](std::vector<std::string>& pieces) {
      for (size_t i = 0; i < pieces.size(); ++i)
        pieces[i] = replaced(pieces[i], mark, i == 0 && prefixed ? "" : " ");
    };
  }
  part.unknown_type("ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace and Sequence");
}

// ---- Added tokens

// Finds added tokens in a text, the longest of those that begin at one place.
class AddedTokens {
 public:
  void add(const std::string& content, const AddedToken& token) {
    uint32_t node = 0;
    for (const char c : content)
      node = next_.try_emplace(edge(node, c), static_cast<uint32_t>(++nodes_)).first->second;
    begins_[static_cast<unsigned char>(content[0])] = true;
    tokens_.try_emplace(node, token);  // of two the same, the first counts
  }

  // Calls `found(token, begin, end)` for all parts of the text in order; the token is null for what
  // lies between.
  template <class Found>
  void split(std::string_view text, Found found) const {
    size_t from = 0;
    for (size_t at = 0; at < text.size();) {
      const auto [token, length] = longest(text, at);
      if (token == nullptr) {
        ++at;
        continue;
      }
      size_t begin = at, end = at + length;
      at = end;
      if (token->single_word && ((begin > 0 && is_word(character_before(text, begin))) ||
                                 (end < text.size() && is_word(code_point_at(text, end).code))))
        continue;
      if (token->lstrip) {
        while (begin > from && is_white_space(character_before(text, begin)))
          begin -= character_bytes_before(text, begin);
      }
      if (token->rstrip) {
        while (end < text.size() && is_white_space(code_point_at(text, end).code))
          end += code_point_at(text, end).bytes;
      }
      if (from < begin) found(nullptr, from, begin);
      found(token, begin, end);
      from = end;
    }
    if (from < text.size()) found(nullptr, from, text.size());
  }

 private:
  static uint64_t edge(uint32_t node, char c) {
    return uint64_t{node} << 8 | static_cast<unsigned char>(c);
  }
  static size_t character_bytes_before(std::string_view text, size_t at) {
    size_t bytes = 1;
    while ((static_cast<unsigned char>(text[at - bytes]) & 0xC0) == 0x80) ++bytes;
    return bytes;
  }
  static char32_t character_before(std::string_view text, size_t at) {
    return code_point_at(text, at - character_bytes_before(text, at)).code;
  }

  std::pair<const AddedToken*, size_t> longest(std::string_view text, size_t at) const {
    std::pair<const AddedToken*, size_t> best = {nullptr, 0};
    if (!begins_[static_cast<unsigned char>(text[at])]) return best;
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      const auto next = next_.find(edge(node, text[i]));
      if (next == next_.end()) break;
      node = next->second;
      if (const auto token = tokens_.find(node); token != tokens_.end())
        best = {&token->second, i + 1 - at};
    }
    return best;
  }

  std::unordered_map<uint64_t, uint32_t> next_;  // the trie of the tokens' bytes
  std::unordered_map<uint32_t, AddedToken> tokens_;
  std::array<bool, 256> begins_{};
  size_t nodes_ = 0;
};

// ---- Byte-pair encoding

// What two neighbours become, in one flat table.
class Merges {
 public:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  explicit Merges(size_t count) {
    size_t size = 16;
    while (size < 2 * count) size *= 2;
    slots_.resize(size);
  }
  void set(int32_t left, int32_t right, Merge merge) {
    Slot& s = slots_[slot(left, right)];
    s = {key(left, right), merge};
  }
  const Merge* find(int32_t left, int32_t right) const {
    const Slot& s = slots_[slot(left, right)];
    return s.key == empty ? nullptr : &s.merge;
  }

 private:
  static constexpr uint64_t empty = ~uint64_t{0};  // ids are not negative
  struct Slot {
    uint64_t key = empty;
    Merge merge{};
  };
  static uint64_t key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  size_t slot(int32_t left, int32_t right) const {
    const uint64_t k = key(left, right);
    size_t i = (k * 0x9E3779B97F4A7C15u) >> 20 & (slots_.size() - 1);
    while (slots_[i].key != k && slots_[i].key != empty) i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  std::vector<Slot> slots_;
};

// The ids of pieces seen before. It forgets everything when it is full.
class PieceCache {
 public:
  std::optional<std::span<const int32_t>> find(std::string_view piece, size_t hash) const {
    if (slots_.empty()) return std::nullopt;
    const Slot& s = slots_[slot(piece, hash)];
    if (s.length == 0) return std::nullopt;
    return std::span(ids_).subspan(s.ids, s.count);
  }
  void add(std::string_view piece, size_t hash, std::span<const int32_t> ids) {
    if (slots_.empty() || ++count_ > slots_.size() / 2) {
      slots_.assign(capacity, {});
      texts_.clear();
      ids_.clear();
      count_ = 1;
    }
    slots_[slot(piece, hash)] = {
        hash, static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(piece.size()),
        static_cast<uint32_t>(ids_.size()), static_cast<uint32_t>(ids.size())};
    texts_ += piece;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }
  static constexpr size_t longest = 256;  // longer pieces hardly come twice

 private:
  static constexpr size_t capacity = 1 << 17;
  struct Slot {
    size_t hash = 0;
    uint32_t text = 0, length = 0, ids = 0, count = 0;
  };
  size_t slot(std::string_view piece, size_t hash) const {
    size_t i = hash & (capacity - 1);
    while (slots_[i].length != 0 &&
           (slots_[i].hash != hash ||
            std::string_view(texts_).substr(slots_[i].text, slots_[i].length) != piece))
      i = (i + 1) & (capacity - 1);
    return i;
  }
  std::vector<Slot> slots_;
  std::string texts_;
  std::vector<int32_t> ids_;
  size_t count_ = 0;
};

struct Symbol {
  int32_t id;  // −1: merged into another
  uint32_t previous, next;
};

class BytePairEncoding {
 public:
  BytePairEncoding(const Part& part, const std::shared_ptr<const ByteCharacters>& characters)
      : file_(part.file), characters_(characters), merges_(0) {
    part.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
               "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
    if (part.has("type") && part.type() != "BPE")  // old files of byte-level models leave it out
      part.at("type").fail("\"" + part.type() + "\" is not supported, only BPE is",
                           part.type() == "Unigram"
                               ? "tokenizer.model (SentencePiece) of the same model can be read"
                               : "");
    if (part.has("dropout") && part.at("dropout").value != 0)
      part.at("dropout").fail("must be null or 0");
    for (const std::string affix : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (part.has(affix) && !part.at(affix).text().empty())
        part.at(affix).fail("is not supported", "only null or an empty text is");
    fuse_unknown_ = part.flag("fuse_unk", false);
    byte_fallback_ = part.flag("byte_fallback", false);
    ignore_merges_ = part.flag("ignore_merges", false);

    const Part vocab = part.at("vocab");
    if (!vocab.value.is_object() || vocab.value.empty())
      vocab.fail("must be an object of pieces and their ids");
    for (const auto& [piece, id] : vocab.value.items()) {
      const int32_t number = Part{id, part.file, "model.vocab[\"" + piece + "\"]"}.number();
      if (!pieces_.emplace(number, piece).second)
        vocab.fail("gives the id " + std::to_string(number) + " twice");
      ids_.emplace(pieces_.at(number), number);
    }
    if (part.has("unk_token")) unknown_ = part.at("unk_token").text();
    initial_ascii_.fill(-1);
    for (unsigned char c = 0; c < 128; ++c)
      initial_ascii_[c] = id_of(std::string(1, static_cast<char>(c))).value_or(-1);
    for (size_t byte = 0; byte < 256; ++byte) {
      initial_byte_[byte] = id_of(characters->of_byte[byte]).value_or(-1);
      static constexpr std::string_view digits = "0123456789ABCDEF";
      fallback_[byte] =
          id_of(std::string("<0x") + digits[byte >> 4] + digits[byte & 15] + ">").value_or(-1);
    }
    if (ignore_merges_)
      for (const auto& [id, piece] : pieces_)
        if (const auto bytes = characters->bytes_of(piece))
          whole_bytes_.emplace(bytes_of_pieces_.emplace_back(*bytes), id);
    read_merges(part.at("merges"));
  }

  // What encoding needs beside the model; reused from piece to piece.
  struct Scratch {
    PieceCache* cache = nullptr;
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;
  };

  // Appends the ids of one piece; `bytes`: the vocabulary spells bytes as characters.
  void encode(std::string_view piece, bool bytes, Scratch& scratch,
              std::vector<int32_t>& ids) const {
    const size_t hash = std::hash<std::string_view>()(piece);
    const bool cached = scratch.cache != nullptr && piece.size() < PieceCache::longest;
    if (cached)
      if (const auto known = scratch.cache->find(piece, hash)) {
        ids.insert(ids.end(), known->begin(), known->end());
        return;
      }
    const size_t from = ids.size();
    if (const auto whole = ignore_merges_ ? whole_piece(piece, bytes) : std::nullopt) {
      ids.push_back(*whole);
    } else {
      read_symbols(piece, bytes, scratch.symbols);
      merge(scratch);
      for (uint32_t i = 0; i < scratch.symbols.size(); i = scratch.symbols[i].next)
        ids.push_back(scratch.symbols[i].id);
    }
    if (cached) scratch.cache->add(piece, hash, std::span(ids).subspan(from));
  }

  std::optional<int32_t> id_of(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::unordered_map<int32_t, std::string>& pieces() const { return pieces_; }

 private:
  void read_merges(const Part& part) {
    if (!part.value.is_array()) part.fail("must be a list");
    const FastJson& list = part.value;
    merges_ = Merges(list.size());
    for (size_t i = 0; i < list.size(); ++i) {
      const Part item{list[i], part.file, "model.merges[" + std::to_string(i) + "]"};
      std::string left, right;
      if (list[i].is_array()) {
        if (list[i].size() != 2 || !list[i][0].is_string() || !list[i][1].is_string())
          item.fail("must be a pair of texts");
        left = list[i][0].get<std::string>();
        right = list[i][1].get<std::string>();
      } else {
        const std::string both = item.text();
        if (both.starts_with("#version")) continue;
        const size_t space = both.find(' ');
        if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos)
          item.fail("must be two pieces with a space between");
        left = both.substr(0, space);
        right = both.substr(space + 1);
      }
      const auto left_id = id_of(left), right_id = id_of(right), id = id_of(left + right);
      if (!left_id || !right_id || !id)
        item.fail("names \"" +
                  (!left_id    ? left
                   : !right_id ? right
                               : left + right) +
                  "\", which is not in the vocabulary");
      merges_.set(*left_id, *right_id, {static_cast<uint32_t>(i), *id});
    }
  }

  std::optional<int32_t> whole_piece(std::string_view piece, bool bytes) const {
    const auto& ids = bytes ? whole_bytes_ : ids_;
    const auto found = ids.find(piece);
    return found == ids.end() ? std::nullopt : std::optional(found->second);
  }

  // The piece's characters, or bytes, as symbols.
  void read_symbols(std::string_view piece, bool bytes, std::vector<Symbol>& symbols) const {
    symbols.clear();
    bool unknown = false;  // an unknown token is due: the next unknown character may join it
    const auto push = [&](int32_t id) {
      const auto at = static_cast<uint32_t>(symbols.size());
      symbols.push_back({id, at - 1, at + 1});
    };
    const auto push_unknown = [&] {
      if (unknown) push(unknown_id());
      unknown = false;
    };
    for (size_t at = 0; at < piece.size();) {
      const auto byte = static_cast<unsigned char>(piece[at]);
      const size_t length = bytes ? 1 : code_point_at(piece, at).bytes;
      const std::string_view character =
          bytes ? std::string_view(characters_->of_byte[byte]) : piece.substr(at, length);
      const int32_t id = bytes        ? initial_byte_[byte]
                         : byte < 128 ? initial_ascii_[byte]
                                      : id_of(character).value_or(-1);
      at += length;
      const auto fallback = [&](char c) { return fallback_[static_cast<unsigned char>(c)]; };
      if (id >= 0) {
        push_unknown();
        push(id);
      } else if (byte_fallback_ && std::all_of(character.begin(), character.end(),
                                               [&](char c) { return fallback(c) >= 0; })) {
        for (const char c : character) push(fallback(c));
      } else if (unknown_) {
        if (!fuse_unknown_) push_unknown();
        unknown = true;
      }
    }
    push_unknown();
  }

  int32_t unknown_id() const {
    const auto id = id_of(*unknown_);
    if (!id)
      throw Error("\"" + *unknown_ + "\" is not in the vocabulary, and the text needs it",
                  {.file = file_, .field = "model.unk_token"});
    return *id;
  }

  // Merges the pair of the lowest rank, the leftmost of them, until there is none.
  void merge(Scratch& scratch) const {
    std::vector<Symbol>& symbols = scratch.symbols;
    std::vector<uint64_t>& queue = scratch.queue;  // rank and position, the smallest first
    const auto end = static_cast<uint32_t>(symbols.size());
    queue.clear();
    const auto entry = [](uint32_t rank, uint32_t at) { return uint64_t{rank} << 32 | at; };
    for (uint32_t i = 0; i + 1 < end; ++i)
      if (const auto* pair = merges_.find(symbols[i].id, symbols[i + 1].id))
        queue.push_back(entry(pair->rank, i));
    std::make_heap(queue.begin(), queue.end(), std::greater<>());
    const auto consider = [&](uint32_t left, uint32_t right) {
      if (left >= end || right >= end) return;
      if (const auto* pair = merges_.find(symbols[left].id, symbols[right].id)) {
        queue.push_back(entry(pair->rank, left));
        std::push_heap(queue.begin(), queue.end(), std::greater<>());
      }
    };
    while (!queue.empty()) {
      std::pop_heap(queue.begin(), queue.end(), std::greater<>());
      const auto rank = static_cast<uint32_t>(queue.back() >> 32),
                 at = static_cast<uint32_t>(queue.back());
      queue.pop_back();
      Symbol& left = symbols[at];
      if (left.id < 0 || left.next >= end) continue;  // merged into another since
      Symbol& right = symbols[left.next];
      const auto* pair = merges_.find(left.id, right.id);
      if (pair == nullptr || pair->rank != rank) continue;
      left.id = pair->id;
      right.id = -1;
      left.next = right.next;
      if (left.next < end) symbols[left.next].previous = at;
      consider(left.previous, at);
      consider(at, left.next);
    }
  }

  std::string file_;
  std::shared_ptr<const ByteCharacters> characters_;
  std::unordered_map<int32_t, std::string> pieces_;
  std::unordered_map<std::string_view, int32_t>
      ids_;  // views of pieces_, whose nodes stay where they are
  std::deque<std::string> bytes_of_pieces_;
  std::unordered_map<std::string_view, int32_t> whole_bytes_;  // views of bytes_of_pieces_
  std::array<int32_t, 128> initial_ascii_;
  std::array<int32_t, 256> initial_byte_, fallback_;
  Merges merges_;
  std::optional<std::string> unknown_;
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

// ---- The tokenizer

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
    if (part.type() == "ByteLevel")
      return part.only(
          {"type", "add_prefix_space", "trim_offsets", "use_regex"});  // only changes offsets
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
  bool byte_level_ =
      false;  // the last pre-tokenizer is ByteLevel: the model reads the bytes themselves
  std::vector<Decoder> decoders_;
  std::string joins_with_ = " ";
  std::vector<std::optional<int32_t>> around_ = {
      std::nullopt};  // what the post-processor makes of a text; nothing: the text
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

std::unique_ptr<Tokenizer> load_tokenizer_json(const fs::path& folder) {
  return std::make_unique<JsonTokenizer>(folder);
}

}  // namespace inoculum
