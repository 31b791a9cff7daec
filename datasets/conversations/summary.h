// What a set of conversations is: counted before a run learns it, to be read by a person.
//
//   auto summary = summarize(conversations, count, {.limit = 2048, .questions = prompts});
//   std::printf("%s", describe(summary).c_str());
//
// Words are runs of letters, digits, _ and ', in lower case (ASCII); all else parts them. Two
// conversations are duplicates when they are the same but for case and white space. Two rows are
// near duplicates when their users say nearly the same: half or more of their runs of 8 words are
// shared (by MinHash of 64 values; shorter ones must agree in all their words). A row is compared
// with at most 32 earlier ones, so that the time stays linear in the text.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/text/conversation.h"

namespace inoculum {

struct Counts {
  size_t tokens = 0, supervised = 0;
};

struct SummaryOptions {
  size_t limit = 0;                    // tokens that a run keeps of a conversation; 0: all
  std::vector<std::string> questions;  // of a bank that the model will be asked
};

// How much of a question the users of the data say.
struct Overlap {
  std::string question;
  size_t rows = 0;  // where a turn is this question, word for word
  // The share of its runs of 8 words (of a shorter one: its only run) that stand anywhere.
  double contained = 0;
};

struct DataSummary {
  size_t rows = 0;
  std::map<std::string, size_t> turns;  // by role
  size_t with_system = 0, distinct_systems = 0;
  size_t blank_answers = 0;  // assistant turns of white space or nothing
  size_t unanswered = 0;     // rows that end with a user's turn
  // The most frequent five system prompts, and how many rows have them.
  std::vector<std::pair<std::string, size_t>> systems;
  // Tokens of a conversation, by nearest rank.
  size_t shortest = 0, median = 0, p90 = 0, p99 = 0, longest = 0;
  size_t tokens = 0, supervised = 0, limit = 0, over_limit = 0;
  size_t duplicates = 0;          // rows that an earlier one equals
  size_t near_duplicates = 0;     // other rows whose users nearly repeat an earlier row's
  std::vector<Overlap> overlaps;  // of the questions said word for word, or contained by half
  size_t questions = 0;
};

DataSummary summarize(const std::vector<Conversation>& conversations,
                      const std::function<Counts(const Conversation&)>& count,
                      const SummaryOptions& options = {});
std::string describe(const DataSummary& summary);

// A text as the model is given it, in pieces; those that it learns from stand out: green on a
// terminal (`colour`), else between ⟦ and ⟧. Control characters other than line ends and tabs are
// spelt out.
struct Piece {
  std::string text;
  bool supervised = false;
};
std::string render_two_colours(const std::vector<Piece>& pieces, bool colour);

}  // namespace inoculum
