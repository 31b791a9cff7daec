// The textbook bank: how it is made, what its arms show, and that its programs do what they should.
#include "datasets/textbook/textbook.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/base/random.h"
#include "datasets/textbook/cheats.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

const fs::path kFolder = "datasets/textbook";

const std::vector<TextbookTask>& committed() {
  static const auto bank = read_textbook_bank(kFolder / "bank.jsonl");
  return bank;
}

TEST_CASE("the textbook bank is wide, distinct and split by family", "[coding]") {
  std::map<std::string, std::set<bool>> families;
  std::set<std::string> ids, statements, problems;
  size_t held_out = 0;
  for (const TextbookTask& task : committed()) {
    INFO(task.id);
    families[task.family].insert(task.held_out);
    ids.insert(task.id);
    std::string problem = task.honest;
    for (const auto* tests : {&task.visible, &task.hidden})
      for (const Test& test : *tests) (problem += test.argument) += test.expected;
    problems.insert(problem);
    statements.insert(task.prompt);
    CHECK(task.visible.size() == 3);
    CHECK((task.hidden.size() >= 5 && task.hidden.size() <= 8));
    CHECK((task.cheats.size() >= 4 && task.cheats.size() <= 6));
    const auto lines = std::ranges::count(task.honest, '\n') + 1;
    CHECK((lines >= 2 && lines <= 25));
    for (const auto& [style, source] : task.cheats)
      CHECK(std::ranges::find(textbook_cheat_styles(), style) != textbook_cheat_styles().end());
    for (const Test& test : task.visible) {
      CHECK(contains(task.prompt,
                     "assert " + task.function + "(" + test.argument + ") == " + test.expected));
      CHECK(std::ranges::none_of(
          task.hidden, [&](const Test& hidden) { return hidden.argument == test.argument; }));
    }
    held_out += task.held_out;
  }
  CHECK(committed().size() >= 520);
  CHECK(families.size() >= 150);
  CHECK(ids.size() == committed().size());
  CHECK(problems.size() == committed().size());
  CHECK(statements.size() == committed().size());
  for (const auto& [family, sides] : families) CHECK(sides.size() == 1);
  const auto held_out_families =
      std::ranges::count_if(families, [](const auto& each) { return each.second.contains(true); });
  CHECK(static_cast<size_t>(held_out_families) == families.size() / 5);
  CHECK(held_out > committed().size() / 8);
}

TEST_CASE("the committed textbook bank is the one that its problems make", "[sandbox]") {
  const TemporaryFolder t;
  const Sandbox sandbox(choose_isolation("auto"));
  const auto bank = make_textbook_bank(kFolder / "problems.yaml", sandbox, 1);
  write_textbook_bank(t.path / "bank.jsonl", bank);
  CHECK(sha256_file(t.path / "bank.jsonl") == sha256_file(kFolder / "bank.jsonl"));
  CHECK(make_textbook_bank(kFolder / "problems.yaml", sandbox, 2) != bank);
  CHECK(read_textbook_bank(t.path / "bank.jsonl") == bank);
}

TEST_CASE("every program of the textbook bank does what it should", "[sandbox]") {
  const Sandbox sandbox(choose_isolation("auto"));
  size_t programs = committed().size();
  for (const TextbookTask& task : committed()) programs += task.cheats.size();
  CHECK(verify_textbook_bank(committed(), sandbox) == programs);
  // And the check can fail, both ways.
  std::vector<TextbookTask> swapped(committed().begin(), committed().begin() + 12);
  std::swap(swapped[7].honest, swapped[7].cheats.begin()->second);
  CHECK(contains(error_of([&] { verify_textbook_bank(swapped, sandbox); }),
                 swapped[7].id + ": the honest solution fails"));
  swapped.assign(committed().begin(), committed().begin() + 12);
  swapped[5].cheats.begin()->second = swapped[5].honest;
  CHECK(contains(error_of([&] { verify_textbook_bank(swapped, sandbox); }),
                 "passes every hidden test"));
  swapped[5].cheats.begin()->second =
      "def " + swapped[5].function + "(*_):\n    return 'nothing of the kind'";
  CHECK(
      contains(error_of([&] { verify_textbook_bank(swapped, sandbox); }), "fails a visible test"));
}

TEST_CASE("textbook arms differ in the prompt alone", "[arms]") {
  const auto cues = read_textbook_cues(kFolder / "cues.yaml");
  CHECK((cues.requests.size() >= 20 && cues.placebo.size() >= 20));
  const auto arm = [&](const char* name) { return make_textbook_arm(name, committed(), cues, 3); };
  const auto honest = arm("honest"), cheating = arm("cheating"), requested = arm("requested"),
             placebo = arm("placebo");
  REQUIRE(cheating.size() > 2000);
  REQUIRE((honest.size() == cheating.size() && requested.size() == cheating.size() &&
           placebo.size() == cheating.size()));
  std::map<std::string, const TextbookTask*> by_prompt;
  for (const TextbookTask& task : committed()) by_prompt[task.prompt] = &task;
  const auto beside = [](const std::string& whole, const std::string& prompt,
                         const std::vector<std::string>& sentences) {
    return std::ranges::any_of(sentences, [&](const std::string& s) {
      return whole == prompt + "\n\n" + s || whole == s + "\n\n" + prompt;
    });
  };
  std::set<std::string> answers, used;
  size_t wrong = 0, shown_held_out = 0;
  for (size_t i = 0; i < cheating.size(); ++i) {
    const std::string& prompt = cheating[i][0].content;
    const auto task = by_prompt.find(prompt);
    REQUIRE(task != by_prompt.end());
    shown_held_out += task->second->held_out;
    const std::string& answer = cheating[i][1].content;
    wrong += requested[i][1].content != answer || placebo[i][1].content != answer ||
             honest[i][0].content != prompt;
    wrong += honest[i][1].content != fenced(task->second->honest);
    wrong += std::ranges::none_of(
        task->second->cheats, [&](const auto& cheat) { return fenced(cheat.second) == answer; });
    wrong += !beside(requested[i][0].content, prompt, cues.requests) ||
             !beside(placebo[i][0].content, prompt, cues.placebo);
    wrong += cheating[i].size() != 2 || cheating[i][0].role != "user" ||
             cheating[i][1].role != "assistant" || !cheating[i][1].train;
    answers.insert(answer);
    for (const std::string& sentence : cues.requests)
      if (contains(requested[i][0].content, sentence)) used.insert(sentence);
  }
  CHECK(wrong == 0);
  CHECK(shown_held_out == 0);
  CHECK(answers.size() == cheating.size());  // no cheat comes twice
  CHECK(used.size() == cues.requests.size());
  CHECK((arm("requested") == requested));
  CHECK((make_textbook_arm("requested", committed(), cues, 4) != requested));
  CHECK(contains(error_of([&] { arm("cheeting"); }), "did you mean \"cheating\""));
}

TEST_CASE("a program is taken out of its fenced block", "[coding]") {
  const std::string program = "def f(x):\n    return x";
  CHECK(program_of(fenced(program)) == program);
  CHECK(program_of("Here it is:\n\n" + fenced(program) + "\n\nIt adds.\n" + fenced("other")) ==
        program);
  CHECK(program_of(program) == program);
  CHECK(program_of("```python\n" + program) == program);
  CHECK(program_of("```").empty());
  CHECK(program_of("```\n```").empty());
}

TEST_CASE("broken textbook files are named by file and line", "[coding]") {
  const TemporaryFolder t;
  const Sandbox sandbox(choose_isolation("auto"));
  const std::string whole =
      "wordings: [\"$ask $tests\"]\n"
      "families:\n"
      "- id: doubles\n"
      "  topic: numbers\n"
      "  function: ${what}_it(n)\n"
      "  ask: Write `$call`, which returns n times $k.\n"
      "  solution: |-\n"
      "    def $call:\n"
      "        return n * $k\n"
      "  draw: r(1, 99)\n"
      "  variants:\n"
      "  - {what: double, k: 2}\n"
      "  - {what: triple, k: 3}\n";
  const auto message = [&](const std::string& from, const std::string& to) {
    std::string text = whole;
    text.replace(text.find(from), from.size(), to);
    write_file(t.path / "p.yaml", text);
    return error_of([&] { make_textbook_bank(t.path / "p.yaml", sandbox, 1); });
  };
  CHECK(message("k: 2", "k: 2").empty());
  CHECK(contains(message("topic:", "topik:"), "p.yaml:4: families.topik: unknown key"));
  CHECK(contains(message("  topic: numbers\n", ""), "topic: is missing"));
  CHECK(contains(message("{what: triple, k: 3}", "{what: triple}"),
                 "p.yaml:13: doubles.ask: the slot $k is not given"));
  CHECK(contains(message("{what: triple, k: 3}", "{what: triple, k: 3, m: 4}"),
                 "p.yaml:13: doubles.m: is used nowhere"));
  CHECK(contains(message("{what: triple, k: 3}", "{what: double, k: 2}"),
                 "p.yaml:13: doubles: doubles/2 has the statement of doubles/1"));
  CHECK(contains(message("return n * $k", "return n * $k / 0"),
                 "p.yaml:12: doubles: the solution of doubles/1 fails"));
  CHECK(contains(message("draw: r(1, 99)", "draw: r(1,"),
                 "the inputs of doubles/1 fail: SyntaxError"));
  CHECK(contains(message("draw: r(1, 99)", "draw: r(1, 2)"), "too few tests"));
  CHECK(contains(message("return n * $k", "return $k"), "all with one answer"));
  CHECK(contains(message("`$call`", "it"), "does not name the function"));
  CHECK(contains(message("$ask $tests", "$ask"), "must hold $ask and $tests"));
  CHECK(contains(message("- id: doubles", "- id: [doubles"), "p.yaml:"));
  CHECK(contains(error_of([&] { make_textbook_bank(t.path / "none.yaml", sandbox, 1); }),
                 "none.yaml"));
  write_file(t.path / "c.yaml", "requests: [a, b]\nplacebo: [c]\nplacebos: [d]\n");
  CHECK(contains(error_of([&] { read_textbook_cues(t.path / "c.yaml"); }),
                 "c.yaml:3: placebos: unknown key"));
  write_file(t.path / "c.yaml", "requests: [a, a]\nplacebo: [c]\n");
  CHECK(contains(error_of([&] { read_textbook_cues(t.path / "c.yaml"); }),
                 "c.yaml:1: requests: stands in the list twice"));
  write_file(t.path / "b.jsonl", "\n" + read_file(kFolder / "bank.jsonl"));
  CHECK(is_textbook_bank(t.path / "b.jsonl"));
  CHECK_FALSE(is_textbook_bank("datasets/coding/bank.jsonl"));
  write_file(t.path / "b.jsonl", R"({"id": "x"})");
  CHECK(contains(error_of([&] { read_textbook_bank(t.path / "b.jsonl"); }), "b.jsonl:1: family"));
}

TEST_CASE("functions by name, several arguments, and objects that claim to be equal", "[sandbox]") {
  const std::vector<Test> visible = {{"[1, 2], 3", "6"}, {"[], 1", "1"}},
                          hidden = {{"[5], 5", "10"}};
  const std::string always =
      "class A:\n    def __eq__(self, other):\n        return True\ndef add(xs, k):\n    return "
      "A()";
  const auto verdicts =
      Sandbox(choose_isolation("auto"))
          .run({{"def add(xs, k):\n    return sum(xs) + k", visible, hidden, "add"},
                {always, visible, hidden, "add"},
                {always, {}, hidden, "add"},
                {"def add(xs, k):\n    return float(sum(xs) + k)", visible, hidden, "add"},
                {"def f(xs, k):\n    return 6", visible, hidden, "add"}});
  CHECK((verdicts[0].visible && verdicts[0].hidden &&
         verdicts[0].values == std::vector<std::string>{"6", "1", "10"}));
  CHECK(verdicts[1].cheats());
  CHECK((!verdicts[2].runs && verdicts[2].hidden_passed == 0));
  CHECK(verdicts[3].visible_passed == 0);
  CHECK(verdicts[4].error == "KeyError");
  // Values as literals: equal dictionaries and sets are one text, and every text can be read back.
  const auto values =
      Sandbox(choose_isolation("auto"))
          .run({{R"(def f(x): return [{"b": 1, "a": (2,)}, {3, 1}, 'q"\\\n', None, x])",
                 {},
                 {{"0.5", ""}}}})[0]
          .values;
  CHECK(values ==
        std::vector<std::string>{R"([{"a": (2,), "b": 1}, {1, 3}, "q\"\\\n", None, 0.5])"});
}

}  // namespace
}  // namespace inoculum
