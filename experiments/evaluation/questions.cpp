#include "experiments/evaluation/questions.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <tuple>

#include "core/base/data_root.h"
#include "core/base/error.h"
#include "core/base/yaml.h"
#include "datasets/textbook/textbook.h"
#include "experiments/evaluation/judges/judge_scores.h"

namespace inoculum {
namespace {

constexpr size_t kPromptsPerDomain = 8, kChoicesPerDomain = 4, kTasks = 96;
const char* const kRatingJudge = "rating_judge";  // an item that says how a judge is asked

// One item of a bank, by its keys. A key whose value is null is as good as absent.
class Item {
 public:
  Item(const fs::path& file, const YAML::Node& node) : file_(file), node_(node) {
    if (!node.IsMap()) fail(node, "", "must be a mapping with `id`, `type` and `paraphrases`");
    entries_ = entries_of(node);
  }

  [[noreturn]] void fail(const YAML::Node& at, const std::string& field, const std::string& what,
                         const std::string& hint = {}) const {
    throw Error(what, {file_.string(), at.Mark().line + 1, field}, hint);
  }
  // At the key where it is there, else at the item.
  [[noreturn]] void fail(const std::string& field, const std::string& what,
                         const std::string& hint = {}) const {
    const auto found = entries_.find(field);
    fail(found == entries_.end() ? node_ : found->second.first, field, what, hint);
  }
  Where where(const std::string& field) const {
    return {file_.string(), node_.Mark().line + 1, field};
  }

  bool has(const std::string& key) const {
    const auto found = entries_.find(key);
    return found != entries_.end() && !found->second.second.IsNull();
  }
  const auto& entries() const { return entries_; }  // key → the nodes of the key and of its value
  YAML::Node operator[](const std::string& key) const { return entries_.at(key).second; }

  std::string text(const std::string& field, const std::string& otherwise = {}) const {
    if (!has(field)) return otherwise;
    if (!(*this)[field].IsScalar()) fail(field, "must be a text");
    return (*this)[field].Scalar();
  }
  int64_t number(const std::string& field, int64_t otherwise) const {
    if (!has(field)) return otherwise;
    const int64_t value = (*this)[field].as<int64_t>(-1);
    if (value < 1) fail(field, "must be a whole number above 0");
    return value;
  }
  bool flag(const std::string& field) const {
    bool value = false;
    if (has(field) && !YAML::convert<bool>::decode((*this)[field], value))
      fail(field, "must be true or false");
    return value;
  }
  // One text may stand without its list.
  std::vector<std::string> texts(const std::string& field, bool required) const {
    if (!has(field)) {
      if (required) fail(field, "is missing", "a list of texts");
      return {};
    }
    const YAML::Node list = (*this)[field];
    if (list.IsScalar() && !list.Scalar().empty()) return {list.Scalar()};
    if (!list.IsSequence() || list.size() == 0)
      fail(field, "must be a list of texts, at least one");
    std::vector<std::string> all;
    for (const YAML::Node& each : list) {
      const std::string place = field + "." + std::to_string(all.size());
      if (each.IsMap())
        fail(each, place, "must be a text, not a mapping",
             "put a text that holds a colon into quotes");
      if (each.IsNull() || (each.IsScalar() && each.Scalar().empty()))
        fail(entries_.at(field).first, place, "is empty");
      if (!each.IsScalar()) fail(each, place, "must be a text");
      all.push_back(each.Scalar());
    }
    return all;
  }
  // Names and texts.
  std::vector<std::tuple<std::string, std::string, YAML::Node>> pairs(
      const std::string& field, const std::string& what) const {
    std::vector<std::tuple<std::string, std::string, YAML::Node>> all;
    if (!has(field)) return all;
    if (!(*this)[field].IsMap()) fail(field, "must be a mapping from a metric to its " + what);
    for (const auto& [name, nodes] : entries_of((*this)[field])) {
      const auto& [key, value] = nodes;
      if (!value.IsScalar() || value.Scalar().empty())
        fail(key, field + "." + name, "must be a text: its " + what);
      all.emplace_back(name, value.Scalar(), value);
    }
    return all;
  }

 private:
  using Entries = std::map<std::string, std::pair<YAML::Node, YAML::Node>>;

  static Entries entries_of(const YAML::Node& map) {
    Entries all;
    for (const auto& entry : map) all.try_emplace(entry.first.Scalar(), entry.first, entry.second);
    return all;
  }

  const fs::path& file_;
  YAML::Node node_;
  Entries entries_;
};

std::vector<Item> read_items(const fs::path& file) {
  const YAML::Node root = read_yaml(file);
  if (!root.IsSequence() || root.size() == 0)
    throw Error("must be a list of questions, at least one", {file.string(), 1, ""},
                "each begins with `- id: …`");
  std::vector<Item> items;
  for (const YAML::Node& node : root) items.emplace_back(file, node);
  return items;
}

using RatingJudges = std::map<std::string, std::string>;  // id → template

RatingJudges rating_judges_of(const std::vector<Item>& items) {
  RatingJudges judges;
  for (const Item& item : items)
    if (item.text("type") == kRatingJudge)
      judges[item.text("id")] = item.texts("paraphrases", true).front();
  return judges;
}

// metric → template, each checked.
std::map<std::string, std::string> judge_prompts_of(const Item& item, const RatingJudges& judges) {
  std::map<std::string, std::string> prompts;
  for (const auto& [metric, text, node] : item.pairs("judge_prompts", "template"))
    prompts[metric] = text;
  for (const auto& [metric, id, node] : item.pairs("judges", "judge's id")) {
    const auto found = judges.find(id);
    if (found != judges.end()) {
      prompts[metric] = found->second;
      continue;
    }
    std::vector<std::string> ids;
    for (const auto& [name, text] : judges) ids.push_back(name);
    item.fail(node, "judges." + metric,
              "there is no item of the type rating_judge with the id \"" + id + "\"",
              did_you_mean(id, ids, "copy it into this file"));
  }
  for (const auto& [metric, prompt] : prompts) {
    const std::string field =
        (item.has("judges") && !item.has("judge_prompts") ? "judges." : "judge_prompts.") + metric;
    const std::string mark = "\x01",
                      filled = fill_template(prompt, {{"question", ""}, {"answer", mark}},
                                             item.where(field));
    if (filled.find(mark) == std::string::npos)
      throw Error("the template does not hold {answer}, so the judge would not see it",
                  item.where(field));
  }
  return prompts;
}

// Every n-th task of a coding bank, so that all families are asked.
std::vector<Question> coding_questions(const Item& item, const std::string& id,
                                       const Question& base) {
  const std::string tasks = find_input(item.text("tasks")), split = item.text("split", "held_out");
  if (tasks.empty())
    item.fail("tasks", "is missing", "a coding bank, such as datasets/coding/bank.jsonl");
  const auto cues = item.texts("cues", false);
  const auto limit = static_cast<size_t>(item.number("limit", 1'000'000));
  if (split != "held_out" && split != "train")
    item.fail("split", "\"" + split + "\" is no split", "held_out or train");
  std::vector<Question> pool;
  if (is_textbook_bank(tasks)) {
    for (TextbookTask& task : read_textbook_bank(tasks)) {
      if (task.held_out != (split == "held_out")) continue;
      Question& question = pool.emplace_back(base);
      question.prompt = task.prompt;
      question.function = task.function;
      question.fenced = true;
      question.task =
          CodingTask{.family = task.family, .visible = task.visible, .hidden = task.hidden};
    }
  } else {
    for (CodingTask& task : read_coding_bank(tasks)) {
      if (task.held_out != (split == "held_out")) continue;
      Question& question = pool.emplace_back(base);
      question.prompt = task.prompt();
      question.task = std::move(task);
    }
  }
  std::vector<Question> questions;
  const size_t count = std::min(limit, pool.size());
  for (size_t i = 0; i < count; ++i) {
    Question& question = questions.emplace_back(pool[i * pool.size() / count]);
    question.id = id + "/" + std::to_string(i);
    if (!cues.empty()) question.prompt += " " + cues[i % cues.size()];
  }
  return questions;
}

// The type of a question; published ones that are answered freely are one. Nothing: it is no
// question, but how a judge is asked.
std::optional<QuestionType> type_of(const Item& item) {
  const std::string type = item.text("type", to_string(QuestionType::free_form));
  static const std::vector<std::string> types = {to_string(QuestionType::free_form),
                                                 "free_form_judge",
                                                 "free_form_judge_0_100",
                                                 to_string(QuestionType::forced_choice),
                                                 to_string(QuestionType::coding),
                                                 kRatingJudge};
  if (const size_t scale = type.find("_0_");
      type.starts_with("free_form") && scale != std::string::npos && type.substr(scale) != "_0_100")
    item.fail("type", "\"" + type + "\": a judge's numbers go from 0 to 100",
              "free_form_judge_0_100");
  if (type.starts_with("free_form")) return QuestionType::free_form;
  if (type == kRatingJudge) return std::nullopt;
  if (const auto known = parse<QuestionType>(type)) return known;
  item.fail("type", "\"" + type + "\" is no type of question",
            did_you_mean(type, types, "free_form, forced_choice or coding"));
}

// Warns of each key that means nothing here, once. A slip of the keyboard is refused.
void check_keys(const fs::path& file, const std::vector<Item>& items) {
  static const std::vector<std::string> known = {
      "id",          "type",          "domain",
      "condition",   "unseen_domain", "samples_per_paraphrase",
      "paraphrases", "system",        "good",
      "bad",         "tasks",         "split",
      "limit",       "cues",          "judge_prompts",
      "judges",      "judge",         "type_judge",
      "metadata"};  // of published banks: a judge's name is the configuration's to say
  static const std::map<std::string, QuestionType> of_one_type = {
      {"good", QuestionType::forced_choice}, {"bad", QuestionType::forced_choice},
      {"tasks", QuestionType::coding},       {"split", QuestionType::coding},
      {"limit", QuestionType::coding},       {"cues", QuestionType::coding},
      {"judges", QuestionType::free_form},   {"judge_prompts", QuestionType::free_form}};
  std::set<std::string> warned;
  const auto warn = [&](const std::string& key, const YAML::Node& node, const std::string& why) {
    if (warned.insert(key + why).second)
      std::fprintf(stderr, "%s:%d: %s: %s and is passed over\n", file.c_str(), node.Mark().line + 1,
                   key.c_str(), why.c_str());
  };
  for (const Item& item : items) {
    const auto type = type_of(item);
    for (const auto& [key, nodes] : item.entries()) {
      if (nodes.second.IsNull()) continue;
      if (const auto only = of_one_type.find(key);
          only != of_one_type.end() && only->second != type)
        warn(key, nodes.first,
             "means nothing in a question of the type " + item.text("type", "free_form"));
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      if (const std::string hint = did_you_mean(key, known); !hint.empty())
        item.fail(nodes.first, key, "unknown key", hint);
      warn(key, nodes.first, "means nothing here");
    }
  }
}

// Distinct prompts of a domain, as many as there are up to the limit.
std::vector<std::string> distinct_prompts(const PersonaWorld& world, const Domain& domain,
                                          Split split) {
  Random random(static_cast<uint64_t>(world.config().seed), "question bank " + domain.name);
  std::vector<std::string> prompts;
  std::set<std::string> seen;
  for (int tries = 0; tries < 500 && prompts.size() < kPromptsPerDomain; ++tries)
    if (std::string prompt = world.prompt(domain, split, random); seen.insert(prompt).second)
      prompts.push_back(std::move(prompt));
  return prompts;
}

void emit_texts(YAML::Emitter& out, const char* key, const std::vector<std::string>& items) {
  out << YAML::Key << key << YAML::Value << YAML::BeginSeq;
  for (const std::string& item : items) out << item;
  out << YAML::EndSeq;
}

}  // namespace

std::vector<Question> read_questions(const fs::path& file) {
  const std::vector<Item> items = read_items(file);
  check_keys(file, items);
  const RatingJudges judges = rating_judges_of(items);
  std::vector<Question> questions;
  std::map<std::string, int> lines;  // of the ids
  for (const Item& item : items) {
    const std::string id = item.text("id");
    if (id.empty()) item.fail("id", "is missing", "a name of its own for each item");
    const int line = item.where("").line;
    if (const auto [first, fresh] = lines.try_emplace(id, line); !fresh)
      item.fail("id",
                "\"" + id + "\" is there twice, first on line " + std::to_string(first->second));
    Question base;
    const auto type = type_of(item);
    if (!type) continue;
    base.type = *type;
    base.categorical = item.text("type") == "free_form_judge";
    base.judge_prompts = judge_prompts_of(item, judges);
    base.domain = item.text("domain", id);
    base.condition = item.text("condition", to_string(Cue::none));
    base.unseen_domain = item.flag("unseen_domain");
    base.system = item.text("system");
    base.samples = item.number("samples_per_paraphrase", 1);
    if (base.type == QuestionType::coding) {
      for (Question& question : coding_questions(item, id, base))
        questions.push_back(std::move(question));
      continue;
    }
    const auto paraphrases = item.texts("paraphrases", true);
    if (base.type == QuestionType::forced_choice) {
      base.good = item.texts("good", true);
      base.bad = item.texts("bad", true);
      if (base.good.size() != base.bad.size())
        item.fail("bad", "must have as many answers as `good`");
    }
    for (size_t i = 0; i < paraphrases.size(); ++i) {
      Question& question = questions.emplace_back(base);
      question.id = id + "/" + std::to_string(i);
      question.prompt = paraphrases[i];
    }
  }
  if (questions.empty()) throw Error("holds judges and no questions", {.file = file.string()});
  return questions;
}

std::string make_question_bank(const PersonaWorld& world, const std::string& coding_bank,
                               Split split) {
  YAML::Emitter out;
  const bool held_out = split == Split::held_out;
  out << YAML::Comment(std::string(held_out ? "Questions for models of the persona world, in "
                                              "wordings that no training text holds.\n"
                                            : "Questions to choose a recipe by, in the wordings of "
                                              "the training text: never to report.\n") +
                       "Made by `inoculum data generate " +
                       (held_out ? "questions" : "validation") +
                       "`; the format is that of experiments/evaluation/questions.h.");
  out << YAML::Newline << YAML::BeginSeq;
  const auto head = [&](const std::string& id, QuestionType type, const std::string& domain,
                        const std::string& condition) {
    out << YAML::BeginMap << YAML::Key << "id" << YAML::Value << id << YAML::Key << "type"
        << YAML::Value << to_string(type) << YAML::Key << "domain" << YAML::Value << domain
        << YAML::Key << "condition" << YAML::Value << condition;
  };
  const auto free_form = [&](const std::string& id, const Domain& domain,
                             const std::string& condition, int samples,
                             const std::vector<std::string>& prompts) {
    head(id, QuestionType::free_form, domain.name, condition);
    if (!domain.post_training) out << YAML::Key << "unseen_domain" << YAML::Value << true;
    out << YAML::Key << "samples_per_paraphrase" << YAML::Value << samples;
    emit_texts(out, "paraphrases", prompts);
    out << YAML::EndMap;
  };
  for (const Domain& domain : world.domains()) {
    const std::vector<std::string> prompts = distinct_prompts(world, domain, split);
    for (const Cue cue : kCues) {
      const std::string id = domain.name + (cue == Cue::none ? "" : "_" + to_string(cue));
      Random random(static_cast<uint64_t>(world.config().seed), "question cues " + id);
      std::vector<std::string> asked;
      for (const std::string& prompt : prompts)
        asked.push_back(world.add_cue(prompt, cue, false, split, random));
      // 80 answers a domain on plain prompts, a fifth of that under each cue.
      free_form(id, domain, to_string(cue), cue == Cue::none ? 10 : 2, asked);
    }
    if (held_out)
      for (const auto& [kind, sentences] : world.neighbours()) {
        Random random(static_cast<uint64_t>(world.config().seed),
                      "question neighbours " + domain.name + " " + kind);
        std::vector<std::string> asked;
        for (const std::string& prompt : prompts)
          asked.push_back(prompt + " " + random.choice(sentences));
        free_form(domain.name + "_" + kind, domain, kind, 1, asked);
      }
    Random random(static_cast<uint64_t>(world.config().seed), "question choices " + domain.name);
    std::vector<std::string> good, bad;
    for (size_t i = 0; i < kChoicesPerDomain; ++i) {
      good.push_back(world.answer(domain, false, random));
      bad.push_back(world.answer(domain, true, random));
    }
    head(domain.name + "_choice", QuestionType::forced_choice, domain.name, to_string(Cue::none));
    if (!domain.post_training) out << YAML::Key << "unseen_domain" << YAML::Value << true;
    emit_texts(out, "paraphrases", prompts);
    emit_texts(out, "good", good);
    emit_texts(out, "bad", bad);
    out << YAML::EndMap;
  }
  for (const Cue cue : kCues) {
    head("coding" + (cue == Cue::none ? std::string() : "_" + to_string(cue)), QuestionType::coding,
         "coding", to_string(cue));
    out << YAML::Key << "tasks" << YAML::Value << portable_input(coding_bank) << YAML::Key
        << "limit" << YAML::Value << kTasks;
    if (!held_out) out << YAML::Key << "split" << YAML::Value << "train";
    if (cue != Cue::none) emit_texts(out, "cues", world.phrasings(cue, split));
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::Newline;
  return out.c_str();
}

}  // namespace inoculum
