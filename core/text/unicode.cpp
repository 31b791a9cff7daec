#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/text/unicode.h"

#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace inoculum {
namespace {

constexpr std::string_view word_set = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
// Also words to Oniguruma, but only outside sets.
constexpr std::string_view lone_word_set = R"(\xB2\xB3\xB9\xBC-\xBE)";

// Writes a pattern of Oniguruma's in PCRE2's language.
class Translation {
 public:
  explicit Translation(const std::string& pattern) : in_(pattern) {
    while (at_ < in_.size()) in_set_ ? inside_set() : outside_set();
    if (in_set_) refuse("a set without its end");
    if (ignores_case_) check_case();
  }
  std::string out;

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error("the pattern \"" + in_ + "\" has " + what + ", which is not supported (at byte " +
                std::to_string(at_) + ")");
  }

  bool starts(std::string_view part) const {
    return std::string_view(in_).substr(at_).starts_with(part);
  }
  void copy(size_t bytes) {
    out.append(in_, at_, bytes);
    at_ += bytes;
  }

  void outside_set() {
    const char c = in_[at_];
    if (c == '\\') return escape();
    if (c == '[') {
      in_set_ = true;
      copy(starts("[^") ? 2 : 1);
      if (starts("]")) refuse("a set that begins with ]");
      return;
    }
    if (starts("(?")) {
      for (const std::string_view group : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"})
        if (starts(group)) {
          ignores_case_ |= group == "(?i:";
          return copy(group.size());
        }
      refuse("the group " + in_.substr(at_, 3));
    }
    if (starts("(*")) refuse("(*");
    if (c == '{') return count();
    copy(1);
  }

  void inside_set() {
    if (in_[at_] == '\\') return escape();
    if (starts("[") || starts("&&")) refuse("a set in a set");
    in_set_ = !starts("]");
    copy(1);
  }

  // {n}, {n,} and {n,m}; what may follow them means different things in the two languages.
  void count() {
    size_t end = at_ + 1;
    const auto digits = [&] {
      const size_t from = end;
      while (end < in_.size() && std::isdigit(static_cast<unsigned char>(in_[end]))) ++end;
      return end > from;
    };
    const bool first = digits();
    if (end < in_.size() && in_[end] == ',') {
      ++end;
      digits();
    }
    if (!first || end >= in_.size() || in_[end] != '}') refuse("{ that is no count");
    if (end + 1 < in_.size() && (in_[end + 1] == '+' || in_[end + 1] == '?'))
      refuse("a count with + or ? behind it");
    copy(end + 1 - at_);
  }

  void escape() {
    if (at_ + 1 >= in_.size()) refuse("a backslash at its end");
    const char c = in_[at_ + 1];
    const auto put = [&](std::string_view text) {
      out += text;
      at_ += 2;
    };
    const std::string words(word_set), lone_words = words + std::string(lone_word_set);
    switch (c) {
      case 's': return put("\\p{White_Space}");
      case 'S': return put("\\P{White_Space}");
      case 'd': return put("\\p{Nd}");
      case 'D': return put("\\P{Nd}");
      case 'w': return put(in_set_ ? words : "[" + lone_words + "]");
      case 'W':
        if (in_set_) refuse("\\W in a set");
        return put("[^" + lone_words + "]");
      case 'v': return put("\\x0B");
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e': return copy(2);
      case 'A':
      case 'z':
        if (in_set_) refuse(std::string("\\") + c + " in a set");
        return copy(2);
      case 'p':
      case 'P': return property(c == 'P');
      case 'x':
      case 'u': return code_point();
      default:
        if (!std::ispunct(static_cast<unsigned char>(c)))
          refuse("\\" + in_.substr(at_ + 1, code_point_at(in_, at_ + 1).bytes));
        copy(2);
    }
  }

  void property(bool negated) {
    const size_t end = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || end == std::string::npos)
      refuse("\\p without {…}");
    std::string name = in_.substr(at_ + 3, end - at_ - 3);
    if (name.starts_with('^')) {
      negated = !negated;
      name.erase(0, 1);
    }
    static const std::vector<std::string> categories = {
        "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",
        "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
        "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp"};
    static const std::vector<std::string> scripts = {
        "Arabic", "Bengali",  "Cyrillic", "Devanagari", "Greek", "Han", "Hangul",
        "Hebrew", "Hiragana", "Katakana", "Latin",      "Tamil", "Thai"};
    const auto is_one_of = [&](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    // A bare script name would also take the characters that it shares with others.
    if (is_one_of(scripts)) name.insert(0, "sc:");
    else if (!is_one_of(categories)) refuse("\\p{" + name + "}");
    out += (negated ? "\\P{" : "\\p{") + name + "}";
    at_ = end + 1;
  }

  // \x7F, \u4E00 and \x{1F600}
  void code_point() {
    const bool braces = in_[at_ + 1] == 'x' && at_ + 2 < in_.size() && in_[at_ + 2] == '{';
    const size_t from = at_ + (braces ? 3 : 2);
    size_t end = from;
    const size_t most = braces ? 6 : in_[at_ + 1] == 'u' ? 4 : 2;
    while (end < in_.size() && end - from < most &&
           std::isxdigit(static_cast<unsigned char>(in_[end])))
      ++end;
    const std::string digits = in_.substr(from, end - from);
    if (digits.empty() || (!braces && digits.size() != most) ||
        (braces && (end >= in_.size() || in_[end] != '}')))
      refuse("a code point that is not spelt \\xHH, \\uHHHH or \\x{H…}");
    if (most == 2 && digits[0] >= '8') refuse("\\x of a byte that is not ASCII");
    out += "\\x{" + digits + "}";
    at_ = end + braces;
  }

  // Ignoring case, Oniguruma also takes one character for several: ß for ss, ﬁ for fi.
  void check_case() {
    const auto ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
    if (!std::ranges::all_of(in_, ascii)) refuse("(?i: beside characters that are not ASCII");
    const std::string lower = ascii_lower(in_);
    for (const std::string several : {"ss", "ff", "fi", "fl", "st"})
      if (lower.find(several) != std::string::npos)
        refuse("(?i: and \"" + several + "\", for which one character may stand");
  }

  std::string in_;
  size_t at_ = 0;
  bool in_set_ = false, ignores_case_ = false;
};

// Characters younger than Unicode 9 that decompose, compose or reorder: `tokenizers` has the normal
// forms of Unicode 9, to which these were nothing, and models were trained on what it made of them.
bool is_young(char32_t code) {
  static constexpr std::pair<char32_t, char32_t> ranges[] = {
      {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
      {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},
      {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
      {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
      {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
      {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
      {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935},
      {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
      {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42},
      {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
      {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
      {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};
  const auto* const above =
      std::upper_bound(std::begin(ranges), std::end(ranges), code,
                       [](char32_t c, const auto& range) { return c < range.first; });
  return above != std::begin(ranges) && code <= above[-1].second;
}

std::string normal_form_of_part(std::string_view text, int options) {
  utf8proc_uint8_t* result = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &result,
                                 static_cast<utf8proc_option_t>(options));
  if (size < 0) throw Error(std::string("the text cannot be normalised: ") + utf8proc_errmsg(size));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
  return {reinterpret_cast<const char*>(result), static_cast<size_t>(size)};
}

}  // namespace

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_number(char32_t code) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool is_word(char32_t code) {
  static const Regex words(Regex::Compiled{}, "[" + std::string(word_set) + "\\x{200C}\\x{200D}]");
  std::string text;
  append_code_point(text, code);
  bool found = false;
  words.find_all(text, [&](size_t, size_t) { found = true; });
  return found;
}

std::string normal_form(const std::string& text, NormalForm form) {
  // Characters below U+0300 compose to themselves, and ASCII is the same in every form.
  const unsigned char plain = form == NormalForm::nfc ? 0xCC : 0x80;
  if (std::all_of(text.begin(), text.end(),
                  [&](char c) { return static_cast<unsigned char>(c) < plain; }))
    return text;
  const bool composes = form == NormalForm::nfc || form == NormalForm::nfkc,
             compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const int options = UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                      (compatible ? UTF8PROC_COMPAT : 0);
  std::string out;
  size_t from = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (is_young(c.code)) {
      out += normal_form_of_part(std::string_view(text).substr(from, at - from), options);
      out.append(text, at, c.bytes);
      from = at + c.bytes;
    }
    at += c.bytes;
  }
  return out += normal_form_of_part(std::string_view(text).substr(from), options);
}

std::string lowercase(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (c.code == 0x130) out += "i\xCC\x87";  // the one character whose lower case is two
    else
      append_code_point(
          out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code))));
    at += c.bytes;
  }
  return out;
}

Regex::Regex(const std::string& pattern) : Regex(Compiled{}, Translation(pattern).out) {}

Regex Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::ispunct(static_cast<unsigned char>(c))) pattern += '\\';
    pattern += c;
  }
  return Regex(Compiled{}, pattern);
}

Regex::Regex(Compiled, const std::string& pattern) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_UTF | PCRE2_MULTILINE, &code, &offset, context.get());
  if (compiled == nullptr) {
    std::array<PCRE2_UCHAR, 256> message{};
    pcre2_get_error_message(code, message.data(), message.size());
    throw Error("the pattern \"" + pattern + "\" is not a regular expression", {},
                reinterpret_cast<const char*>(message.data()));
  }
  code_ =
      std::shared_ptr<const void>(compiled, [compiled](const void*) { pcre2_code_free(compiled); });
  // Where the machine has no JIT, matching interprets the pattern.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

Regex::Search::Search(const Regex& regex, std::string_view text)
    : regex_(regex), text_(text), match_(pcre2_match_data_create(1, nullptr), [](void* m) {
        pcre2_match_data_free(static_cast<pcre2_match_data*>(m));
      }) {}

bool Regex::Search::next() {
  size_t from = end;
  while (from <= text_.size()) {
    auto* const match = static_cast<pcre2_match_data*>(match_.get());
    const auto run = [&](uint32_t options) {
      return pcre2_match(static_cast<const pcre2_code*>(regex_.code_.get()),
                         reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), from,
                         PCRE2_NO_UTF_CHECK | options, match, nullptr);
    };
    int result = run(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
      result = run(PCRE2_NO_JIT);  // slower, and bounded by memory alone
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) {
      std::array<PCRE2_UCHAR, 256> message{};
      pcre2_get_error_message(result, message.data(), message.size());
      throw Error("a regular expression of the tokenizer fails on a text", {},
                  reinterpret_cast<const char*>(message.data()));
    }
    const PCRE2_SIZE* const span = pcre2_get_ovector_pointer(match);
    if (span[0] == span[1] && any_ && span[1] == end) {
      from = end < text_.size() ? end + code_point_at(text_, end).bytes : end + 1;
      continue;
    }
    begin = span[0];
    end = span[1];
    return any_ = true;
  }
  return false;
}

}  // namespace inoculum
