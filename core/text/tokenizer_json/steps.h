// The steps of a tokenizer.json around its model: what they do to a text before it is cut into
// pieces, how they cut it, and how pieces become text again.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/tokenizer_json/byte_characters.h"
#include "core/text/tokenizer_json/part.h"

namespace inoculum::tokenizer_json {

// A part of the text between added tokens. `first`: it begins where the whole text begins.
struct Segment {
  std::string text;
  bool first;
};
using Normalizer = std::function<void(Segment&)>;

Normalizer normalizer_of(const Part& part);

struct Piece {
  std::string_view text;
  bool first;  // as in Segment
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

// A step that makes another text of each piece.
PreTokenizer change(std::function<std::string(const Piece&)> changed);
// Adds the steps of one pre-tokenizer.
void add_byte_level(const Part& part, std::vector<PreTokenizer>& steps);
void add_pre_tokenizer(const Part& part, std::vector<PreTokenizer>& steps);  // any other

using Decoder = std::function<void(std::vector<std::string>&)>;

Decoder decoder_of(const Part& part, const std::shared_ptr<const ByteCharacters>& characters);
std::string joined(const std::vector<std::string>& pieces, std::string_view between);

}  // namespace inoculum::tokenizer_json
