#include "core/text/jinja/lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace inoculum::jinja {
namespace {

class Lexer {
 public:
  Lexer(const std::string& source, const std::string& name) : name_(name) {
    for (size_t i = 0; i < source.size(); ++i) {
      source_ += source[i] == '\r' ? '\n' : source[i];
      if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
    if (source_.ends_with('\n')) source_.pop_back();
  }

  std::vector<Token> run() {
    try {
      decode(source_);
      while (at_ < source_.size()) root();
    } catch (const Fault& fault) {
      throw Error(fault.what, {.file = name_, .line = line_}, fault.hint);
    }
    tokens_.push_back({Tok::end, "end of template", line_});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] static void fail(const std::string& what) { throw Fault{what}; }
  bool sees(std::string_view text, size_t at) const {
    return std::string_view(source_).substr(at).starts_with(text);
  }
  size_t after_space(size_t at) const {
    while (at < source_.size()) {
      size_t length = 1;
      while (at + length < source_.size() && (source_[at + length] & 0xc0) == 0x80) ++length;
      if (!is_space(decode({&source_[at], length})[0])) break;
      at += length;
    }
    return at;
  }
  void move_to(size_t at) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    line_starting_ = at > at_ && source_[at - 1] == '\n';
    at_ = at;
  }
  // The end of a tag at `at`, with the white space that goes with it; 0 if there is none.
  size_t tag_end(size_t at, std::string_view close, bool trim) const {
    if (sees(close, at)) return at + close.size() + (trim && sees("\n", at + close.size()));
    if (trim && sees("+", at) && sees(close, at + 1)) return at + 1 + close.size();
    if (sees("-", at) && sees(close, at + 1)) return after_space(at + 1 + close.size());
    return 0;
  }
  // Past `{% [-+]? word`, if that is at `at`; else 0.
  size_t after_word(size_t at, const char* word) const {
    if (!sees("{%", at)) return 0;
    at += 2;
    if (sees("-", at) || sees("+", at)) ++at;
    at = after_space(at);
    return sees(word, at) ? after_space(at + std::string_view(word).size()) : 0;
  }

  void data(size_t end, char sign, bool is_variable) {
    std::string text = source_.substr(at_, end - at_);
    if (sign == '-') {
      text = encode(stripped(decode(text), false, true));
    } else if (sign != '+' && !is_variable) {
      const size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line > 0 || line_starting_) && after_space(at_ + line) >= end) text.resize(line);
    }
    if (!text.empty()) tokens_.push_back({Tok::data, text, line_});
    move_to(end);
  }

  void root() {
    size_t begin = at_;
    while (begin < source_.size() && !sees("{%", begin) && !sees("{{", begin) && !sees("{#", begin))
      ++begin;
    if (begin == source_.size()) {
      tokens_.push_back({Tok::data, source_.substr(at_), line_});
      return move_to(begin);
    }
    const char sign = begin + 2 < source_.size() ? source_[begin + 2] : ' ',
               kind = source_[begin + 1];
    const size_t inside = begin + (sign == '-' || sign == '+' ? 3 : 2);
    data(begin, sign, kind == '{');
    if (const size_t raw = after_word(begin, "raw"); raw && (sees("%}", raw) || sees("-%}", raw))) {
      move_to(tag_end(raw, "%}", false));
      return raw_block();
    }
    move_to(inside);
    if (kind == '#') return comment();
    tokens_.push_back(
        {kind == '%' ? Tok::block_begin : Tok::variable_begin, kind == '%' ? "{%" : "{{", line_});
    tag(kind == '%' ? "%}" : "}}", kind == '%' ? Tok::block_end : Tok::variable_end);
  }

  void raw_block() {
    for (size_t at = at_; at < source_.size(); ++at)
      if (const size_t word = after_word(at, "endraw"))
        if (const size_t end = tag_end(word, "%}", true)) {
          data(at, source_[at + 2], false);
          return move_to(end);
        }
    fail("{% raw %} is not closed");
  }

  void comment() {
    for (size_t at = at_; at < source_.size(); ++at)
      if (const size_t end = tag_end(at, "#}", true)) return move_to(end);
    fail("a comment is not closed");
  }

  void tag(std::string_view close, Tok closing) {
    std::string open;  // the closing brackets to come
    while (true) {
      if (at_ >= source_.size()) return;  // the parser sees the end of the template
      if (const size_t end = open.empty() ? tag_end(at_, close, closing == Tok::block_end) : 0) {
        tokens_.push_back({closing, std::string(close), line_});
        return move_to(end);
      }
      if (const size_t end = after_space(at_); end > at_) {
        move_to(end);
        continue;
      }
      const char c = source_[at_];
      if (is_digit(static_cast<unsigned char>(c))) numeral();
      else if (std::isalpha(static_cast<unsigned char>(c)) || c == '_') word();
      else if (c == '\'' || c == '"') literal(c);
      else symbol(open);
    }
  }

  void word() {
    size_t end = at_;
    while (end < source_.size() &&
           (std::isalnum(static_cast<unsigned char>(source_[end])) || source_[end] == '_'))
      ++end;
    if (end < source_.size() && (source_[end] & 0x80))
      fail("names outside ASCII are not supported");
    tokens_.push_back({Tok::name, source_.substr(at_, end - at_), line_});
    move_to(end);
  }

  // Past the digits at `at`, which may have single underscores between them.
  size_t digits(size_t at, std::string_view allowed) const {
    while (at < source_.size() &&
           (is_one_of(source_[at], allowed) ||
            (source_[at] == '_' && at > 0 &&
             std::isxdigit(static_cast<unsigned char>(source_[at - 1])) &&
             at + 1 < source_.size() && is_one_of(source_[at + 1], allowed))))
      ++at;
    return at;
  }

  void numeral() {
    constexpr std::string_view decimal = "0123456789";
    const auto starts = [&](size_t at) {
      return at < source_.size() && is_digit(static_cast<unsigned char>(source_[at]));
    };
    size_t end = digits(at_, decimal);
    bool real = false;
    if (at_ == 0 || source_[at_ - 1] != '.') {
      if (end + 1 < source_.size() && source_[end] == '.' && starts(end + 1)) {
        end = digits(end + 1, decimal);
        real = true;
      }
      if (end < source_.size() && (source_[end] | 32) == 'e') {
        const size_t exponent = end + 1 + (sees("+", end + 1) || sees("-", end + 1));
        if (starts(exponent)) {
          end = digits(exponent, decimal);
          real = true;
        }
      }
    }
    int base = 10;
    size_t begin = at_;
    if (!real && source_[at_] == '0') {
      const char mark = static_cast<char>(at_ + 1 < source_.size() ? source_[at_ + 1] | 32 : 0);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      const std::string_view allowed = base == 16  ? "0123456789abcdefABCDEF"
                                       : base == 8 ? "01234567"
                                                   : "01";
      if (base != 10) {
        begin = at_ + 2 + sees("_", at_ + 2);
        end = begin < source_.size() && is_one_of(source_[begin], allowed) ? digits(begin, allowed)
                                                                           : begin;
        if (end == begin) fail("a number has no digits");
      } else {
        end = digits(at_, "0");  // Jinja ends a decimal number after its leading zeros
      }
    }
    std::string text = source_.substr(begin, end - begin);
    std::erase(text, '_');
    Token token{real ? Tok::real : Tok::integer, text, line_, number(int64_t{0})};
    if (real) token.value = number(std::strtod(text.c_str(), nullptr));
    else if (std::from_chars(text.data(), text.data() + text.size(), token.value.integer, base)
                 .ec != std::errc{})
      fail("the number " + text + " is too large");
    tokens_.push_back(std::move(token));
    move_to(end);
  }

  void literal(char quote) {
    std::string text;
    size_t i = at_ + 1;
    for (; i < source_.size() && source_[i] != quote; ++i) {
      if (source_[i] != '\\') {
        text += source_[i];
        continue;
      }
      if (++i == source_.size()) break;
      static const std::string plain = "\\'\"abfnrtv", meaning = "\\'\"\a\b\f\n\r\t\v";
      const char c = source_[i];
      if (const size_t known = plain.find(c); known != std::string::npos) {
        text += meaning[known];
      } else if (c == '\n') {
      } else if (c == 'x' || c == 'u' || c == 'U' || (c >= '0' && c <= '7')) {
        const bool octal = c <= '7';
        const size_t begin = i + !octal, length = octal ? 3 : c == 'x' ? 2 : c == 'u' ? 4 : 8;
        uint32_t code = 0;
        const char* last = &source_[0] + std::min(begin + length, source_.size());
        const auto result = std::from_chars(&source_[0] + begin, last, code, octal ? 8 : 16);
        if (result.ec != std::errc{} || (!octal && result.ptr != &source_[0] + begin + length) ||
            code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
          fail("a text holds a broken \\" + std::string(1, c) + " escape");
        append_code_point(text, code);
        i = static_cast<size_t>(result.ptr - &source_[0]) - 1;
      } else if (c == 'N' || (c & 0x80)) {
        fail("a text holds an escape that is not supported");
      } else {
        (text += '\\') += c;
      }
    }
    if (i >= source_.size()) fail("a text is not closed");
    tokens_.push_back({Tok::string, text, line_, with_text(Kind::string, text)});
    move_to(i + 1);
  }

  void symbol(std::string& open) {
    static const std::vector<std::string> symbols = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto found = std::find_if(symbols.begin(), symbols.end(),
                                    [&](const std::string& s) { return sees(s, at_); });
    if (found == symbols.end())
      fail("unexpected character " +
           repr_text(encode(decode(std::string_view(source_).substr(at_)).substr(0, 1))));
    const char c = (*found)[0];
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) fail("unexpected '" + *found + "'");
      open.pop_back();
    }
    tokens_.push_back({Tok::op, *found, line_});
    move_to(at_ + found->size());
  }

  std::string name_, source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(const std::string& source, const std::string& name) {
  return Lexer(source, name).run();
}

}  // namespace inoculum::jinja
