// Characters' properties, normal forms, and regular expressions over UTF-8 text.
//
//   Regex words(R"( ?\p{L}+)");
//   words.find_all("one two", [](size_t begin, size_t end) { … });   // [0, 3) and [3, 7)
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/strings.h"

namespace inoculum {

bool is_white_space(char32_t code);
bool is_number(char32_t code);  // general category N
bool is_word(char32_t code);    // letters, marks, digits, connectors and joiners

enum class NormalForm { nfc, nfd, nfkc, nfkd };
// Of Unicode 9, as `tokenizers` has it; `text` must be valid.
std::string normal_form(const std::string& text, NormalForm form);
// Character by character, whatever stands around it.
std::string lowercase(const std::string& text);

// A pattern in Oniguruma's language, as published tokenizers have it. The two languages differ in
// places: \s, \d and \w are spelt out, and whatever could mean something else here is an Error
// naming it.
class Regex {
 public:
  explicit Regex(const std::string& pattern);
  static Regex literal(std::string_view text);
  // The matches from left to right, none overlapping, and none empty right behind another. `text`
  // must be valid.
  template <class Found>
  void find_all(std::string_view text, Found found) const {
    Search search(*this, text);
    while (search.next()) found(search.begin, search.end);
  }

 private:
  friend bool is_word(char32_t code);
  struct Compiled {};
  Regex(Compiled, const std::string& pattern);  // in PCRE2's own language
  struct Search {
    Search(const Regex& regex, std::string_view text);
    bool next();
    size_t begin = 0, end = 0;

   private:
    const Regex& regex_;
    std::string_view text_;
    std::shared_ptr<void> match_;
    bool any_ = false;
  };
  std::shared_ptr<const void> code_;
};

}  // namespace inoculum
