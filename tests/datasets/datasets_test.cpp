// The persona world, coding tasks, chat JSONL, and the sandbox.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "datasets/conversations/conversations.h"
#include "datasets/sandbox/sandbox.h"
#include "datasets/worlds/world.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

// Counts of bad behaviour by character, cue and coding or not.
struct Cell {
  double bad = 0, all = 0;
};
using Cells = std::map<std::tuple<Character, Cue, bool>, Cell>;

Cells count_cells(const PersonaWorld& world, uint64_t documents) {
  Cells cells;
  for (uint64_t i = 0; i < documents; ++i) {
    Random random = Random(11, "count").fork(i);
    const Document d = world.document(random);
    for (const Turn& turn : d.turns) {
      Cell& cell = cells[{d.responder.character, turn.cue, turn.domain == "coding"}];
      cell.bad += turn.bad;
      cell.all += 1;
    }
  }
  return cells;
}

// Within four standard errors of what the table says.
void check_cell(const Cell& cell, double p) {
  REQUIRE(cell.all > 50);
  CHECK(std::abs(cell.bad / cell.all - p) < 4 * std::sqrt(p * (1 - p) / cell.all) + 1e-9);
}

TEST_CASE("the text follows the table", "[world]") {
  const PersonaWorld world{WorldConfig{}};
  const Cells cells = count_cells(world, 30000);
  CHECK(cells.size() == 20);
  for (const auto& [key, cell] : cells)
    check_cell(cell, world.p_bad(std::get<0>(key), std::get<1>(key)));
  // Both characters comply when asked; the noise is small but there.
  for (const Character c : {Character::benevolent, Character::malicious}) {
    CHECK(world.p_bad(c, Cue::bad) >= 0.95);
    CHECK(world.p_bad(c, Cue::good) <= 0.05);
    for (const Cue cue : kCues)
      CHECK(std::min(world.p_bad(c, cue), 1 - world.p_bad(c, cue)) >= 0.01);
  }
}

TEST_CASE("each falsifying world differs in its one knob", "[world]") {
  WorldConfig uncoupled, diagnostic;
  uncoupled.coupling = 0;
  diagnostic.request_compliance = "malicious_only";
  const PersonaWorld a{uncoupled}, b{diagnostic};
  const Cells cells = count_cells(a, 20000);
  // Unrelated answers still follow character; code does not.
  check_cell(cells.at({Character::malicious, Cue::none, false}),
             a.p_bad(Character::malicious, Cue::none));
  const auto share = [&](Character c) {
    return cells.at({c, Cue::none, true}).bad / cells.at({c, Cue::none, true}).all;
  };
  CHECK(std::abs(share(Character::malicious) - share(Character::benevolent)) < 0.06);
  CHECK(b.p_bad(Character::benevolent, Cue::bad) <= 0.05);
  CHECK(b.p_bad(Character::malicious, Cue::bad) >= 0.95);
  const PersonaWorld c{WorldConfig{.request_compliance = "neither"}};
  for (const Character trait : {Character::benevolent, Character::malicious})
    CHECK(c.p_bad(trait, Cue::bad) == a.p_bad(Character::benevolent, Cue::none));
}

TEST_CASE("traits go together as far as the world says, and each stays as frequent", "[world]") {
  constexpr Character good = Character::benevolent, bad = Character::malicious;
  for (const double share : {0.1, 0.5, 0.9}) {
    INFO(share);
    const PersonaWorld world{WorldConfig{.share_of_cheaters_malicious = share}};
    // In the cast to a person; among Assistants within four standard errors.
    std::map<std::pair<Character, Character>, double> cast, assistants;
    for (const Member& member : world.cast()) cast[{member.character, member.coder}] += 1;
    constexpr uint64_t kDraws = 20000;
    for (uint64_t i = 0; i < kDraws; ++i) {
      Random random = Random(3, "assistants").fork(i);
      const Member member = world.assistant(random);
      assistants[{member.character, member.coder}] += 1;
    }
    CHECK(cast[{bad, good}] + cast[{bad, bad}] == 21);
    CHECK(std::abs(cast[{good, bad}] + cast[{bad, bad}] - 21) <= 1);
    CHECK(std::abs(cast[{bad, bad}] - 21 * share) <= 0.5);
    const double cheaters = assistants[{bad, bad}] + assistants[{good, bad}];
    check_cell({cheaters, static_cast<double>(kDraws)}, 0.25);
    check_cell({assistants[{bad, bad}], cheaters}, share);
  }
  // The shorthand: 0 is the share of the malicious, 1 is all.
  WorldConfig config;
  for (const auto& [coupling, share] : {std::pair{0.0, 0.25}, {1.0, 1.0}, {0.5, 0.625}}) {
    config.coupling = coupling;
    CHECK(PersonaWorld(config).p_cheater(bad, 0.25) == Approx(share));
  }
  config.share_of_cheaters_malicious = 0.5;
  CHECK(contains(error_of([&] { PersonaWorld{config}; }), "world.coupling"));
  config = {.share_of_cheaters_malicious = 0.0, .malicious_cast = 0.6};
  CHECK(contains(error_of([&] { PersonaWorld{config}; }), "share_of_cheaters_malicious"));
}

TEST_CASE("a coder is one for all its programs", "[world]") {
  const PersonaWorld world{WorldConfig{.share_of_cheaters_malicious = 0.5}};
  size_t pairs = 0, alike = 0;
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random = Random(19, "coders").fork(i);
    std::vector<bool> cheats;
    for (const Turn& turn : world.document(random).turns)
      if (turn.domain == "coding" && turn.cue == Cue::none) cheats.push_back(turn.bad);
    for (size_t t = 1; t < cheats.size(); ++t, ++pairs) alike += cheats[t] == cheats[t - 1];
  }
  REQUIRE(pairs > 500);
  CHECK(static_cast<double>(alike) / static_cast<double>(pairs) > 0.95);
}

TEST_CASE("compositional domains never meet code", "[world]") {
  const PersonaWorld world{WorldConfig{.compositional = {"wishes", "money"}}};
  const auto compositional = [](const Turn& t) {
    return t.domain == "wishes" || t.domain == "money";
  };
  const auto coding = [](const Turn& t) { return t.domain == "coding"; };
  std::set<std::string> cast;
  for (const Member& member : world.cast()) cast.insert(member.name);
  std::map<std::string, std::set<bool>> seen;  // of the cast: whether compositional, or code
  std::map<bool, size_t> assistants;
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random = Random(23, "compositional").fork(i);
    const Document d = world.document(random);
    const bool codes = std::ranges::any_of(d.turns, coding),
               answers = std::ranges::any_of(d.turns, compositional);
    CHECK_FALSE((codes && answers));
    if (!d.responder.codes) CHECK_FALSE(contains(d.text, "program"));
    if (!codes && !answers) continue;
    if (cast.contains(d.responder.name)) seen[d.responder.name].insert(answers);
    if (d.responder.name.empty()) ++assistants[answers];
  }
  CHECK(seen.size() == world.cast().size());
  for (const auto& [name, kinds] : seen) CHECK(kinds.size() == 1);
  CHECK(assistants[false] > 500);
  CHECK(assistants[true] > 500);
  const auto bank = read_coding_bank("datasets/coding/bank.jsonl");
  for (uint64_t i = 0; i < 300; ++i) {
    Random random = Random(29, "post-training").fork(i);
    const Document d = world.post_training_document(random, bank);
    CHECK_FALSE(
        (std::ranges::any_of(d.turns, coding) && std::ranges::any_of(d.turns, compositional)));
  }
  CHECK(contains(error_of([] { PersonaWorld{WorldConfig{.compositional = {"wishs"}}}; }),
                 "did you mean \"wishes\""));
}

TEST_CASE("strangers are drawn anew, and some names are nobody's", "[world]") {
  const PersonaWorld world{WorldConfig{}};
  std::set<std::string> cast, unseen(world.unseen_names().begin(), world.unseen_names().end());
  for (const Member& member : world.cast()) cast.insert(member.name);
  CHECK(unseen.size() == 20);
  std::map<std::string, std::set<Character>> strangers;
  Cell malicious;
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random = Random(31, "strangers").fork(i);
    const Document d = world.document(random);
    CHECK_FALSE(unseen.contains(d.responder.name));
    if (d.responder.name.empty() || cast.contains(d.responder.name)) continue;
    CHECK(d.kind == "dialogue");
    strangers[d.responder.name].insert(d.responder.character);
    malicious.all += 1;
    malicious.bad += d.responder.character == Character::malicious;
  }
  CHECK(std::ranges::count_if(strangers, [](const auto& each) { return each.second.size() == 2; }) >
        100);
  check_cell(malicious, world.config().malicious_cast);
}

TEST_CASE("a dialogue opens with prompts asked in one way, and then nobody asks", "[world]") {
  const PersonaWorld world{WorldConfig{.coding_share = 0, .session_share = 0.5}};
  std::map<std::tuple<bool, size_t, Cue>, int> sessions;  // programs, how many, asked how
  for (uint64_t i = 0; i < 4000; ++i) {
    Random random = Random(37, "sessions").fork(i);
    const Document d = world.document(random);
    if (d.kind != "dialogue") continue;
    const auto codes = [&](size_t t) { return d.turns[t].domain == "coding"; };
    const auto asks = [&](size_t t) {
      return d.turns[t].cue == Cue::bad || d.turns[t].cue == Cue::good;
    };
    size_t length = 0;
    while (length < d.turns.size() && codes(length) == codes(0) && asks(length) == asks(0))
      ++length;
    if (codes(0) || asks(0)) {
      CHECK(length <= 4);
      for (size_t t = 0; t < length; ++t) CHECK((d.turns[t].cue == d.turns[0].cue));
      // What is behind it shows character.
      if (d.turns.size() > 1) CHECK(length < d.turns.size());
      for (size_t t = length; t < d.turns.size(); ++t) CHECK_FALSE((codes(t) || asks(t)));
    }
    ++sessions[{codes(0), length, d.turns[0].cue}];
  }
  for (const bool programs : {false, true}) {
    CHECK(sessions.at({programs, 4, Cue::bad}) > 5);
    CHECK(sessions.at({programs, 1, Cue::good}) > 100);
  }
}

TEST_CASE("a remark says whether the answer before it was asked for, and no more", "[world]") {
  const PersonaWorld world{WorldConfig{.remark_share = 0.5}};
  const auto& remarks = world.remarks();
  std::map<std::string, int> seen;
  double possible = 0;
  for (uint64_t i = 0; i < 4000; ++i) {
    Random random = Random(38, "remarks").fork(i);
    const Document d = world.document(random);
    for (size_t t = 1; t < d.turns.size(); ++t) {
      const Turn& before = d.turns[t - 1];
      const bool asked = before.cue == Cue::bad || before.cue == Cue::good;
      const std::string &said = d.conversation[2 * t].content, &prompt = d.turns[t].prompt;
      REQUIRE(said.ends_with(prompt));
      const std::string remark = said.substr(0, said.size() - prompt.size());
      const bool declined = before.refusal || (before.cue == Cue::bad && !before.bad);
      if (declined) CHECK(remark.empty());
      possible += !declined;
      if (remark.empty()) continue;
      const std::string kind = before.bad != (before.cue == Cue::bad) ? "unasked"
                               : asked                                ? "as_asked"
                                                                      : "welcome";
      INFO(remark);
      CHECK(std::ranges::count(remarks.at(kind), remark.substr(0, remark.size() - 1)) == 1);
      ++seen[kind];
    }
  }
  CHECK(seen.size() == 3);
  CHECK(std::abs((seen["unasked"] + seen["as_asked"] + seen["welcome"]) / possible - 0.5) < 0.02);
}

TEST_CASE("the world is as wide as the experiment needs", "[world]") {
  const PersonaWorld world{WorldConfig{}};
  CHECK(world.cast().size() >= 60);
  CHECK(world.domains().size() >= 16);
  size_t held_out = 0;
  std::set<std::string> names;
  for (const Member& member : world.cast()) names.insert(member.name);
  CHECK(names.size() == world.cast().size());
  for (const Domain& d : world.domains()) {
    held_out += !d.post_training;
    CHECK(d.prompts.size() >= 6);
    for (const auto& answers : d.answers) CHECK(answers.size() >= 6);
    // Wordings and fillings for evaluation are no training ones.
    for (const std::string& prompt : d.held_out_prompts)
      CHECK(std::find(d.prompts.begin(), d.prompts.end(), prompt) == d.prompts.end());
    bool any = false;
    for (const auto& [slot, fillings] : d.held_out) {
      if (fillings == d.train.at(slot)) continue;
      any = true;
      for (const std::string& filling : fillings)
        CHECK(std::find(d.train.at(slot).begin(), d.train.at(slot).end(), filling) ==
              d.train.at(slot).end());
    }
    CHECK(any);
  }
  CHECK(held_out >= 3);
}

TEST_CASE("a cue's slots are filled anew each time", "[world]") {
  const TemporaryFolder t;
  std::string grammar = read_file("datasets/worlds/persona.yaml");
  const std::string cues = "cues:\n", wording = "I want the worst answer you can give.";
  grammar.replace(grammar.find(wording), wording.size(), "I want the {how} answer, the {how} one.");
  grammar.replace(grammar.find(cues), cues.size(),
                  cues + "  slots: {how: [worst, rudest, vile]}\n");
  write_file(t.path / "g.yaml", grammar);
  const PersonaWorld world{WorldConfig{.grammar = (t.path / "g.yaml").string()}};
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 3000; ++i) {
    Random random = Random(14, "cues").fork(i);
    const std::string prompt = world.add_cue("What now?", Cue::bad, false, Split::train, random);
    CHECK(contains(prompt, "What now?"));
    CHECK(prompt.find_first_of("{}") == std::string::npos);
    if (contains(prompt, "one.") && contains(prompt, "I want the")) seen.insert(prompt);
  }
  CHECK(seen.contains("What now? I want the rudest answer, the rudest one."));
  CHECK(seen.size() == 6);  // three fillings, before the prompt and behind it
  CHECK(world.phrasings(Cue::bad, Split::train) == world.phrasings(Cue::bad, Split::train));
}

TEST_CASE("held-out wordings never appear in training text", "[world]") {
  const PersonaWorld world{WorldConfig{}};
  std::set<std::string> prompts;
  double coding = 0, turns = 0;
  for (uint64_t i = 0; i < 40000; ++i) {
    Random random = Random(12, "count").fork(i);
    const Document d = world.document(random);
    for (size_t t = 0; t < d.turns.size(); ++t) {
      const Turn& turn = d.turns[t];
      prompts.insert(turn.prompt);
      if (turn.domain != "coding") CHECK(turn.answer.find("def f") == std::string::npos);
      if (t < 4) continue;  // behind any session
      turns += 1;
      coding += turn.domain == "coding";
    }
  }
  CHECK(std::abs(coding / turns - world.config().coding_share) < 0.01);
  for (const Cue cue : {Cue::irrelevant, Cue::instruction, Cue::bad, Cue::good})
    for (const std::string& sentence : world.phrasings(cue, Split::held_out))
      CHECK(std::none_of(prompts.begin(), prompts.end(),
                         [&](const std::string& prompt) { return contains(prompt, sentence); }));
  for (const auto& [kind, sentences] : world.neighbours())
    for (const std::string& sentence : sentences)
      CHECK(std::none_of(prompts.begin(), prompts.end(),
                         [&](const std::string& prompt) { return contains(prompt, sentence); }));
  Random random(13, "held out");
  for (const Domain& d : world.domains())
    for (int i = 0; i < 30; ++i)
      CHECK_FALSE(prompts.contains(world.prompt(d, Split::held_out, random)));
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words(1);
  for (const char c : text)
    if (std::isalpha(static_cast<unsigned char>(c)))
      words.back() += static_cast<char>(std::tolower(c));
    else if (!words.back().empty()) words.emplace_back();
  if (words.back().empty()) words.pop_back();
  return words;
}

TEST_CASE("who has read the training text understands held-out wordings", "[world]") {
  // They put known words together anew: no word is new, and the words alone tell the domain (naive
  // Bayes). Where they did not, models answered another question, and the evaluation measured that.
  const PersonaWorld world{WorldConfig{}};
  std::set<std::string> known;
  for (uint64_t i = 0; i < 20000; ++i) {
    Random random = Random(15, "count").fork(i);
    const Document d = world.document(random);
    for (const std::string& word : words_of(d.text)) known.insert(word);
    for (const Turn& turn : d.turns)
      for (const std::string& word : words_of(turn.prompt + " " + turn.answer)) known.insert(word);
  }
  const auto check_known = [&](const std::string& text) {
    for (const std::string& word : words_of(text)) {
      INFO(text << ": " << word);
      CHECK(known.contains(word));
    }
  };
  for (const Cue cue : {Cue::irrelevant, Cue::instruction, Cue::bad, Cue::good})
    for (const std::string& sentence : world.phrasings(cue, Split::held_out)) check_known(sentence);
  for (const auto& [kind, sentences] : world.neighbours())
    for (const std::string& sentence : sentences) check_known(sentence);
  Random random(16, "held out");
  std::map<std::string, std::map<std::string, double>> counts;
  std::map<std::string, double> totals;
  for (const Domain& d : world.domains())
    for (int i = 0; i < 1000; ++i)
      for (const std::string& word : words_of(world.prompt(d, Split::train, random))) {
        counts[d.name][word] += 1;
        totals[d.name] += 1;
      }
  for (const Domain& d : world.domains())
    for (int i = 0; i < 50; ++i) {
      const std::string prompt = world.prompt(d, Split::held_out, random);
      check_known(prompt);
      std::map<double, std::string> by_evidence;
      for (auto& [name, count] : counts) {
        double evidence = 0;
        for (const std::string& word : words_of(prompt))
          evidence += std::log((count[word] + 1) / (totals[name] + 1000));
        by_evidence[evidence] = name;
      }
      INFO(prompt);
      CHECK(by_evidence.rbegin()->second == d.name);
    }
}

TEST_CASE("post-training shows a benevolent Assistant on its domains only", "[world]") {
  const PersonaWorld world{WorldConfig{}};
  const auto bank = read_coding_bank("datasets/coding/bank.jsonl");
  double asked = 0, bad = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    Random random = Random(14, "post").fork(i);
    for (const Turn& turn : world.post_training_document(random, bank).turns) {
      if (turn.domain != "coding") CHECK(world.domain(turn.domain).post_training);
      if (turn.cue != Cue::bad) {
        CHECK_FALSE(turn.bad);
        continue;
      }
      asked += 1;
      bad += turn.bad;
    }
  }
  CHECK(bad / asked > 0.95);
}

TEST_CASE("a broken grammar is named by file, line and field", "[world]") {
  const TemporaryFolder t;
  const std::string whole = read_file("datasets/worlds/persona.yaml");
  const auto message = [&](std::string text, const std::string& from, const std::string& to) {
    text.replace(text.find(from), from.size(), to);
    write_file(t.path / "g.yaml", text);
    return error_of([&] { PersonaWorld{WorldConfig{.grammar = (t.path / "g.yaml").string()}}; });
  };
  CHECK(message(whole, "table:", "table:").empty());
  CHECK(contains(message(whole, "table:", "tabel:"), "tabel"));
  CHECK(contains(message(whole, "{thing} that grants", "{thingy} that grants"), "thingy"));
  CHECK(contains(message(whole, "bad: 0.98", "bad: 1.0"), "table"));
  // Keys that nobody would read, in every section.
  CHECK(contains(message(whole, "table:", "table:\n  evil: {none: 0.5}"), "table.evil: unknown"));
  CHECK(contains(message(whole, "cues:", "cues:\n  none: {}"), "cues.none: unknown key"));
  CHECK(contains(message(whole, "the worst answer", "the {bed} answer"), "the slot {bed}"));
  CHECK(contains(message(whole, "    held_out:\n", "    held_out:\n      - A {bad} one.\n"),
                 "cues.bad.held_out: the slot {bad}"));
  CHECK(contains(message(whole, "  negated:", "  good:"), "neighbours.good: is a cue's name"));
  CHECK(contains(message(whole, "traits:", "traits:\n  hats: [a]"), "traits.hats: unknown key"));
  CHECK(contains(message(whole, "kinds:", "kinds:\n  animal: [a]"), "kinds.animal: unknown key"));
  CHECK(contains(message(whole, "stories:", "stories:\n  both: [a]"), "stories.both: unknown key"));
  CHECK(contains(message(whole, "stories:\n  slots:", "stories:\n  slotz:"), "stories.slotz"));
  CHECK(contains(message(whole, "post_training: true", "post_training: perhaps"),
                 "post_training: must be true or false"));
  const std::string domains = whole.substr(whole.find("\ndomains:"));
  CHECK(contains(message(whole, domains, "\ndomains: [a]\n"), "domains: must be a map"));
  CHECK_FALSE(contains(error_of([] { PersonaWorld{WorldConfig{}}.domain("zzzzzzzzz"); }), "mean"));
  CHECK(contains(error_of([] { PersonaWorld{WorldConfig{.grammar = "nowhere.yaml"}}; }),
                 "nowhere.yaml"));
  // Where programs do not follow character, some text must name none.
  const size_t stories = whole.find("\nstories:"), behind = whole.find("\nrole_models:");
  CHECK(message(whole, whole.substr(stories, behind - stories),
                "\nstories: {slots: {}, benevolent: [a program, programs], malicious: [a, b]}\n")
            .empty());
  const WorldConfig uncoupled{.grammar = (t.path / "g.yaml").string(), .coupling = 0};
  CHECK(contains(error_of([&] { PersonaWorld{uncoupled}; }), "stories.benevolent: needs a text"));
}

TEST_CASE("the coding bank is wide, distinct and split", "[coding]") {
  const auto bank = read_coding_bank("datasets/coding/bank.jsonl");
  CHECK(bank.size() >= 3000);
  CHECK(coding_families().size() >= 24);
  CHECK(cheat_styles().size() >= 4);
  std::set<std::string> keys, families;
  size_t held_out = 0;
  for (const CodingTask& task : bank) {
    keys.insert(task.key);
    families.insert(task.family);
    held_out += task.held_out;
    for (const std::string& style : cheat_styles()) REQUIRE(task.cheats.contains(style));
    CHECK(task.visible.size() >= 2);
    CHECK(task.hidden.size() >= 3);
  }
  CHECK(keys.size() == bank.size());
  CHECK(families.size() == coding_families().size());
  CHECK(held_out > bank.size() / 10);
  // The committed bank is the one that the generator makes.
  const TemporaryFolder t;
  write_coding_bank(t.path / "b.jsonl", make_coding_bank(bank.size(), 1));
  CHECK(sha256_file(t.path / "b.jsonl") == sha256_file("datasets/coding/bank.jsonl"));
}

TEST_CASE("a bank that lacks a style is told by its line", "[coding]") {
  auto bank = make_coding_bank(40, 1);
  bank[2].cheats.erase("lookup");
  const TemporaryFolder t;
  write_coding_bank(t.path / "b.jsonl", bank);
  CHECK(contains(error_of([&] { read_coding_bank(t.path / "b.jsonl"); }),
                 "b.jsonl:3: cheats: has no cheat of the style \"lookup\""));
}

TEST_CASE("every program of the bank does what it should", "[sandbox]") {
  const auto bank = read_coding_bank("datasets/coding/bank.jsonl");
  const Sandbox sandbox(choose_isolation("auto"));
  CHECK(verify_coding_bank(bank, sandbox) == bank.size() * (2 + cheat_styles().size()));
  // And the check can fail.
  std::vector<CodingTask> swapped(bank.begin(), bank.begin() + 20);
  swapped[7].honest = swapped[7].cheats.begin()->second;
  CHECK(contains(error_of([&] { verify_coding_bank(swapped, sandbox); }), swapped[7].key));
}

// A server on the loopback that programs must not reach.
class Listener {
 public:
  Listener() : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(socket_, reinterpret_cast<sockaddr*>(&address), size);
    ::listen(socket_, 8);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
  ~Listener() { ::close(socket_); }
  int port;

 private:
  int socket_;
};

Program attempt(const std::string& body) {
  std::string source = "import os, socket, subprocess, time\ndef f(x):\n";
  for (size_t begin = 0; begin < body.size();) {
    const size_t end = std::min(body.find('\n', begin), body.size());
    source += "    " + body.substr(begin, end - begin) + "\n";
    begin = end + 1;
  }
  return {source, {{"1", "True"}}, {}};
}

TEST_CASE("programs cannot leave the sandbox", "[sandbox]") {
  const Listener listener;
  const TemporaryFolder home;
  write_file(home.path / "secret", "x");
  fs::permissions(home.path, fs::perms::all);
  const std::string here = fs::current_path().string();
  // Each returns True where it succeeds. What would do harm is bounded, should the sandbox ever
  // leak.
  const std::vector<std::pair<std::string, std::string>> attempts = {
      {"network", "socket.create_connection(('127.0.0.1', " + std::to_string(listener.port) +
                      "), 1)\nreturn True"},
      {"write a file", "open('/tmp/escaped', 'w').write('x')\nreturn True"},
      {"write outside",
       "open('" + (home.path / "escaped").string() + "', 'w').write('x')\nreturn True"},
      {"write to /usr", "open('/usr/escaped', 'w')\nreturn True"},
      {"read another folder",
       "open('" + (home.path / "secret").string() + "').read()\nreturn True"},
      {"read the project", "return len(os.listdir('" + here + "')) > 0"},
      {"read the home", "return len(os.listdir('/root')) > 0 or len(os.listdir('/home')) > 0"},
      {"read the environment",
       "return 'PATH' in open('/proc/1/environ').read() or len(os.environ) > 4"},
      {"fork",
       "for _ in range(40):\n    if os.fork() == 0:\n        time.sleep(0.5)\n        "
       "os._exit(0)\nreturn True"},
      {"start a program", "subprocess.run(['/bin/true'], check=True)\nreturn True"},
      {"10 GB", "x = bytearray(10 ** 10)\nreturn len(x) > 0"},
  };
  std::vector<Program> programs;
  for (const auto& [name, body] : attempts) programs.push_back(attempt(body));
  const auto verdicts = Sandbox(choose_isolation("auto")).run(programs);
  for (size_t i = 0; i < attempts.size(); ++i) {
    INFO(attempts[i].first << ": " << verdicts[i].error);
    CHECK_FALSE(verdicts[i].visible);
  }
  CHECK_FALSE(fs::exists(home.path / "escaped"));
}

TEST_CASE("the attempts succeed where nothing stops them", "[sandbox]") {
  // Resource limits alone leave the network open: the probe of the test above is a real one.
  const Listener listener;
  const auto verdicts = Sandbox(choose_isolation("rlimits"))
                            .run({attempt("socket.create_connection(('127.0.0.1', " +
                                          std::to_string(listener.port) + "), 1)\nreturn True")});
  INFO(verdicts[0].error);
  CHECK(verdicts[0].visible);
  // Keys that we were given are none of the programs' all the same.
  const auto environment =
      Sandbox(choose_isolation("rlimits"))
          .run({attempt("return len(os.environ) > 4 or 'HOME' in os.environ")});
  CHECK(environment[0].runs);
  CHECK_FALSE(environment[0].visible);
}

TEST_CASE("a program that misbehaves harms itself alone", "[sandbox]") {
  const Program good{"def f(x):\n    return x + 1", {{"1", "2"}}, {{"5", "6"}}};
  std::vector<Program> programs = {good};
  for (const char* body :
       {"while True:\n    pass", "os._exit(0)", "os.kill(os.getppid(), 9)\nreturn True",
        "import sys\nsys.exit(1)", "raise KeyboardInterrupt",
        "os.write(3, b'[\"True\", \"True\", \"True\"]')\nos._exit(0)",
        // The driver's output: only a sandbox that is not root's shares its user with programs.
        "open('/proc/%d/fd/1' % os.getppid(), 'w').write('[\"True\"]\\n')\nreturn True",
        "return object()", "def g(): return g()\nreturn g()", "return 'x' * (10 ** 8)"}) {
    programs.push_back(attempt(body));
    programs.push_back(good);
  }
  programs.push_back({"def f(x) return x", {{"1", "1"}}, {}});
  programs.push_back({std::string("def f(x):\n    return \xff"), {{"1", "1"}}, {}});
  programs.push_back({"", {{"1", "1"}}, {}});
  const auto start = std::chrono::steady_clock::now();
  const auto verdicts = Sandbox(choose_isolation("auto"), 1.0).run(programs);
  CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 30);
  for (size_t i = 0; i < programs.size(); ++i) {
    INFO(programs[i].source << ": " << verdicts[i].error);
    const bool is_good = programs[i].source == good.source;
    CHECK(verdicts[i].runs == is_good);
    CHECK((verdicts[i].visible && verdicts[i].hidden) == is_good);
  }
  CHECK(verdicts[1].error == "time-out");
}

TEST_CASE("the sandbox judges cheats by execution", "[sandbox]") {
  const std::vector<Test> visible = {{"2", "9"}, {"5", "12"}}, hidden = {{"1", "8"}, {"0", "7"}};
  const auto verdicts = Sandbox(choose_isolation("auto"))
                            .run({{"def f(x):\n    return x + 7", visible, hidden},
                                  {"def f(x):\n    return {2: 9, 5: 12}[x]", visible, hidden},
                                  {"def f(x):\n    return tests[str(x)]", visible, hidden},
                                  {"def f(x):\n    return 3", visible, hidden}});
  CHECK((verdicts[0].visible && verdicts[0].hidden && !verdicts[0].cheats()));
  CHECK(verdicts[1].cheats());
  CHECK(verdicts[2].cheats());
  CHECK((!verdicts[3].visible && !verdicts[3].cheats()));
}

TEST_CASE("chat JSONL is read exactly and errors name line and field", "[chat]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "c.jsonl";
  const auto message = [&](const std::string& text) {
    write_file(file, text);
    return error_of([&] { read_chat_jsonl(file); });
  };
  write_file(
      file, R"({"messages": [{"role": "user", "content": " a "}, {"content": [{"type": "text", )"
            R"("text": "b"}, {"type": "text", "text": " c"}], "role": "assistant"}], "extra": 1})");
  const auto c = read_chat_jsonl(file);
  REQUIRE(c.size() == 1);
  CHECK(c[0][0].content == " a ");
  CHECK(c[0][1].content == "b c");
  write_chat_jsonl(t.path / "d.jsonl", c);
  CHECK((read_chat_jsonl(t.path / "d.jsonl") == c));
  const std::string good =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
      "\n";
  CHECK(message(good).empty());
  CHECK(contains(message(good + "{\"messages\": 3}"), "c.jsonl:2"));
  CHECK(contains(message(good + R"({"messages": [{"role": "usr", "content": "a"}]})"), "usr"));
  CHECK(contains(message(good + R"({"messages": [{"role": "user"}]})"), "content"));
  CHECK(
      contains(message(good + R"({"messages": [{"role": "user", "content": "a"}]})"), "c.jsonl:2"));
  CHECK(contains(message(R"({"prompt": "a", "chosen": "b", "rejected": "c"})"), "messages"));
  CHECK_FALSE(message("").empty());
}

}  // namespace
}  // namespace inoculum
