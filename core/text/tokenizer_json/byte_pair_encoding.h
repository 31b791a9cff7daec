// The model of a tokenizer.json: byte-pair encoding, which makes ids of pieces.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/tokenizer_json/byte_characters.h"
#include "core/text/tokenizer_json/part.h"

namespace inoculum::tokenizer_json {

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
  BytePairEncoding(const Part& part, const std::shared_ptr<const ByteCharacters>& characters);

  // What encoding needs beside the model; reused from piece to piece.
  struct Scratch {
    PieceCache* cache = nullptr;
    std::vector<Symbol> symbols;
    std::vector<uint64_t> queue;
  };

  // Appends the ids of one piece; `bytes`: the vocabulary spells bytes as characters.
  void encode(std::string_view piece, bool bytes, Scratch& scratch,
              std::vector<int32_t>& ids) const;

  std::optional<int32_t> id_of(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  const std::unordered_map<int32_t, std::string>& pieces() const { return pieces_; }

 private:
  void read_merges(const Part& part);
  std::optional<int32_t> whole_piece(std::string_view piece, bool bytes) const;
  // The piece's characters, or bytes, as symbols.
  void read_symbols(std::string_view piece, bool bytes, std::vector<Symbol>& symbols) const;
  int32_t unknown_id() const;
  // Merges the pair of the lowest rank, the leftmost of them, until there is none.
  void merge(Scratch& scratch) const;

  std::string file_;
  std::shared_ptr<const ByteCharacters> characters_;
  std::unordered_map<int32_t, std::string> pieces_;
  // Views of pieces_, whose nodes stay where they are.
  std::unordered_map<std::string_view, int32_t> ids_;
  std::deque<std::string> bytes_of_pieces_;
  std::unordered_map<std::string_view, int32_t> whole_bytes_;  // views of bytes_of_pieces_
  std::array<int32_t, 128> initial_ascii_;
  std::array<int32_t, 256> initial_byte_, fallback_;
  Merges merges_;
  std::optional<std::string> unknown_;
  bool fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

}  // namespace inoculum::tokenizer_json
