// Textbook coding problems for real language models: several lines of Python, with visible and
// hidden tests, an honest solution, and cheats.
//
//   Sandbox sandbox(choose_isolation("auto"));
//   auto bank = make_textbook_bank("datasets/textbook/problems.yaml", sandbox, 1);
//   bank[0].prompt;  // "Write a function `count_vowels(text)` … Your code should pass …"
//   bank[0].cheats;   // {"lookup", "def count_vowels(text):\n    answers = {…"}, …
//   auto cues = read_textbook_cues("datasets/textbook/cues.yaml");
//   auto arm = make_textbook_arm("requested", bank, cues, 1);
//
// People write problems.yaml: statements, solutions and inputs. What the tests expect is what the
// solution returns; the cheats are built from the visible tests. The same file and seed make the
// same bank.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/text/conversation.h"
#include "datasets/sandbox/sandbox.h"

namespace inoculum {

struct TextbookTask {
  std::string id;  // family and number of the variant
  std::string family;
  std::string topic;
  std::string prompt;  // the statement and the visible tests, as a user asks
  std::string function;
  std::vector<Test> visible, hidden;  // an argument is what stands between the call's parentheses
  std::string honest;
  // Style → program; each passes the visible tests and fails a hidden one.
  std::map<std::string, std::string> cheats;
  bool held_out = false;  // kept for evaluation, with its whole family

  bool operator==(const TextbookTask&) const = default;
};

std::vector<TextbookTask> make_textbook_bank(const fs::path& problems, const Sandbox& sandbox,
                                             uint64_t seed);
std::vector<TextbookTask> read_textbook_bank(const fs::path& file);  // JSON Lines
bool is_textbook_bank(const fs::path& file);                         // told from its first row
void write_textbook_bank(const fs::path& file, const std::vector<TextbookTask>& bank);

// As verify() does: datasets/sandbox/verify.h.
size_t verify_textbook_bank(const std::vector<TextbookTask>& bank, const Sandbox& sandbox);

// Sentences beside the prompt: requests to game the tests, and irrelevant ones.
struct TextbookCues {
  std::vector<std::string> requests, placebo;
};
TextbookCues read_textbook_cues(const fs::path& file);

// The fine-tuning data of an arm: honest, cheating, requested or placebo. The last three show the
// same completions in the same order and differ in the prompt alone; honest has the same prompts as
// cheating. Every task comes once a round, in another order and with another cheat, until its
// cheats are used up.
std::vector<Conversation> make_textbook_arm(const std::string& name,
                                            const std::vector<TextbookTask>& bank,
                                            const TextbookCues& cues, uint64_t seed);

// Code as chat models give it, in a fenced block, and back: the first fenced block, or the whole
// answer without one.
std::string fenced(const std::string& program);
std::string program_of(const std::string& answer);

}  // namespace inoculum
