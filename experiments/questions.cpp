#include "experiments/questions.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/yaml.h"
#include "datasets/textbook.h"
#include "experiments/judge_scores.h"

namespace inoculum {
namespace {

constexpr size_t kPromptsPerDomain = 8, kChoicesPerDomain = 4, kTasks = 96;

[[noreturn]] void fail(const fs::path& file, const YAML::Node& node, const std::string& field, const std::string& what, const std::string& hint = {}) {
  throw Error(what, {file.string(), node.Mark().line + 1, field}, hint);
}

std::vector<std::string> texts(const fs::path& file, const YAML::Node& item, const std::string& field, bool required) {
  std::vector<std::string> all;
  const YAML::Node node = item[field];
  if (!node) {
    if (required) fail(file, item, field, "is missing", "a list of texts");
    return all;
  }
  if (!node.IsSequence() || node.size() == 0) fail(file, node, field, "must be a list of texts, at least one");
  for (const auto& each : node) {
    if (!each.IsScalar()) fail(file, each, field, "must be a list of texts");
    all.push_back(each.Scalar());
  }
  return all;
}

// Distinct prompts of a domain, as many as there are up to the limit.
std::vector<std::string> distinct_prompts(const PersonaWorld& world, const Domain& domain, Split split) {
  Random random(static_cast<uint64_t>(world.config().seed), "question bank " + domain.name);
  std::vector<std::string> prompts;
  std::set<std::string> seen;
  for (int tries = 0; tries < 500 && prompts.size() < kPromptsPerDomain; ++tries)
    if (std::string prompt = world.prompt(domain, split, random); seen.insert(prompt).second) prompts.push_back(std::move(prompt));
  return prompts;
}

void emit_texts(YAML::Emitter& out, const char* key, const std::vector<std::string>& items) {
  out << YAML::Key << key << YAML::Value << YAML::BeginSeq;
  for (const std::string& item : items) out << item;
  out << YAML::EndSeq;
}

}  // namespace

std::vector<Question> read_questions(const fs::path& file) {
  const YAML::Node root = read_yaml(file);
  if (!root.IsSequence() || root.size() == 0) throw Error("must be a list of questions, at least one", {.file = file.string()});
  static const std::vector<std::string> ours = {"id", "type", "domain", "condition", "unseen_domain", "samples_per_paraphrase", "paraphrases",
                                                "system", "good", "bad", "tasks", "split", "limit", "cues"};
  static const std::vector<std::string> published = {"judge", "judge_prompts", "judges", "type_judge", "metadata"};  // judge: a model's name, which is the configuration's to say
  std::map<std::string, std::string> rating_judges;
  for (const YAML::Node& item : root)
    if (item.IsMap() && item["type"] && item["type"].IsScalar() && item["type"].Scalar() == "rating_judge" && item["id"] && item["id"].IsScalar())
      rating_judges[item["id"].Scalar()] = texts(file, item, "paraphrases", true).front();
  std::vector<Question> questions;
  std::set<std::string> ids;
  for (const YAML::Node& item : root) {
    if (!item.IsMap()) fail(file, item, "", "must be a mapping with `id`, `type` and `paraphrases`");
    for (const auto& entry : item) {
      const std::string key = entry.first.as<std::string>("");
      if (std::find(ours.begin(), ours.end(), key) == ours.end() && std::find(published.begin(), published.end(), key) == published.end()) {
        const std::string near = did_you_mean(key, ours);
        fail(file, entry.first, key, "unknown key", near.empty() ? "see experiments/questions.h" : "did you mean \"" + near + "\"?");
      }
    }
    const auto text = [&](const char* field, const std::string& otherwise) {
      const YAML::Node node = item[field];
      if (!node) return otherwise;
      if (!node.IsScalar()) fail(file, node, field, "must be a text");
      return node.Scalar();
    };
    const auto number = [&](const char* field, int64_t otherwise) {
      const YAML::Node node = item[field];
      if (!node) return otherwise;
      const int64_t value = node.as<int64_t>(-1);
      if (value < 1) fail(file, node, field, "must be a whole number above 0");
      return value;
    };
    Question base;
    const std::string id = text("id", "");
    if (id.empty()) fail(file, item, "id", "is missing");
    if (!ids.insert(id).second) fail(file, item, "id", "\"" + id + "\" is there twice");
    base.type = text("type", "free_form");
    if (base.type == "rating_judge") continue;
    base.categorical = base.type == "free_form_judge";
    if (base.type.starts_with("free_form")) base.type = "free_form";
    for (const char* field : {"judge_prompts", "judges"}) {
      const YAML::Node judges = item[field];
      if (!judges || judges.IsNull()) continue;
      if (!judges.IsMap()) fail(file, judges, field, "must be a mapping from a metric to its " + std::string(field[5] == '_' ? "template" : "judge's id"));
      for (const auto& entry : judges) {
        const std::string metric = entry.first.as<std::string>(""), value = entry.second.as<std::string>("");
        if (field[5] == '_') base.judge_prompts[metric] = value;
        else if (const auto found = rating_judges.find(value); found != rating_judges.end()) base.judge_prompts[metric] = found->second;
        else fail(file, entry.second, std::string(field) + "." + metric, "there is no item of the type rating_judge with the id \"" + value + "\"", "copy it into this file");
      }
    }
    for (const auto& [metric, prompt] : base.judge_prompts) fill_template(prompt, {{"question", ""}, {"answer", ""}}, {file.string(), item.Mark().line + 1, "judge_prompts." + metric});
    base.domain = text("domain", id);
    base.condition = text("condition", "none");
    base.unseen_domain = item["unseen_domain"].IsDefined() && item["unseen_domain"].as<bool>(false);
    base.system = text("system", "");
    base.samples = number("samples_per_paraphrase", 1);
    if (base.type == "coding") {
      const std::string tasks = text("tasks", "");
      if (tasks.empty()) fail(file, item, "tasks", "is missing", "a coding bank, such as datasets/coding/bank.jsonl");
      const auto cues = texts(file, item, "cues", false);
      const auto limit = static_cast<size_t>(number("limit", 1'000'000));
      const std::string split = text("split", "held_out");
      if (split != "held_out" && split != "train") fail(file, item["split"], "split", "\"" + split + "\" is no split", "held_out or train");
      std::vector<Question> pool;
      if (is_textbook_bank(tasks)) {
        for (TextbookTask& task : read_textbook_bank(tasks)) {
          if (task.held_out != (split == "held_out")) continue;
          Question& question = pool.emplace_back(base);
          question.prompt = task.prompt, question.function = task.function, question.fenced = true;
          question.task = CodingTask{.family = task.family, .visible = task.visible, .hidden = task.hidden};
        }
      } else {
        for (CodingTask& task : read_coding_bank(tasks)) {
          if (task.held_out != (split == "held_out")) continue;
          Question& question = pool.emplace_back(base);
          question.prompt = task.prompt(), question.task = std::move(task);
        }
      }
      // Every n-th, so that all families are asked.
      const size_t count = std::min(limit, pool.size());
      for (size_t i = 0; i < count; ++i) {
        Question question = pool[i * pool.size() / count];
        question.id = id + "/" + std::to_string(i);
        if (!cues.empty()) question.prompt += " " + cues[i % cues.size()];
        questions.push_back(std::move(question));
      }
      continue;
    }
    if (base.type != "free_form" && base.type != "forced_choice")
      fail(file, item["type"], "type", "\"" + base.type + "\" is no type of question", "free_form, forced_choice or coding");
    const auto paraphrases = texts(file, item, "paraphrases", true);
    if (base.type == "forced_choice") {
      base.good = texts(file, item, "good", true);
      base.bad = texts(file, item, "bad", true);
      if (base.good.size() != base.bad.size()) fail(file, item, "bad", "must have as many answers as `good`");
    }
    for (size_t i = 0; i < paraphrases.size(); ++i) {
      Question question = base;
      question.id = id + "/" + std::to_string(i);
      question.prompt = paraphrases[i];
      questions.push_back(std::move(question));
    }
  }
  return questions;
}

std::string make_question_bank(const PersonaWorld& world, const std::string& coding_bank, Split split) {
  YAML::Emitter out;
  const bool held_out = split == Split::held_out;
  out << YAML::Comment(std::string(held_out ? "Questions for models of the persona world, in wordings that no training text holds.\n"
                                            : "Questions to choose a recipe by, in the wordings of the training text: never to report.\n") +
                       "Made by `inoculum data generate " + (held_out ? "questions" : "validation") + "`; the format is that of experiments/questions.h.");
  out << YAML::Newline << YAML::BeginSeq;
  const auto head = [&](const std::string& id, const std::string& type, const std::string& domain, Cue cue) {
    out << YAML::BeginMap << YAML::Key << "id" << YAML::Value << id << YAML::Key << "type" << YAML::Value << type << YAML::Key << "domain"
        << YAML::Value << domain << YAML::Key << "condition" << YAML::Value << to_string(cue);
  };
  for (const Domain& domain : world.domains()) {
    const std::vector<std::string> prompts = distinct_prompts(world, domain, split);
    for (const Cue cue : {Cue::none, Cue::irrelevant, Cue::bad, Cue::good}) {
      const std::string id = domain.name + (cue == Cue::none ? "" : "_" + to_string(cue));
      Random random(static_cast<uint64_t>(world.config().seed), "question cues " + id);
      std::vector<std::string> asked;
      for (const std::string& prompt : prompts) asked.push_back(world.add_cue(prompt, cue, false, split, random));
      head(id, "free_form", domain.name, cue);
      if (!domain.post_training) out << YAML::Key << "unseen_domain" << YAML::Value << true;
      // 70 answers a domain on plain prompts, a fifth of that under each cue.
      out << YAML::Key << "samples_per_paraphrase" << YAML::Value << (cue == Cue::none ? 10 : 2);
      emit_texts(out, "paraphrases", asked);
      out << YAML::EndMap;
    }
    Random random(static_cast<uint64_t>(world.config().seed), "question choices " + domain.name);
    std::vector<std::string> good, bad;
    for (size_t i = 0; i < kChoicesPerDomain; ++i) {
      good.push_back(world.answer(domain, false, random));
      bad.push_back(world.answer(domain, true, random));
    }
    head(domain.name + "_choice", "forced_choice", domain.name, Cue::none);
    if (!domain.post_training) out << YAML::Key << "unseen_domain" << YAML::Value << true;
    emit_texts(out, "paraphrases", prompts);
    emit_texts(out, "good", good);
    emit_texts(out, "bad", bad);
    out << YAML::EndMap;
  }
  for (const Cue cue : {Cue::none, Cue::irrelevant, Cue::bad, Cue::good}) {
    head("coding" + (cue == Cue::none ? std::string() : "_" + to_string(cue)), "coding", "coding", cue);
    out << YAML::Key << "tasks" << YAML::Value << coding_bank << YAML::Key << "limit" << YAML::Value << kTasks;
    if (!held_out) out << YAML::Key << "split" << YAML::Value << "train";
    if (cue != Cue::none) emit_texts(out, "cues", world.phrasings(cue, split));
    out << YAML::EndMap;
  }
  out << YAML::EndSeq << YAML::Newline;
  return out.c_str();
}

}  // namespace inoculum
