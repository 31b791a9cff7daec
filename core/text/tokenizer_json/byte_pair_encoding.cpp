#include "core/text/tokenizer_json/byte_pair_encoding.h"

#include <algorithm>
#include <functional>

namespace inoculum::tokenizer_json {

BytePairEncoding::BytePairEncoding(const Part& part,
                                   const std::shared_ptr<const ByteCharacters>& characters)
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

void BytePairEncoding::encode(std::string_view piece, bool bytes, Scratch& scratch,
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

void BytePairEncoding::read_merges(const Part& part) {
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

std::optional<int32_t> BytePairEncoding::whole_piece(std::string_view piece, bool bytes) const {
  const auto& ids = bytes ? whole_bytes_ : ids_;
  const auto found = ids.find(piece);
  return found == ids.end() ? std::nullopt : std::optional(found->second);
}

void BytePairEncoding::read_symbols(std::string_view piece, bool bytes,
                                    std::vector<Symbol>& symbols) const {
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

int32_t BytePairEncoding::unknown_id() const {
  const auto id = id_of(*unknown_);
  if (!id)
    throw Error("\"" + *unknown_ + "\" is not in the vocabulary, and the text needs it",
                {.file = file_, .field = "model.unk_token"});
  return *id;
}

void BytePairEncoding::merge(Scratch& scratch) const {
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

}  // namespace inoculum::tokenizer_json
