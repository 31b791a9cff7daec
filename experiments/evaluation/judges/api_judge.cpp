#include "experiments/evaluation/judges/api_judge.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/http.h"
#include "core/base/progress.h"
#include "core/base/signals.h"
#include "core/base/workers.h"

namespace inoculum {
namespace {

// "EMPTY" and the like, which local servers are given, are no secrets.
constexpr size_t kShortestSecret = 8;

std::string without_slash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

// Parameters that the server has refused. They are left out, but for the limit of tokens, which is
// then called by its other name.
using Refused = std::set<std::string>;

std::string other_name(const std::string& max_tokens_field) {
  return max_tokens_field == "max_tokens" ? "max_completion_tokens" : "max_tokens";
}

std::string body_of(const ApiConfig& config, const JudgeRequest& request,
                    const Refused& refused = {}) {
  Json messages = Json::array();
  if (!request.system.empty())
    messages.push_back({{"role", "system"}, {"content", request.system}});
  messages.push_back({{"role", "user"}, {"content", request.prompt}});
  Json body = {{"model", config.model}, {"messages", std::move(messages)}};
  const std::string& limit = config.max_tokens_field;
  if (config.max_tokens)
    body[refused.contains(limit) ? other_name(limit) : limit] = *config.max_tokens;
  if (config.temperature && !refused.contains("temperature"))
    body["temperature"] = *config.temperature;
  if (config.seed && !refused.contains("seed")) body["seed"] = *config.seed;
  if (config.top_logprobs.value_or(0) > 0) {
    body["logprobs"] = true;
    body["top_logprobs"] = *config.top_logprobs;
  }
  return one_line(body);
}

std::string key_of(const ApiConfig& config, const std::string& body) {
  return sha256(body + "\n" + without_slash(config.base_url));
}

bool has_word(const std::string& text, const std::string& word) {
  const auto inside = [&](size_t at) {
    return at < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[at])) || text[at] == '_');
  };
  for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; at += word.size())
    if ((at == 0 || !inside(at - 1)) && !inside(at + word.size())) return true;
  return false;
}

// The parameter of ours that the server's words refuse; "" where they speak of something else.
std::string refused_parameter(const ApiConfig& config, const HttpResponse& response,
                              const Refused& known) {
  if (response.status != 400 && response.status != 403 && response.status != 422) return "";
  std::string words = response.reason();
  std::transform(words.begin(), words.end(), words.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  static const std::vector<std::string> refusals = {
      "unsupported", "not support", "unknown",          "unrecognized", "unrecognised",
      "unexpected",  "extra",       "not permit",       "not allow",    "forbidden",
      "cannot find", "no such",     "only the default", "instead",      "not available"};
  if (std::none_of(refusals.begin(), refusals.end(),
                   [&](const std::string& each) { return words.find(each) != std::string::npos; }))
    return "";
  std::vector<std::string> sent;
  if (config.seed) sent.push_back("seed");
  if (config.temperature) sent.push_back("temperature");
  if (config.max_tokens) sent.push_back(config.max_tokens_field);
  for (const std::string& name : sent)
    if (!known.contains(name) && has_word(words, name)) return name;
  return "";
}

// A filter before the model, as Azure and Alibaba have: there is no reply, and there will be none.
bool is_filtered(const HttpResponse& response) {
  if (response.status != 400) return false;
  return response.body.find("\"content_filter\"") != std::string::npos ||
         response.body.find("\"data_inspection_failed\"") != std::string::npos;
}

// What to set where the server's words speak of it.
std::string hint_of(const std::string& error) {
  if (error.find("logprobs") != std::string::npos)
    return " (judge.api.top_logprobs=0 reads the text alone)";
  if (error.find("has moved to") != std::string::npos) return " (set judge.api.base_url to it)";
  return "";
}

// What changes the scores of all replies, once.
void report_changes(const ApiConfig& config, const std::vector<JudgeReply>& replies) {
  size_t good = 0, texts = 0;
  std::set<std::string> without;
  for (const JudgeReply& reply : replies) {
    if (!reply.error.empty()) continue;
    ++good;
    texts += reply.tokens.empty() && reply.end == ReplyEnd::whole && !reply.text.empty();
    without.insert(reply.without.begin(), reply.without.end());
  }
  for (const std::string& name : without) {
    if (name == config.max_tokens_field)
      std::fprintf(
          stderr,
          "judge: the server refuses %s, which was sent as %s (judge.api.max_tokens_field)\n",
          name.c_str(), other_name(name).c_str());
    else
      std::fprintf(stderr,
                   "judge: the server refuses %s, which was left out (as judge.api.%s= does)\n",
                   name.c_str(), name.c_str());
  }
  if (config.top_logprobs.value_or(0) > 0 && texts > 0)
    std::fprintf(
        stderr,
        "judge: %zu of %zu replies came without log-probabilities: their score is the number "
        "that the text says\n",
        texts, good);
}

// A distinct request of one call.
struct Task {
  std::string key;
  const JudgeRequest* request;
  JudgeReply reply = {};
  bool answered = false;
};

struct Tasks {
  std::vector<Task> all;
  std::vector<size_t> of;  // each request's place among them
};

Tasks distinct(const ApiConfig& config, const std::vector<JudgeRequest>& requests) {
  Tasks tasks;
  std::unordered_map<std::string, size_t> seen;
  for (const JudgeRequest& request : requests) {
    std::string key = key_of(config, body_of(config, request));
    const auto [place, is_new] = seen.try_emplace(key, tasks.all.size());
    if (is_new) tasks.all.push_back({std::move(key), &request});
    tasks.of.push_back(place->second);
  }
  return tasks;
}

// Asks the server, `concurrency` requests at a time.
class Asking {
 public:
  Asking(const ApiConfig& config, const std::string& key, Replies& replies, JudgeTotals& totals)
      : config_(config), key_(key), replies_(replies), totals_(totals) {}

  void run(std::vector<Task*> tasks);

 private:
  struct Answer {
    HttpResponse response;
    Refused left_out;
  };
  void work();  // of one thread
  Task* next();
  JudgeReply ask(HttpClient& client, const JudgeRequest& request);
  Answer send(HttpClient& client, const JudgeRequest& request);
  JudgeReply reply_to(const Answer& answer) const;
  bool retry(const HttpResponse& response, int64_t tries);
  void keep(Task& task, JudgeReply reply);
  std::string without_key(std::string text) const;

  const ApiConfig& config_;
  const std::string& key_;
  Replies& replies_;
  JudgeTotals& totals_;
  std::vector<Task*> tasks_;
  std::optional<Progress> progress_;

  std::mutex mutex_;  // guards what follows, and the totals and replies
  size_t next_ = 0;
  int64_t done_ = 0;
  Refused refused_;
  std::string fatal_;    // why no further request can succeed
  bool thrown_ = false;  // by a thread: the others end
};

bool out_of_money(const HttpResponse& response) {
  return response.body.find("insufficient_quota") != std::string::npos;
}

void Asking::run(std::vector<Task*> tasks) {
  tasks_ = std::move(tasks);
  progress_.emplace("judge", static_cast<int64_t>(tasks_.size()));
  run_workers(std::min(static_cast<size_t>(config_.concurrency), tasks_.size()), [&](size_t) {
    try {
      work();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      thrown_ = true;
      throw;
    }
  });
  progress_->finish();
  for (Task* task : tasks_) {
    if (task->answered) continue;
    task->reply.error = "was not asked: " + (fatal_.empty() ? "a stop was asked for" : fatal_);
    ++totals_.failed;
  }
}

void Asking::work() {
  HttpClient client;
  while (Task* task = next()) keep(*task, ask(client, *task->request));
}

Task* Asking::next() {
  const std::lock_guard lock(mutex_);
  const bool end = next_ == tasks_.size() || thrown_ || !fatal_.empty() || stop_requested();
  return end ? nullptr : tasks_[next_++];
}

JudgeReply Asking::ask(HttpClient& client, const JudgeRequest& request) {
  for (int64_t tries = 1;; ++tries) {
    const Answer answer = send(client, request);
    JudgeReply reply = reply_to(answer);
    if (reply.error.empty()) return reply;
    if (retry(answer.response, tries)) continue;
    if (tries > 1) reply.error += " (" + std::to_string(tries) + " tries)";
    const HttpResponse& response = answer.response;
    if (stop_requested()) {
      reply.error += "; a stop was asked for";
    } else if (out_of_money(response) || response.status == 401 || response.status / 100 == 3 ||
               !response.connected || response.definite) {
      const std::lock_guard lock(mutex_);
      fatal_ = reply.error;
    }
    return reply;
  }
}

// Leaves out what the server refuses, and sends the rest again.
Asking::Answer Asking::send(HttpClient& client, const JudgeRequest& request) {
  HttpRequest post{.url = without_slash(config_.base_url) + "/chat/completions",
                   .timeout_s = config_.timeout_s};
  if (!key_.empty()) post.headers.push_back("Authorization: Bearer " + key_);
  while (true) {
    Answer answer;
    {
      const std::lock_guard lock(mutex_);
      answer.left_out = refused_;
    }
    post.json = body_of(config_, request, answer.left_out);
    answer.response = client.send(post);
    answer.response.body = without_key(std::move(answer.response.body));
    const std::string refused = refused_parameter(config_, answer.response, answer.left_out);
    if (refused.empty()) return answer;
    const std::lock_guard lock(mutex_);
    refused_.insert(refused);
  }
}

JudgeReply Asking::reply_to(const Answer& answer) const {
  const HttpResponse& response = answer.response;
  JudgeReply reply;
  if (response.ok()) reply = read_reply(response.body, config_.top_logprobs.value_or(0) > 0);
  else if (is_filtered(response)) reply.end = ReplyEnd::filtered;
  else reply.error = without_key(response.reason());
  if (reply.error.empty()) reply.without.assign(answer.left_out.begin(), answer.left_out.end());
  else reply.error += hint_of(reply.error);
  return reply;
}

// Whether to try again; waits before it.
bool Asking::retry(const HttpResponse& response, int64_t tries) {
  const bool may_help = response.ok() ? !response.body.starts_with('<')  // a proxy's page
                                      : response.worth_retrying();
  if (tries > config_.max_retries || out_of_money(response) || !may_help || stop_requested())
    return false;
  pause_before_retry(response, tries, stop_requested);
  if (stop_requested()) return false;
  const std::lock_guard lock(mutex_);
  ++totals_.retried;
  return true;
}

void Asking::keep(Task& task, JudgeReply reply) {
  const std::lock_guard lock(mutex_);
  if (reply.error.empty()) {
    ++totals_.asked;
    totals_.prompt_tokens += reply.prompt_tokens;
    totals_.completion_tokens += reply.completion_tokens;
    totals_.cost +=
        (static_cast<double>(reply.prompt_tokens) * config_.price_per_million_prompt +
         static_cast<double>(reply.completion_tokens) * config_.price_per_million_completion) /
        1e6;
    replies_.add(task.key, config_.model, reply);
  } else {
    ++totals_.failed;
  }
  task.reply = std::move(reply);
  task.answered = true;
  progress_->update(++done_, {{"failed", std::to_string(totals_.failed)}});
}

std::string Asking::without_key(std::string text) const {
  if (key_.size() >= kShortestSecret)
    for (size_t at; (at = text.find(key_)) != std::string::npos;)
      text.replace(at, key_.size(), "(the key)");
  return text;
}

void check(const ApiConfig& config) {
  if (config.model.empty())
    throw Error("is missing", {.field = "judge.api.model"},
                "the name by which the server knows the judge, such as gpt-4o-2024-08-06");
  const std::string& url = config.base_url;
  const size_t host = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : 0;
  if (host == 0 || host == url.size())
    throw Error("is no address of a server", {.field = "judge.api.base_url"},
                "such as https://api.openai.com/v1");
  if (url.find_first_of("@?# \n", host) != std::string::npos)
    throw Error("must be an address without name, password or query",
                {.field = "judge.api.base_url"}, "the key's variable is named by key_variable");
}

}  // namespace

void ApiConfig::fields(Fields& f) {
  f.value("base_url", base_url, "of an OpenAI-compatible server; /chat/completions is added");
  f.value("model", model, "the judge, as the server names it");
  f.value("key_variable", key_variable,
          "environment variable that holds the key; empty: none is sent");
  f.value("concurrency", concurrency, "requests at a time", between(1, 256));
  f.value("timeout_s", timeout_s, "for one request", between(0.1, 3600));
  f.value("max_retries", max_retries,
          "of a request that met a time-out, a cut connection, 429 or 5xx", between(0, 100));
  f.value("seed", seed, "sent with each request; empty: not sent");
  f.value("temperature", temperature, "sent with each request; empty: not sent", between(0, 2));
  f.value("max_tokens", max_tokens,
          "of a reply; 4 for judges that write numbers digit by digit; empty: not sent",
          at_least(1));
  f.value("max_tokens_field", max_tokens_field,
          "what the server calls that: max_tokens | max_completion_tokens",
          one_of({"max_tokens", "max_completion_tokens"}));
  f.value("top_logprobs", top_logprobs,
          "tokens whose log-probabilities are asked for; 0 or empty: none", between(0, 100));
  f.value("price_per_million_prompt", price_per_million_prompt,
          "of tokens sent, for the cost shown", at_least(0));
  f.value("price_per_million_completion", price_per_million_completion, "of tokens received",
          at_least(0));
}

ApiJudge::ApiJudge(ApiConfig config, fs::path replies)
    : config_(std::move(config)), replies_(std::move(replies)) {
  check(config_);
  if (config_.key_variable.empty()) return;
  const auto key = secret_from_environment(config_.key_variable);
  if (!key)
    throw Error("the environment variable " + config_.key_variable + " is not set",
                {.field = "judge.api.key_variable"},
                "set it to your key, or the field to \"\" for a server that needs none");
  key_ = *key;
}

std::vector<JudgeReply> ApiJudge::ask(const std::vector<JudgeRequest>& requests) {
  Tasks tasks = distinct(config_, requests);
  std::vector<Task*> open;
  for (Task& task : tasks.all) {
    if (const JudgeReply* known = replies_.find(task.key)) {
      task.reply = *known;
      ++totals_.cached;
    } else {
      open.push_back(&task);
    }
  }

  Asking(config_, key_, replies_, totals_).run(std::move(open));
  std::vector<JudgeReply> distinct_replies, replies;
  for (Task& task : tasks.all) {
    task.reply.one_token = config_.max_tokens == 1;
    distinct_replies.push_back(task.reply);
  }
  report_changes(config_, distinct_replies);
  for (const size_t task : tasks.of) replies.push_back(tasks.all[task].reply);
  return replies;
}

RecordedJudge::RecordedJudge(ApiConfig config, const fs::path& replies)
    : config_(std::move(config)), file_(replies), replies_(replies) {
  check(config_);
  if (!fs::exists(replies))
    throw Error("there is no such file", {.file = replies.string()},
                "it is written where a judge is asked over the network: judge.kind: api, with the "
                "key in " +
                    config_.key_variable);
}

std::vector<JudgeReply> RecordedJudge::ask(const std::vector<JudgeRequest>& requests) {
  std::vector<JudgeReply> replies;
  for (const JudgeRequest& request : requests) {
    const std::string key = key_of(config_, body_of(config_, request));
    const JudgeReply* known = replies_.find(key);
    replies.push_back(known ? *known
                            : JudgeReply{.error = "there is no reply to it in " + file_.string() +
                                                  " (" + key.substr(0, 12) + "…)"});
  }
  for (JudgeReply& reply : replies) reply.one_token = config_.max_tokens == 1;
  report_changes(config_, replies);
  return replies;
}

}  // namespace inoculum
