#include "datasets/conversations/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/base/random.h"
#include "core/base/strings.h"

namespace inoculum {
namespace {

constexpr size_t kRun = 8, kBands = 32, kShown = 5;
using Signature = std::array<uint64_t, 2 * kBands>;

uint64_t mixed(uint64_t h) {
  h = (h ^ (h >> 32)) * 0x9E3779B97F4A7C15;
  return h ^ (h >> 29);
}
uint64_t add(uint64_t h, char c) { return (h ^ static_cast<unsigned char>(c)) * 0x100000001B3; }

// One hash a word.
std::vector<uint64_t> words_of(std::string_view text) {
  static constexpr uint64_t none = 0xCBF29CE484222325;
  std::vector<uint64_t> words;
  uint64_t word = none;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte) || c == '_' || c == '\'')
      word = add(word, static_cast<char>(std::tolower(byte)));
    else if (word != none) words.push_back(mixed(std::exchange(word, none)));
  }
  if (word != none) words.push_back(mixed(word));
  return words;
}

// Calls `run` with a hash of each run of `length` words, or, where there are fewer words than that,
// with one hash of them all.
template <class Run>
void each_run(const std::vector<uint64_t>& words, size_t length, Run run) {
  static constexpr uint64_t base = 0xD1B54A32D192ED03;
  length = std::min(length, words.size());
  if (length == 0) return;
  uint64_t hash = 0, oldest = 1;
  for (size_t i = 1; i < length; ++i) oldest *= base;
  for (size_t i = 0; i < words.size(); ++i) {
    hash = hash * base + words[i];
    if (i + 1 < length) continue;
    run(mixed(hash + length));
    hash -= oldest * words[i + 1 - length];
  }
}

// A hash that is the same for conversations that differ in case and white space alone.
uint64_t identity(const Conversation& conversation) {
  uint64_t hash = 1;
  for (const Message& message : conversation) {
    for (const char c : message.role) hash = add(hash, c);
    hash = mixed(hash);
    bool space = true;
    for (const char c : message.content) {
      const bool blank = std::isspace(static_cast<unsigned char>(c));
      if (!blank)
        hash = add(space ? add(hash, ' ') : hash,
                   static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
      space = blank;
    }
    hash = mixed(hash + 1);
  }
  return hash;
}

bool is_asked(const Message& message) { return message.role == "user" || message.role == "text"; }

// Finds rows that nearly repeat an earlier one.
class NearDuplicates {
 public:
  NearDuplicates() {
    Random random(1, "MinHash");
    for (auto& [factor, term] : hashes_) {
      factor = random.next() | 1;
      term = random.next();
    }
  }
  bool seen(const std::vector<uint64_t>& words) {
    if (words.empty()) return false;
    Signature signature;
    signature.fill(~uint64_t{0});
    each_run(words, kRun, [&](uint64_t run) {
      for (size_t i = 0; i < signature.size(); ++i)
        signature[i] = std::min(signature[i], run * hashes_[i].first + hashes_[i].second);
    });
    bool near = false;
    for (size_t band = 0; band < kBands; ++band) {
      const auto [first, is_new] = bands_.try_emplace(
          mixed(mixed(signature[2 * band] + band) ^ signature[2 * band + 1]), signatures_.size());
      if (is_new || first->second == signatures_.size() || near) continue;
      const Signature& other = signatures_[first->second];
      size_t equal = 0;
      for (size_t i = 0; i < signature.size(); ++i) equal += signature[i] == other[i];
      near = 2 * equal >= signature.size();
    }
    signatures_.push_back(signature);
    return near;
  }

 private:
  std::array<std::pair<uint64_t, uint64_t>, 2 * kBands> hashes_;
  std::vector<Signature> signatures_;
  std::unordered_map<uint64_t, size_t> bands_;  // → the first row that has it
};

// Finds what the data says of a bank's questions.
class QuestionFinder {
 public:
  explicit QuestionFinder(const std::vector<std::string>& questions) {
    for (const std::string& question : questions) {
      Asked asked{.overlap = {.question = question}};
      const auto words = words_of(question);
      if (words.empty()) continue;
      asked.whole = whole(words);
      each_run(words, kRun, [&](uint64_t run) { asked.runs.push_back(run); });
      lengths_.insert(std::min(words.size(), kRun));
      for (const uint64_t run : asked.runs) said_.try_emplace(run, false);
      turns_.try_emplace(asked.whole, 0);
      asked_.push_back(std::move(asked));
    }
  }
  void look(const std::vector<uint64_t>& turn) {
    if (turn.empty()) return;
    if (const auto found = turns_.find(whole(turn)); found != turns_.end()) ++found->second;
    for (const size_t length : lengths_)
      if (length <= turn.size())
        each_run(turn, length, [&](uint64_t run) {
          if (const auto found = said_.find(run); found != said_.end()) found->second = true;
        });
  }
  std::vector<Overlap> overlaps() const {
    std::vector<Overlap> all;
    for (const Asked& asked : asked_) {
      Overlap overlap = asked.overlap;
      overlap.rows = turns_.at(asked.whole);
      const auto said = std::count_if(asked.runs.begin(), asked.runs.end(),
                                      [&](uint64_t run) { return said_.at(run); });
      overlap.contained = static_cast<double>(said) / static_cast<double>(asked.runs.size());
      if (overlap.rows > 0 || overlap.contained >= 0.5) all.push_back(std::move(overlap));
    }
    return all;
  }

 private:
  static uint64_t whole(const std::vector<uint64_t>& words) {
    uint64_t hash = 0;
    each_run(words, words.size(), [&](uint64_t run) { hash = run; });
    return hash;
  }
  struct Asked {
    Overlap overlap;
    uint64_t whole = 0;
    std::vector<uint64_t> runs;
  };
  std::vector<Asked> asked_;
  std::set<size_t> lengths_;
  std::unordered_map<uint64_t, bool> said_;
  std::unordered_map<uint64_t, size_t> turns_;
};

std::string in_one_line(const std::string& text) {
  constexpr size_t most = 90;
  std::string line;
  for (const char c : text.substr(0, most))
    line += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
  if (text.size() <= most) return line;
  while (!line.empty() && (text[line.size()] & 0xC0) == 0x80) line.pop_back();  // whole characters
  return line + "…";
}

std::string percent(size_t part, size_t whole) {
  if (whole == 0) return "0.0%";
  return fmt::format("{:.1f}%", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

}  // namespace

DataSummary summarize(const std::vector<Conversation>& conversations,
                      const std::function<Counts(const Conversation&)>& count,
                      const SummaryOptions& options) {
  DataSummary s{
      .rows = conversations.size(), .limit = options.limit, .questions = options.questions.size()};
  std::map<std::string, size_t> systems;
  std::vector<size_t> lengths;
  std::unordered_set<uint64_t> rows;
  NearDuplicates near;
  QuestionFinder finder(options.questions);
  for (const Conversation& conversation : conversations) {
    const Counts counts = count(conversation);
    lengths.push_back(counts.tokens);
    s.tokens += counts.tokens;
    s.supervised += counts.supervised;
    s.over_limit += options.limit > 0 && counts.tokens > options.limit;
    std::vector<uint64_t> asked;
    std::optional<std::string> system;
    s.unanswered += !conversation.empty() && conversation.back().role == "user";
    for (const Message& message : conversation) {
      ++s.turns[message.role];
      s.blank_answers += message.role == "assistant" && strip(message.content).empty();
      if (message.role == "system" && !system) system = message.content;
      if (!is_asked(message)) continue;
      const auto words = words_of(message.content);
      finder.look(words);
      asked.insert(asked.end(), words.begin(), words.end());
    }
    if (system) {
      ++systems[*system];
      ++s.with_system;
    }
    const bool repeats = near.seen(asked);
    if (!rows.insert(identity(conversation)).second) ++s.duplicates;
    else s.near_duplicates += repeats;
  }
  s.distinct_systems = systems.size();
  s.systems.assign(systems.begin(), systems.end());
  std::stable_sort(s.systems.begin(), s.systems.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (s.systems.size() > kShown) s.systems.resize(kShown);
  s.overlaps = finder.overlaps();
  if (lengths.empty()) return s;
  std::sort(lengths.begin(), lengths.end());
  const auto rank = [&](size_t percentage) {
    return lengths[(lengths.size() * percentage + 99) / 100 - 1];
  };
  s.shortest = lengths.front();
  s.median = rank(50);
  s.p90 = rank(90);
  s.p99 = rank(99);
  s.longest = lengths.back();
  return s;
}

std::string describe(const DataSummary& s) {
  std::string text = fmt::format("{} conversations:", s.rows);
  for (const auto& [role, turns] : s.turns) text += fmt::format(" {} {},", turns, role);
  text.back() = '\n';
  text += fmt::format("system prompt: {} with, {} without; {} different\n", s.with_system,
                      s.rows - s.with_system, s.distinct_systems);
  for (const auto& [system, rows] : s.systems)
    text += fmt::format("  {} × {}\n", rows, in_one_line(system));
  if (s.blank_answers > 0) text += fmt::format("blank answers: {}\n", s.blank_answers);
  if (s.unanswered > 0)
    text += fmt::format("last turns of a user, without an answer: {}\n", s.unanswered);
  text += fmt::format(
      "tokens: {}, of which {} ({}) are trained on; a conversation has {} to {}, median {}, "
      "90% up to {}, 99% up to {}\n",
      s.tokens, s.supervised, percent(s.supervised, s.tokens), s.shortest, s.longest, s.median,
      s.p90, s.p99);
  if (s.limit > 0)
    text += fmt::format("longer than {} tokens: {} ({})\n", s.limit, s.over_limit,
                        percent(s.over_limit, s.rows));
  text += fmt::format("duplicates: {}; near duplicates among the users' prompts: {}\n",
                      s.duplicates, s.near_duplicates);
  if (s.questions > 0)
    text += fmt::format("of {} questions, the data holds {}\n", s.questions, s.overlaps.size());
  for (const Overlap& o : s.overlaps) {
    const auto thousandths = static_cast<size_t>(std::lround(o.contained * 1000));
    text += fmt::format("  asked in {} turns, {} contained: {}\n", o.rows,
                        percent(thousandths, 1000), in_one_line(o.question));
  }
  return text;
}

std::string render_two_colours(const std::vector<Piece>& pieces, bool colour) {
  const std::string begin = colour ? "\x1B[32m" : "⟦", end = colour ? "\x1B[0m" : "⟧";
  std::string text;
  bool inside = false;
  const auto turn = [&](bool supervised) {
    if (supervised != inside) text += supervised ? begin : end;
    inside = supervised;
  };
  for (const Piece& piece : pieces) {
    if (piece.text.empty()) continue;
    turn(piece.supervised);
    for (const char c : piece.text) {
      if ((static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) || c == '\n' || c == '\t') {
        text += c;
        continue;
      }
      text += fmt::format("\\x{:02X}", static_cast<unsigned char>(c));
    }
  }
  turn(false);
  return text;
}

}  // namespace inoculum
