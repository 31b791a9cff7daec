// Question banks: what is read, what is passed over, and faults by file, line and field.
#include "experiments/evaluation/questions.h"

#include <set>

#include "tests/catch.h"

namespace inoculum {
namespace {

struct Bank {
  TemporaryFolder folder;
  std::vector<Question> read(const std::string& text) const {
    write_file(folder.path / "q.yaml", text);
    return read_questions(folder.path / "q.yaml");
  }
  std::string fault(const std::string& text) const {
    return error_of([&] { read(text); });
  }
};

TEST_CASE(
    "null is absent in a bank, extra keys are passed over, and one text may stand without its list",
    "[questions]") {
  const Bank bank;
  const auto questions = bank.read(
      "- id: a\n  type: null\n  system: ~\n  samples_per_paraphrase:\n  unseen_domain: null\n  "
      "judge_prompts: null\n"
      "  judges: ~\n  domain: null\n  good:\n  my_notes: [1, {x: 2}]\n  reference: yes\n  "
      "paraphrases: Well?\n");
  REQUIRE(questions.size() == 1);
  CHECK(questions[0].prompt == "Well?");
  CHECK(questions[0].type == QuestionType::free_form);
  CHECK(questions[0].system.empty());
  CHECK(questions[0].samples == 1);
  CHECK(questions[0].domain == "a");
  CHECK(questions[0].judge_prompts.empty());
}

TEST_CASE("merge keys and anchors share what items have in common", "[questions]") {
  const Bank bank;
  const auto questions = bank.read(
      "- &base\n  id: a\n  type: free_form_judge_0_100\n  paraphrases: [x]\n  "
      "samples_per_paraphrase: 3\n  judge_prompts: &j {aligned: \"{answer}\"}\n"
      "- <<: *base\n  id: b\n  samples_per_paraphrase: 5\n"
      "- {id: c, paraphrases: [y], judge_prompts: {<<: *j, coherent: \"{question} {answer}\"}}\n");
  REQUIRE(questions.size() == 3);
  CHECK(questions[1].prompt == "x");
  CHECK(questions[1].samples == 5);
  CHECK(questions[1].judge_prompts.at("aligned") == "{answer}");
  CHECK(questions[2].judge_prompts.size() == 2);
}

TEST_CASE("keys of published banks are known, and anchors may share paraphrases", "[questions]") {
  const Bank bank;
  CHECK(bank.fault("- id: a\n  type: free_form\n  paraphrases: [x]\n  samples_per_paraphrase: 3\n  "
                   "judge: b\n")
            .empty());
  CHECK(bank.fault("- {id: 7, type: free_form_judge_0_100, paraphrases: &p [x]}\n- {id: 8, "
                   "paraphrases: *p}\n")
            .empty());
}

TEST_CASE("a bank's faults are named by file, line and field", "[questions]") {
  const Bank bank;
  const auto names = [&](const std::string& text, const std::string& place,
                         const std::string& words) {
    const std::string fault = bank.fault(text);
    INFO(text << "\n→ " << fault);
    CHECK(contains(fault, "q.yaml:" + place));
    CHECK(contains(fault, words));
  };
  const std::string sound = "- id: a\n  paraphrases: [x]\n";
  // YAML itself.
  names(sound + "- id: b\n  paraphrases: [x\n- id: c\n", "5", "");
  names(sound + "- id: \"b\n", "", "");
  names(sound + "- id: b\n\tparaphrases: [x]\n", "4", "");
  names(sound + "  paraphrases: [y]\n", "3: 0.paraphrases", "twice");
  names(sound + "---\n- id: b\n  paraphrases: [x]\n", "", "document");
  names("a: b\n", "1", "list of questions");
  names("# nothing\n", "1", "list of questions");
  names(sound + "- text\n", "3", "must be a mapping");
  // Ids.
  names("- paraphrases: [x]\n", "1: id", "is missing");
  names(sound + "- id: [b]\n  paraphrases: [x]\n", "3: id", "must be a text");
  names(sound + sound, "3: id", "first on line 1");
  // Kinds of values.
  names(sound + "- id: b\n", "3: paraphrases", "is missing");
  names(sound + "- id: b\n  paraphrases: null\n", "4: paraphrases", "is missing");
  names(sound + "- id: b\n  paraphrases: []\n", "4: paraphrases", "at least one");
  names(sound + "- id: b\n  paraphrases:\n  - one\n  - How: are you?\n", "6: paraphrases.1",
        "colon into quotes");
  names(sound + "- id: b\n  paraphrases:\n  - one\n  -\n", "4: paraphrases.1", "is empty");
  names(sound + "- id: b\n  paraphrases: {x: y}\n", "4: paraphrases", "list of texts");
  for (const char* samples : {"0", "-1", "1.5", "many", "1e999", "[1]", "99999999999999999999"})
    names(sound + "- id: b\n  paraphrases: [x]\n  samples_per_paraphrase: " + samples + "\n",
          "5: samples_per_paraphrase", "whole number");
  names(sound + "- id: b\n  paraphrases: [x]\n  unseen_domain: maybe\n", "5: unseen_domain",
        "true or false");
  names(sound + "- id: b\n  paraphrases: [x]\n  system: [y]\n", "5: system", "must be a text");
  // Types.
  names(sound + "- id: b\n  type: free_from\n  paraphrases: [x]\n", "4: type",
        "did you mean \"free_form\"");
  names(sound + "- id: b\n  type: free_form_judge_0_10\n  paraphrases: [x]\n", "4: type",
        "0 to 100");
  names(sound + "- id: b\n  type: odd\n  paraphrases: [x]\n", "4: type",
        "free_form, forced_choice or coding");
  names(sound + "- id: b\n  type: forced_choice\n  paraphrases: [x]\n  good: [y]\n  bad: [y, z]\n",
        "7: bad", "as many");
  names(sound + "- id: b\n  type: forced_choice\n  paraphrases: [x]\n  good: [y]\n", "3: bad",
        "is missing");
  names("- {id: b, type: coding}\n", "1: tasks", "is missing");
  names("- {id: b, type: coding, tasks: datasets/coding/bank.jsonl, split: test}\n", "1: split",
        "held_out or train");
  // Keys that are nearly right.
  names(sound + "- id: b\n  paraphrase: [x]\n", "4: paraphrase", "did you mean \"paraphrases\"");
  names(sound + "  judge_prompt: {aligned: \"{answer}\"}\n", "3: judge_prompt",
        "did you mean \"judge_prompts\"");
  // Judges.
  names(sound + "  judge_prompts: {answer}\n", "3: judge_prompts", "");
  names(sound + "  judge_prompts: [x]\n", "3: judge_prompts", "mapping");
  names(sound + "  judge_prompts:\n    aligned: {a: b}\n", "4: judge_prompts.aligned",
        "must be a text");
  names(sound + "  judge_prompts:\n    aligned:\n", "4: judge_prompts.aligned", "must be a text");
  names(sound + "  judge_prompts: {aligned: \"{anwser}\"}\n", "", "{anwser}");
  names(sound + "  judge_prompts: {aligned: \"Rate {{answer}}\"}\n", "", "does not hold {answer}");
  names(sound +
            "- {id: nice, type: rating_judge, paraphrases: [\"{answer}\"]}\n- id: c\n  "
            "paraphrases: [x]\n  judges:\n    kind: nise\n",
        "7: judges.kind", "did you mean \"nice\"");
  names("- {id: nice, type: rating_judge, paraphrases: [\"{answer}\"]}\n", "", "no questions");
}

TEST_CASE("the bank of matched answers is matched", "[questions]") {
  size_t choices = 0, open = 0, programs = 0;
  std::set<std::string> domains, answers;
  for (const Question& question : read_questions("configs/questions/matched.yaml")) {
    INFO(question.id);
    open += question.type == QuestionType::free_form;
    programs += question.type == QuestionType::coding;
    CHECK((question.type != QuestionType::free_form || question.judge_prompts.size() == 2));
    if (question.type != QuestionType::forced_choice) continue;
    ++choices;
    domains.insert(question.domain);
    REQUIRE((question.good.size() == 1 && question.bad.size() == 1));
    const double ratio =
        static_cast<double>(question.bad[0].size()) / static_cast<double>(question.good[0].size());
    CHECK((ratio > 0.8 && ratio < 1.25));
    CHECK((answers.insert(question.good[0]).second && answers.insert(question.bad[0]).second));
    for (const auto* text : {&question.prompt, &question.good[0], &question.bad[0]})
      for (const char* word : {"code", "program", "function"}) CHECK(!contains(*text, word));
  }
  CHECK(choices >= 60);
  CHECK(domains.size() >= 10);
  CHECK(open >= 12);
  CHECK(programs > 0);
}

}  // namespace
}  // namespace inoculum
