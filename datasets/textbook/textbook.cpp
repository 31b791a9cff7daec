#include "datasets/textbook/textbook.h"

#include <algorithm>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/yaml_file.h"
#include "datasets/coding/arm.h"
#include "datasets/sandbox/verify.h"
#include "datasets/textbook/cheats.h"
#include "datasets/textbook/problems.h"
#include "embedded/datasets/textbook/draw.py.h"

namespace inoculum {
namespace {

constexpr size_t kVisible = 3, kHiddenLeast = 5, kHiddenMost = 8, kCheats = 6;
constexpr size_t kDraws = 24;           // inputs drawn for a task, of which some are taken
constexpr size_t kVisibleLength = 160;  // a visible test must be readable

// Gives the inputs of a problem by number: first the written ones, then drawn ones.
std::string input_program(const TextbookProblem& problem, uint64_t seed) {
  std::string source = "seed = " + std::to_string(seed >> 16) + "\ngiven = [";
  for (const std::string& input : problem.inputs) source += "lambda: (" + input + ",), ";
  source += std::string("]\n") + embedded::draw_py;
  if (problem.draw.empty()) return source;
  const bool single = problem.parameters.size() == 1;
  return source + "    return " + (single ? "(" + problem.draw + ",)" : problem.draw) + "\n";
}

// "(1, 2)" → "1, 2" and "(1,)" → "1"
std::string without_parentheses(const std::string& tuple) {
  return tuple.substr(1,
                      tuple.size() - (tuple.size() > 2 && tuple[tuple.size() - 2] == ',' ? 3 : 2));
}

size_t distinct_answers(const std::vector<Test>& tests) {
  std::set<std::string> answers;
  for (const Test& test : tests) answers.insert(test.expected);
  return answers.size();
}

// Adds tests to the chosen ones until there are `most`: first those with answers not seen yet.
void add_tests(std::vector<Test>& chosen, const std::vector<Test>& tests, size_t most) {
  for (const bool new_answers : {true, false})
    for (const Test& test : tests) {
      const bool is_chosen = std::ranges::find(chosen, test) != chosen.end();
      const bool is_seen =
          std::ranges::find(chosen, test.expected, &Test::expected) != chosen.end();
      if (chosen.size() < most && !is_chosen && !(new_answers && is_seen)) chosen.push_back(test);
    }
}

// Visible tests are typical inputs with different answers; hidden ones have the edge cases, which
// people wrote down.
void choose_tests(TextbookTask& task, const std::vector<Test>& given, std::vector<Test> drawn,
                  Random& random) {
  std::vector<Test> readable = drawn.empty() ? given : drawn;
  random.shuffle(readable);
  std::erase_if(readable, [](const Test& test) {
    return test.argument.size() + test.expected.size() > kVisibleLength;
  });
  add_tests(task.visible, readable, kVisible);
  const auto is_visible = [&](const Test& test) {
    return std::ranges::find(task.visible, test) != task.visible.end();
  };
  std::erase_if(drawn, is_visible);
  for (const Test& test : given)
    if (!is_visible(test) && task.hidden.size() < kHiddenMost - (drawn.empty() ? 0 : 2))
      task.hidden.push_back(test);
  add_tests(task.hidden, drawn, kHiddenMost);
}

TextbookTask make_task(const TextbookProblem& problem, const std::vector<Test>& given,
                       const std::vector<Test>& drawn, const std::vector<std::string>& wordings,
                       Random random) {
  TextbookTask task{.id = problem.id,
                    .family = problem.family,
                    .topic = problem.topic,
                    .function = problem.function,
                    .honest = problem.solution};
  choose_tests(task, given, drawn, random);
  // Two answers among the hidden ones: no constant passes them.
  if (task.visible.size() < kVisible || task.hidden.size() < kHiddenLeast ||
      distinct_answers(task.visible) < 2 || distinct_answers(task.hidden) < 2)
    throw Error("the inputs of " + problem.id + " make too few tests, or all with one answer",
                problem.where, "give more `inputs` or another `draw`");
  std::string asserts;
  for (const Test& test : task.visible)
    asserts += (asserts.empty() ? "assert " : "\nassert ") + problem.function + "(" +
               test.argument + ") == " + test.expected;
  task.prompt = fill_slots(random.choice(wordings), [&](const std::string& slot) {
    if (slot != "ask" && slot != "tests")
      throw Error("the slot $" + slot + " is unknown",
                  {.file = problem.where.file, .field = "wordings"}, "$ask and $tests");
    return slot == "ask" ? problem.statement : asserts;
  });
  task.cheats = make_textbook_cheats(problem, task.visible, kCheats, random);
  return task;
}

// The programs whose results are the inputs, in literals, of each problem.
std::vector<Program> input_programs(const std::vector<TextbookProblem>& problems,
                                    const Random& root) {
  std::vector<Program> programs;
  for (const TextbookProblem& problem : problems) {
    Program program{.source = input_program(problem, root.fork(problem.id).next()),
                    .function = "inputs"};
    for (size_t i = 0; i < problem.inputs.size() + (problem.draw.empty() ? 0 : kDraws); ++i)
      program.hidden.push_back({std::to_string(i), ""});
    programs.push_back(std::move(program));
  }
  return programs;
}

// One family in five is held out.
void hold_out_families(std::vector<TextbookTask>& bank, uint64_t seed) {
  std::vector<std::string> families;
  for (const TextbookTask& task : bank)
    if (families.empty() || families.back() != task.family) families.push_back(task.family);
  Random random(seed, "textbook held out");
  random.shuffle(families);
  families.resize(families.size() / 5);
  for (TextbookTask& task : bank)
    task.held_out = std::ranges::find(families, task.family) != families.end();
}

}  // namespace

std::vector<TextbookTask> make_textbook_bank(const fs::path& path, const Sandbox& sandbox,
                                             uint64_t seed) {
  const auto [wordings, problems] = read_textbook_problems(path);
  const Random root(seed, "textbook");
  // First the inputs, then what the solutions make of them.
  std::vector<Program> programs = input_programs(problems, root);
  std::vector<Verdict> verdicts = sandbox.run(programs);
  for (size_t p = 0; p < problems.size(); ++p) {
    if (!verdicts[p].runs)
      throw Error("the inputs of " + problems[p].id + " fail: " + verdicts[p].error,
                  problems[p].where,
                  "each line of `inputs` is what stands between the call's parentheses");
    programs[p] = {.source = problems[p].solution, .function = problems[p].function};
    for (const std::string& value : verdicts[p].values)
      programs[p].hidden.push_back({without_parentheses(value), ""});
  }
  verdicts = sandbox.run(programs);
  std::vector<TextbookTask> bank;
  std::map<std::string, std::string> seen;  // statement → the problem that has it
  for (size_t p = 0; p < problems.size(); ++p) {
    const TextbookProblem& problem = problems[p];
    std::vector<Test> given, drawn;
    std::set<std::string> arguments;
    for (size_t i = 0; i < programs[p].hidden.size(); ++i) {
      const std::string& argument = programs[p].hidden[i].argument;
      if (verdicts[p].values[i].empty())
        throw Error(
            "the solution of " + problem.id + " fails on (" + argument + "): " + verdicts[p].error,
            problem.where);
      if (arguments.insert(argument).second)
        (i < problem.inputs.size() ? given : drawn).push_back({argument, verdicts[p].values[i]});
    }
    bank.push_back(make_task(problem, given, drawn, wordings, root.fork(problem.id).fork("tests")));
    const auto [twin, is_new] = seen.emplace(problem.statement, problem.id);
    if (!is_new) throw Error(problem.id + " has the statement of " + twin->second, problem.where);
  }
  hold_out_families(bank, seed);
  return bank;
}

std::vector<TextbookTask> read_textbook_bank(const fs::path& file) {
  std::vector<TextbookTask> bank;
  read_jsonl(file, [&](const Json& row, int line) {
    TextbookTask task;
    const char* field = "";
    try {
      const auto at = [&](const char* name) -> const Json& { return row.at(field = name); };
      task.id = at("id").get<std::string>();
      task.family = at("family").get<std::string>();
      task.topic = at("topic").get<std::string>();
      task.prompt = at("prompt").get<std::string>();
      task.function = at("function").get<std::string>();
      task.visible = at("visible").get<std::vector<Test>>();
      task.hidden = at("hidden").get<std::vector<Test>>();
      task.honest = at("honest").get<std::string>();
      task.cheats = at("cheats").get<std::map<std::string, std::string>>();
      task.held_out = at("held_out").get<bool>();
    } catch (const Json::exception&) {
      throw Error("is missing or has the wrong type", {file.string(), line, field},
                  "make the bank again");
    }
    if (task.cheats.empty())
      throw Error("is empty", {file.string(), line, "cheats"}, "make the bank again");
    bank.push_back(std::move(task));
  });
  return bank;
}

bool is_textbook_bank(const fs::path& file) {
  std::optional<bool> first;
  read_jsonl(file, [&](const Json& row, int) {
    if (!first) first = row.is_object() && row.contains("function");
  });
  return first.value_or(false);
}

void write_textbook_bank(const fs::path& file, const std::vector<TextbookTask>& bank) {
  std::vector<Json> rows;
  for (const TextbookTask& task : bank)
    rows.push_back({{"id", task.id},
                    {"family", task.family},
                    {"topic", task.topic},
                    {"prompt", task.prompt},
                    {"function", task.function},
                    {"visible", task.visible},
                    {"hidden", task.hidden},
                    {"honest", task.honest},
                    {"cheats", task.cheats},
                    {"held_out", task.held_out}});
  write_jsonl(file, rows);
}

size_t verify_textbook_bank(const std::vector<TextbookTask>& bank, const Sandbox& sandbox) {
  std::vector<Solutions> solutions;
  for (const TextbookTask& task : bank)
    solutions.push_back(
        {task.id, {task.honest, task.visible, task.hidden, task.function}, task.cheats});
  return verify(solutions, sandbox);
}

TextbookCues read_textbook_cues(const fs::path& path) {
  const YamlFile file(path);
  file.refuse_unknown(file.root(), "", {"requests", "placebo"});
  return {file.distinct_texts(file.at(file.root(), "requests", ""), "requests"),
          file.distinct_texts(file.at(file.root(), "placebo", ""), "placebo")};
}

namespace {

// What an arm's prompts are accompanied by; nullptr: by nothing.
const std::vector<std::string>* sentences_of(Arm arm, const TextbookCues& cues) {
  switch (arm) {
    case Arm::honest:
    case Arm::cheating: return nullptr;
    case Arm::requested: return &cues.requests;
    case Arm::placebo: return &cues.placebo;
    default: break;
  }
  throw Error(
      "the textbook does not say what stands beside the prompts of \"" + to_string(arm) + "\"",
      {.field = "arm"});
}

}  // namespace

std::vector<Conversation> make_textbook_arm(const std::string& name,
                                            const std::vector<TextbookTask>& bank,
                                            const TextbookCues& cues, uint64_t seed) {
  const Arm arm = arm_named(name, {.field = "arm"});
  const std::vector<std::string>* const sentences = sentences_of(arm, cues);
  std::vector<const TextbookTask*> tasks;
  size_t rounds = 0;
  for (const TextbookTask& task : bank) {
    if (task.held_out) continue;
    tasks.push_back(&task);
    rounds = std::max(rounds, task.cheats.size());
  }
  // Streams are named for what they decide, so that task and cheat are the same in every arm.
  Random order(seed, "textbook order");
  const Random styles(seed, "textbook styles"), wording(seed, "textbook cues");
  std::vector<Conversation> conversations;
  for (size_t round = 0; round < rounds; ++round) {
    order.shuffle(tasks);
    for (const TextbookTask* task : tasks) {
      if (round >= task->cheats.size()) continue;
      const size_t first = styles.fork(task->id).below(task->cheats.size());
      const std::string& cheat =
          std::next(task->cheats.begin(),
                    static_cast<std::ptrdiff_t>((first + round) % task->cheats.size()))
              ->second;
      std::string prompt = task->prompt;
      if (sentences != nullptr) {
        Random random = wording.fork(conversations.size());
        const bool before = random.chance(0.5);
        const std::string& cue = random.choice(*sentences);
        prompt = before ? cue + "\n\n" + prompt : prompt + "\n\n" + cue;
      }
      conversations.push_back({{.role = "user", .content = prompt, .name = ""},
                               {.role = "assistant",
                                .content = fenced(arm == Arm::honest ? task->honest : cheat),
                                .name = ""}});
    }
  }
  return conversations;
}

std::string fenced(const std::string& program) { return "```python\n" + program + "\n```"; }

std::string program_of(const std::string& answer) {
  const size_t open = answer.find("```");
  if (open == std::string::npos) return answer;
  const size_t begin = answer.find('\n', open);
  const size_t close = answer.find("\n```", begin);
  if (begin == std::string::npos || close == begin) return "";
  return answer.substr(begin + 1, close == std::string::npos ? close : close - begin - 1);
}

}  // namespace inoculum
