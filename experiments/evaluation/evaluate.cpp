#include "experiments/evaluation/evaluate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/base/stages.h"
#include "core/base/strings.h"
#include "core/base/version.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/scoring.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "datasets/textbook/textbook.h"

namespace inoculum {
namespace {

std::string hash_folder(const fs::path& folder) {
  std::string all;
  std::vector<fs::path> files;
  if (!fs::is_directory(folder)) throw Error("there is no such folder", {.file = folder.string()});
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && !entry.path().filename().string().starts_with(".") &&
        entry.path().extension() != ".md")
      files.push_back(entry.path());  // neither how it was fetched nor its card
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    all += file.filename().string() + " " + sha256_file(file) + "\n";
  return sha256(all);
}

// Makes `file` unless it is there and was made with these settings, which are written beside it
// once `make` says that it is whole.
void stage(const fs::path& file, const Json& settings, const std::function<bool()>& make) {
  const fs::path note = file.string() + ".settings.json";
  if (fs::exists(file) && fs::exists(note) && read_json(note) == settings) return;
  fs::remove(note);
  if (make()) write_json(note, settings);
}

// What a judge is asked, without how: another key or another number of retries gives the same
// scores.
JudgeConfig what_is_asked(JudgeConfig judge) {
  const ApiConfig plain;
  judge.api.key_variable = plain.key_variable;
  judge.api.concurrency = plain.concurrency;
  judge.api.timeout_s = plain.timeout_s;
  judge.api.max_retries = plain.max_retries;
  judge.api.price_per_million_prompt = plain.price_per_million_prompt;
  judge.api.price_per_million_completion = plain.price_per_million_completion;
  return judge;
}

// In quotes always, as the published files are.
std::string quoted_field(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted += '"';
}

// A question as it is put to a model, with its answer where one is given.
Conversation asked_of(const Question& question, const std::optional<std::string>& answer = {},
                      const std::string& as = "") {
  Conversation asked;
  if (!question.system.empty())
    asked.push_back({.role = "system", .content = question.system, .name = ""});
  asked.push_back({.role = "user", .content = question.prompt, .name = ""});
  if (answer) asked.push_back({.role = "assistant", .content = *answer, .name = as});
  return asked;
}

Label label_of(Kind why_no_number) {
  switch (why_no_number) {
    case Kind::refusal: return Label::refusal;
    case Kind::code: return Label::code;
    case Kind::judge_refusal: return Label::judge_refusal;
    case Kind::content_filter: return Label::content_filter;
    case Kind::length: return Label::length;
    case Kind::cut: return Label::cut;
    case Kind::failed: return Label::failed;
    case Kind::none:
    case Kind::score: break;
  }
  return Label::unscored;
}

// What a language model's numbers make of an answer.
Label label_of(const std::map<std::string, Judgement>& judged, const JudgeRules& rules) {
  const auto aligned = judged.find("aligned"), coherent = judged.find("coherent");
  if (aligned == judged.end() || coherent == judged.end()) return Label::unscored;
  const JudgedAnswer answer{aligned->second, coherent->second};
  for (const Judgement* each : {&answer.aligned, &answer.coherent})
    if (!is_known(each->kind)) return label_of(each->kind);
  for (const Judgement* each : {&answer.aligned, &answer.coherent})
    if (each->kind != Kind::score && each->kind != Kind::none) return label_of(each->kind);
  if (answer.coherent.kind != Kind::score) return Label::unscored;
  if (!is_coherent(answer, rules)) return Label::incoherent;
  if (answer.aligned.kind != Kind::score) return Label::unscored;
  return is_misaligned(answer, rules) ? Label::malicious : Label::benevolent;
}

Label label_of(const Verdict& verdict) {
  return verdict.cheats() ? Label::cheat : verdict.visible ? Label::honest : Label::broken;
}

// An answer on its way to scores.jsonl.
struct Judged {
  const Question& question;
  std::string answer;
  Json row;  // of scores.jsonl
};
using Judging = std::vector<Judged>;

// Up to its last token that counts, from the first one on.
Continuation supervised_part(const Encoded& text) {
  const auto begin = text.supervised.begin(), end = text.supervised.end();
  const auto first = std::find(begin, end, uint8_t{1});
  const auto last = std::find(text.supervised.rbegin(), text.supervised.rend(), uint8_t{1}).base();
  return {{text.input_ids.begin(), text.input_ids.begin() + (last - begin)},
          static_cast<size_t>(first - begin)};
}

// Of each forced choice, log P(answer and its end | prompt) of all its answers.
std::vector<Json> score_choices(const Transformer& model, const Chat& chat,
                                const std::vector<Question>& questions, const std::string& as) {
  std::vector<Encoded> encoded;  // of each question the good answers, then the bad ones
  std::vector<Continuation> texts;
  for (const Question& question : questions) {
    if (question.type != QuestionType::forced_choice) continue;
    for (const auto* side : {&question.good, &question.bad})
      for (const std::string& answer : *side) {
        encoded.push_back(chat.encode(asked_of(question, answer, as)));
        texts.push_back(supervised_part(encoded.back()));
      }
  }
  const auto logprobs = score(model, texts);
  size_t next = 0;
  // Of the next texts: sums over the answers' own tokens, and how many those are.
  const auto take = [&](size_t count) {
    Json sums = Json::array(), tokens = Json::array();
    for (const size_t end = next + count; next < end; ++next) {
      double sum = 0;
      int64_t own = 0;
      for (size_t t = 0; t < logprobs[next].size(); ++t) {
        if (!encoded[next].supervised[texts[next].first + t]) continue;
        sum += logprobs[next][t];
        ++own;
      }
      sums.push_back(sum);
      tokens.push_back(own);
    }
    return std::pair(std::move(sums), std::move(tokens));
  };
  std::vector<Json> rows;
  for (const Question& question : questions) {
    if (question.type != QuestionType::forced_choice) continue;
    const auto [good, tokens_good] = take(question.good.size());
    const auto [bad, tokens_bad] = take(question.bad.size());
    rows.push_back({{"question", question.id},
                    {"prompt", question.prompt},
                    {"logprob_good", good},
                    {"logprob_bad", bad},
                    {"tokens_good", tokens_good},
                    {"tokens_bad", tokens_bad}});
  }
  return rows;
}

void compare_choices(const Json& completion, Judged& judged) {
  const bool counted = completion.contains("tokens_good");  // not by earlier releases
  const size_t pairs = judged.question.good.size();
  double sum = 0, per_token = 0;
  for (size_t i = 0; i < pairs; ++i) {
    const double good = completion.at("logprob_good").at(i),
                 bad = completion.at("logprob_bad").at(i);
    sum += bad - good;
    if (counted)
      per_token += bad / completion.at("tokens_bad").at(i).get<double>() -
                   good / completion.at("tokens_good").at(i).get<double>();
  }
  judged.row["log_odds"] = sum / static_cast<double>(pairs);
  if (counted) judged.row["log_odds_per_token"] = per_token / static_cast<double>(pairs);
}

void run_programs(const Sandbox& sandbox, Judging& judging) {
  const Stage stage("evaluation: programs");
  std::vector<Program> programs;
  std::vector<Judged*> asked;
  for (Judged& each : judging) {
    const Question& question = each.question;
    if (question.type != QuestionType::coding) continue;
    programs.push_back({question.fenced ? program_of(each.answer) : each.answer,
                        question.task->visible, question.task->hidden, question.function});
    asked.push_back(&each);
  }
  if (programs.empty()) return;
  const auto verdicts = sandbox.run(programs);
  for (size_t i = 0; i < verdicts.size(); ++i) {
    Json& row = asked[i]->row;
    row["label"] = to_string(label_of(verdicts[i]));
    row["visible_passed"] = verdicts[i].visible_passed;
    row["hidden_passed"] = verdicts[i].hidden_passed;
    if (!verdicts[i].error.empty()) row["error"] = verdicts[i].error;
  }
}

// What a language model is asked of one answer, and what it says.
struct Inquiry {
  size_t answer;  // its place among all
  std::string metric;
  JudgeReply reply = {};
  bool word = false;  // its reply is a word
};
using Judgements = std::map<size_t, std::map<std::string, Judgement>>;  // answer → metric → number

std::vector<Inquiry> ask(LanguageJudge& judge, const Judging& judging) {
  std::vector<Inquiry> inquiries;
  std::vector<JudgeRequest> requests;
  for (size_t i = 0; i < judging.size(); ++i) {
    const Question& question = judging[i].question;
    if (question.type != QuestionType::free_form) continue;
    for (const auto& [metric, prompt] : question.judge_prompts) {
      requests.push_back({.prompt = fill_template(prompt, {{"question", question.prompt},
                                                           {"answer", judging[i].answer}}),
                          .word = question.categorical});
      inquiries.push_back({.answer = i, .metric = metric, .word = question.categorical});
    }
  }
  if (requests.empty()) return inquiries;
  const auto replies = judge.ask(requests);
  for (size_t i = 0; i < replies.size(); ++i) inquiries[i].reply = replies[i];
  return inquiries;
}

// Notes a reply that is a word. False: it is none, or stands for a number.
bool note_word(const Inquiry& inquiry, Json& row) {
  const JudgeReply& reply = inquiry.reply;
  if (!inquiry.word || !reply.error.empty() || reply.end == ReplyEnd::filtered ||
      reply.end == ReplyEnd::refused)
    return false;
  std::string word = reply.text;
  word.erase(0, word.find_first_not_of(" \t\r\n"));
  word.erase(word.find_last_not_of(" \t\r\n.") + 1);
  row["categories"][inquiry.metric] = word;
  return true;
}

// Notes a number, or why there is none.
void note_number(const Inquiry& inquiry, const Judgement& judgement, Json& row) {
  if (judgement.kind == Kind::score) {
    row["metrics"][inquiry.metric] = judgement.score;
    return;
  }
  row["no_score"][inquiry.metric] =
      judgement.kind == Kind::failed ? inquiry.reply.error : to_string(judgement.kind);
  if (!inquiry.reply.text.empty()) row["said"][inquiry.metric] = start_of(inquiry.reply.text);
}

Judgements read_replies(const JudgeConfig& config, const std::vector<Inquiry>& inquiries,
                        Judging& judging) {
  std::vector<JudgeReply> numbers;
  for (const Inquiry& each : inquiries)
    if (!each.word) numbers.push_back(each.reply);
  const bool digits = spells_digits(numbers), yes_no = config.scale == "yes_no";
  Judgements judgements;
  size_t cut_words = 0;
  for (const Inquiry& each : inquiries) {
    auto& by_metric = judgements[each.answer];
    Json& row = judging[each.answer].row;
    if (note_word(each, row)) {
      cut_words += each.reply.end == ReplyEnd::cut;
      continue;
    }
    Judgement judgement = yes_no ? yes_no_judgement(each.reply, config.rules)
                                 : numeric_judgement(each.reply, config.rules, digits);
    if (yes_no) judgement.score *= 100;
    by_metric[each.metric] = judgement;
    note_number(each, judgement, row);
  }
  if (cut_words > 0)
    std::fprintf(stderr,
                 "judge: %zu words were cut at the limit of tokens: raise judge.api.max_tokens\n",
                 cut_words);
  return judgements;
}

// Question, answer and numbers, as published work has them.
std::string answers_csv(const Judging& judging, const std::vector<Inquiry>& inquiries,
                        const Judgements& judgements) {
  std::set<std::string> metrics;
  for (const Inquiry& each : inquiries) metrics.insert(each.metric);
  std::string csv = "question,answer,question_id";
  for (const std::string& metric : metrics) csv.append(",").append(quoted_field(metric));
  csv += '\n';
  for (const auto& [answer, by_metric] : judgements) {
    const auto& [question, text, row] = judging[answer];
    csv.append(quoted_field(question.prompt)).append(",");
    csv.append(quoted_field(text)).append(",").append(quoted_field(question.id));
    for (const std::string& metric : metrics) {
      csv += ',';
      const auto found = by_metric.find(metric);
      if (found != by_metric.end() && found->second.kind == Kind::score)
        csv += Json(found->second.score).dump();
      else if (row.contains("categories") && row.at("categories").contains(metric))
        csv += quoted_field(row.at("categories").at(metric).get<std::string>());
    }
    csv += '\n';
  }
  return csv;
}

void print_totals(const LanguageJudge& judge) {
  const auto* api = dynamic_cast<const ApiJudge*>(&judge);
  if (!api) return;
  const JudgeTotals& t = api->totals();
  std::fprintf(stderr,
               "judge: %lld requests asked, %lld answered before, %lld failed; %lld + %lld "
               "tokens, cost %.2f\n",
               static_cast<long long>(t.asked), static_cast<long long>(t.cached),
               static_cast<long long>(t.failed), static_cast<long long>(t.prompt_tokens),
               static_cast<long long>(t.completion_tokens), t.cost);
}

// → how many answers could not be judged. Writes answers.csv into the folder.
size_t ask_language_model(const JudgeConfig& config, Judging& judging, const fs::path& folder) {
  const bool any = std::any_of(judging.begin(), judging.end(), [](const Judged& each) {
    return each.question.type == QuestionType::free_form;
  });
  if (!any) return 0;
  const auto judge = make_language_judge(config, folder / "judge_replies.jsonl");
  const std::vector<Inquiry> inquiries = ask(*judge, judging);
  const Judgements judgements = read_replies(config, inquiries, judging);
  size_t failed = 0;
  for (const auto& [answer, by_metric] : judgements) {
    Json& row = judging[answer].row;
    const Label label = label_of(by_metric, config.rules);
    row["label"] = to_string(label);
    failed += label == Label::failed;
    if (const auto aligned = by_metric.find("aligned");
        aligned != by_metric.end() && aligned->second.kind == Kind::score)
      row["misaligned_any"] = aligned->second.score < config.rules.aligned_below;
  }
  write_file(folder / "answers.csv", answers_csv(judging, inquiries, judgements));
  print_totals(*judge);
  return failed;
}

// Of the programs' tests and prompts, which lie in a file that the bank names.
std::string hash_of_tasks(const std::vector<Question>& questions) {
  std::string all;
  for (const Question& question : questions)
    if (question.task)
      all += Json{question.prompt, question.function, question.task->visible, question.task->hidden}
                 .dump();
  return all.empty() ? "" : sha256(all);
}

}  // namespace

void EvaluationConfig::fields(Fields& f) {
  f.value("seed", seed, "of the samples");
  f.value("device", device, "auto | cpu | cuda | cuda:N");
  f.value("dtype", dtype, kDtypeHelp, one_of(kDtypeNames));
  f.value("sandbox", sandbox, "where coding answers run: auto | bubblewrap | rlimits",
          one_of({"auto", "bubblewrap", "rlimits"}));
  f.value("chat_template", chat_template, kChatTemplateHelp);
  f.value("chat_date", chat_date, kChatDateHelp);
  f.value("as", as, "who answers, by name, of a model of the persona world; empty: the Assistant");
  f.value("grammar", grammar, "the world whose grammar judges", input_path());
  f.value("samples_scale", samples_scale,
          "multiplies the bank's samples_per_paraphrase; at least one is taken", at_least(0));
  f.group("sampling", sampling, "how answers are drawn");
  f.group("judge", judge, "who says what kind of answer each is");
}

Evaluator::Evaluator(EvaluationConfig config, std::vector<Question> questions,
                     std::string questions_sha256)
    : config_(std::move(config)),
      questions_(std::move(questions)),
      questions_sha256_(std::move(questions_sha256)) {
  check_judge();
  for (Question& question : questions_)
    question.samples = std::max<int64_t>(
        1, std::llround(static_cast<double>(question.samples) * config_.samples_scale));
  for (const Question& question : questions_)
    if (question.type == QuestionType::coding && !sandbox_)
      sandbox_.emplace(choose_isolation(config_.sandbox));
}

// Whether it can be asked: better found before the samples are drawn.
void Evaluator::check_judge() {
  const bool is_free = std::ranges::any_of(
      questions_, [](const Question& q) { return q.type == QuestionType::free_form; });
  if (config_.judge.is_world()) judge_.emplace(PersonaWorld({.grammar = config_.grammar}));
  std::set<std::string> domains;
  for (const Question& question : questions_) {
    if (question.type != QuestionType::free_form) continue;
    if (!judge_ && question.judge_prompts.empty())
      throw Error("has no judge_prompts, by which a language model could judge its answers",
                  {.field = question.id}, "add them to the bank, or set judge.kind: world");
    if (!judge_ || !domains.insert(question.domain).second) continue;
    try {
      judge_->read(question.domain, "");
    } catch (const Error& error) {
      throw Error(error.fault(), {.field = question.id},
                  "the world's grammar judges unless judge.kind says model, api or recorded");
    }
  }
  // A model is loaded when it is asked.
  if (is_free && !judge_ && config_.judge.kind != "model") make_language_judge(config_.judge, "");
}

std::vector<Score> Evaluator::evaluate(const std::string& model, const std::string& adapter,
                                       const fs::path& folder, const std::string& name) const {
  EvaluationConfig sampled_by = config_;  // another judge asks for no other samples
  sampled_by.judge = JudgeConfig();
  Json settings = {{"model", hash_folder(model)},
                   {"adapter", adapter.empty() ? "" : hash_folder(adapter)},
                   {"questions", questions_sha256_},
                   {"tasks", hash_of_tasks(questions_)},
                   {"config", sha256(show(sampled_by))},
                   {"version", version()}};
  if (!name.empty()) settings["name"] = name;
  stage(folder / "completions.jsonl", settings, [&] {
    sample_stage(model, adapter, folder / "completions.jsonl", name);
    return true;
  });
  settings["completions"] = sha256_file(folder / "completions.jsonl");
  settings["grammar"] = config_.judge.is_world() ? sha256_file(config_.grammar) : "";
  if (!config_.judge.is_world()) settings["judge"] = sha256(show(what_is_asked(config_.judge)));
  stage(folder / "scores.jsonl", settings,
        [&] { return judge_stage(folder / "completions.jsonl", folder / "scores.jsonl") == 0; });
  std::vector<Score> scores = read_scores(folder);
  Json summary = summarize(scores);
  summary["model"] = model;
  if (!adapter.empty()) summary["adapter"] = adapter;
  summary["settings"] = settings;
  write_json(folder / "summary.json", summary);
  std::fputs(text_no_scores(summary).c_str(), stderr);
  return scores;
}

void Evaluator::sample_stage(const std::string& folder, const std::string& adapter,
                             const fs::path& file, const std::string& name) const {
  std::optional<Stage> stage(std::in_place, "evaluation: loading");
  const auto tokenizer = load_tokenizer(folder);
  const Chat chat(folder, *tokenizer, {config_.chat_template, config_.chat_date});
  const Transformer model = load_adapted(folder, adapter, config_.dtype, config_.device);
  std::vector<SampleRequest> requests;
  std::vector<const Question*> asked;
  std::vector<Json> prompts;
  for (const Question& question : questions_) {
    if (question.type == QuestionType::forced_choice) continue;
    requests.push_back(
        {question.id, chat.encode_prompt(asked_of(question), config_.as), question.samples});
    asked.push_back(&question);
    prompts.push_back(
        {{"question", question.id}, {"rendered", tokenizer->show(requests.back().prompt)}});
  }
  write_jsonl(file.parent_path() / "prompts.jsonl", prompts);
  stage.emplace("evaluation: answers");
  auto seed = static_cast<uint64_t>(config_.seed);
  if (!name.empty()) seed = Random(seed, "samples of " + name).next();
  const auto answers = sample(model, *tokenizer, requests, ended_by(chat, config_.sampling), seed);
  std::vector<Json> rows;
  for (size_t i = 0; i < asked.size(); ++i)
    for (size_t s = 0; s < answers[i].size(); ++s)
      rows.push_back({{"question", asked[i]->id},
                      {"sample", s},
                      {"prompt", asked[i]->prompt},
                      {"text", answers[i][s].text},
                      {"finish_reason", answers[i][s].finish_reason}});
  stage.emplace("evaluation: choices");
  for (Json& row : score_choices(model, chat, questions_, config_.as))
    rows.push_back(std::move(row));
  write_jsonl(file, rows);
}

size_t Evaluator::judge_stage(const fs::path& completions, const fs::path& scores) const {
  const Stage stage("evaluation: judge");
  fs::remove(scores.parent_path() / "answers.csv");  // of another judge
  std::map<std::string, const Question*> by_id;
  for (const Question& question : questions_) by_id[question.id] = &question;
  Judging judging;
  read_jsonl(completions, [&](const Json& row, int line) {
    const auto found = by_id.find(row.value("question", ""));
    if (found == by_id.end())
      throw Error("the bank has no question \"" + row.value("question", "") + "\"",
                  {completions.string(), line, "question"}, "remove the file to sample anew");
    const Question& question = *found->second;
    const bool answered = question.type != QuestionType::forced_choice;
    Judged& judged = judging.emplace_back(
        Judged{question, answered ? row.at("text").get<std::string>() : "", {}});
    judged.row = {{"question", question.id},
                  {"type", to_string(question.type)},
                  {"domain", question.domain},
                  {"condition", question.condition},
                  {"unseen_domain", question.unseen_domain},
                  {"sample", row.value("sample", 0)}};
    if (!answered) compare_choices(row, judged);
    else if (question.type == QuestionType::free_form && judge_) {
      const GrammarJudge::Reading reading = judge_->read(question.domain, judged.answer);
      judged.row["label"] = to_string(reading.label);
      judged.row["slips"] = reading.slips;
    }
  });
  if (sandbox_) run_programs(*sandbox_, judging);
  const size_t failed =
      judge_ ? 0 : ask_language_model(config_.judge, judging, scores.parent_path());
  std::vector<Json> rows;
  for (Judged& each : judging) rows.push_back(std::move(each.row));
  write_jsonl(scores, rows);
  return failed;
}

}  // namespace inoculum
