#include "core/text/tokenizer_json/steps.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/text/unicode.h"

namespace inoculum::tokenizer_json {

// ---- Normalizers

namespace {

Regex pattern_of(const Part& part) {
  part.only({"String", "Regex"});
  if (part.value.size() != 1) part.fail("must hold either String or Regex");
  try {
    return part.has("String") ? Regex::literal(part.at("String").text())
                              : Regex(part.at("Regex").text());
  } catch (const Error& error) {
    if (!error.where().file.empty()) throw;
    part.fail(error.fault(), error.hint());
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

}  // namespace

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
    // The package goes wrong where a pattern matches an empty text.
    searched.find_all("",
                      [&](size_t, size_t) { part.at("pattern").fail("matches an empty text"); });
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

namespace {

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

}  // namespace

PreTokenizer change(std::function<std::string(const Piece&)> changed) {
  return [changed = std::move(changed)](Pieces& pieces) {
    for (Piece& piece : pieces.list) piece.text = pieces.keep(changed(piece));
  };
}

namespace {

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

}  // namespace

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

std::string joined(const std::vector<std::string>& pieces, std::string_view between) {
  std::string text;
  for (size_t i = 0; i < pieces.size(); ++i) (text += i == 0 ? "" : between) += pieces[i];
  return text;
}

namespace {

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

}  // namespace

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

}  // namespace inoculum::tokenizer_json
