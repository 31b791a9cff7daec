#include "experiments/api_judge.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <random>
#include <thread>

#include "core/error.h"
#include "core/http.h"
#include "core/progress.h"

namespace inoculum {
namespace {

constexpr std::string_view kLineBegin = "{\"key\":\"";
constexpr size_t kShortestSecret = 8;  // "EMPTY" and the like, which local servers are given, are no secrets

std::string without_slash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

std::string body_of(const ApiConfig& config, const JudgeRequest& request) {
  Json messages = Json::array();
  if (!request.system.empty()) messages.push_back({{"role", "system"}, {"content", request.system}});
  messages.push_back({{"role", "user"}, {"content", request.prompt}});
  Json body = {{"model", config.model}, {"messages", std::move(messages)}, {config.max_tokens_field, config.max_tokens}, {"temperature", config.temperature},
               {"seed", config.seed}};
  if (config.top_logprobs > 0) {
    body["logprobs"] = true;
    body["top_logprobs"] = config.top_logprobs;
  }
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string key_of(const ApiConfig& config, const std::string& body) { return sha256(body + "\n" + without_slash(config.base_url)); }

// By reference: what a server sends may be nested deeper than can be copied.
const Json& member(const Json& object, const char* key) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

// A chat completion's text, first token and counts. Where a part that must be there is not: `error`.
JudgeReply reply_of(const std::string& body) {
  const auto broken = [](const std::string& why) { return JudgeReply{.error = "the server's reply " + why}; };
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return broken("is not JSON");
  if (!member(json, "error").is_null()) return broken("is an error: " + HttpResponse{.status = 200, .body = body}.reason());
  const Json& choices = member(json, "choices");
  if (!choices.is_array() || choices.empty()) return broken("has no choices");
  const Json& message = member(choices[0], "message");
  if (!message.is_object()) return broken("has no message");
  JudgeReply reply;
  for (const char* key : {"content", "refusal"})
    if (reply.text.empty() && member(message, key).is_string()) reply.text = message[key].get<std::string>();
  const Json& tokens = member(member(choices[0], "logprobs"), "content");
  if (tokens.is_array() && !tokens.empty()) {
    const Json& top = member(tokens[0], "top_logprobs");
    if (!top.is_array()) return broken("has no top_logprobs");
    for (const Json& each : top) {
      if (!member(each, "token").is_string() || !member(each, "logprob").is_number()) return broken("has a log-probability without token or number");
      reply.top_logprobs.emplace_back(each["token"].get<std::string>(), each["logprob"].get<double>());
    }
    reply.has_logprobs = !reply.top_logprobs.empty();
  }
  const auto count = [&](const char* key) {
    const Json& value = member(member(json, "usage"), key);
    return value.is_number_integer() ? value.get<int64_t>() : 0;
  };
  reply.prompt_tokens = count("prompt_tokens");
  reply.completion_tokens = count("completion_tokens");
  return reply;
}

// A file open for as long as this lives.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

[[noreturn]] void fail(const std::string& verb, const fs::path& file) {
  const int code = errno;
  throw Error("cannot " + verb + ": " + std::strerror(code), {.file = file.string()}, code == ENOSPC ? "free some space; what is there is kept" : "");
}

// Distinct requests of one call.
struct Task {
  std::string key, body;
  JudgeReply reply = {};
  bool answered = false;
};

std::vector<Task> distinct(const ApiConfig& config, const std::vector<JudgeRequest>& requests, std::vector<size_t>& task_of) {
  std::vector<Task> tasks;
  std::unordered_map<std::string, size_t> seen;
  for (const JudgeRequest& request : requests) {
    std::string body = body_of(config, request);
    std::string key = key_of(config, body);
    const auto [place, fresh] = seen.try_emplace(key, tasks.size());
    if (fresh) tasks.push_back({std::move(key), std::move(body)});
    task_of.push_back(place->second);
  }
  return tasks;
}

void check(const ApiConfig& config) {
  if (config.model.empty()) throw Error("is missing", {.field = "model"}, "the name by which the server knows the judge, such as gpt-4o-2024-08-06");
  const std::string& url = config.base_url;
  const size_t host = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : 0;
  if (host == 0 || host == url.size()) throw Error("is no address of a server", {.field = "base_url"}, "such as https://api.openai.com/v1");
  if (url.find_first_of("@?# \n", host) != std::string::npos)
    throw Error("must be an address without name, password or query", {.field = "base_url"}, "the key's variable is named by key_variable");
}

}  // namespace

void ApiConfig::fields(Fields& f) {
  f.value("base_url", base_url, "of an OpenAI-compatible server; /chat/completions is added");
  f.value("model", model, "the judge, as the server names it");
  f.value("key_variable", key_variable, "environment variable that holds the key; empty: none is sent");
  f.value("concurrency", concurrency, "requests at a time", between(1, 256));
  f.value("timeout_s", timeout_s, "for one request", between(0.1, 3600));
  f.value("max_retries", max_retries, "of a request that met a time-out, a cut connection, 429 or 5xx", between(0, 100));
  f.value("seed", seed, "sent with each request");
  f.value("temperature", temperature, "sent with each request", between(0, 2));
  f.value("max_tokens", max_tokens, "of a reply", at_least(1));
  f.value("max_tokens_field", max_tokens_field, "what the server calls that: max_tokens | max_completion_tokens", one_of({"max_tokens", "max_completion_tokens"}));
  f.value("top_logprobs", top_logprobs, "tokens whose log-probabilities are asked for; 0: none", between(0, 100));
  f.value("price_per_million_prompt", price_per_million_prompt, "of tokens sent, for the cost shown", at_least(0));
  f.value("price_per_million_completion", price_per_million_completion, "of tokens received", at_least(0));
}

Replies::Replies(fs::path file) : file_(std::move(file)) {
  if (!fs::exists(file_)) return;
  const std::string text = read_file(file_);
  std::string_view rest = text;
  for (int number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    const bool last = end == std::string_view::npos;
    rest.remove_prefix(last ? rest.size() : end + 1);
    if (line.empty()) continue;
    const Json row = Json::parse(line, nullptr, false);
    if (row.is_discarded() && last && line.substr(0, kLineBegin.size()) == kLineBegin.substr(0, line.size())) break;  // a killed process's
    try {
      if (!line.starts_with(kLineBegin)) throw Error("");
      const Json& kept = row.at("reply");
      JudgeReply reply{.text = kept.at("text"), .prompt_tokens = kept.at("prompt_tokens"), .completion_tokens = kept.at("completion_tokens"), .cached = true};
      reply.has_logprobs = !kept.at("top_logprobs").is_null();
      if (reply.has_logprobs)
        for (const Json& each : kept["top_logprobs"]) reply.top_logprobs.emplace_back(each.at(0).get<std::string>(), each.at(1).get<double>());
      replies_.try_emplace(row.at("key").get<std::string>(), std::move(reply));
    } catch (const std::exception&) {
      throw Error("this is not a judge's reply", {file_.string(), number, ""}, "name another file, or remove the line");
    }
  }
}

const JudgeReply* Replies::find(const std::string& key) const {
  const auto found = replies_.find(key);
  return found == replies_.end() ? nullptr : &found->second;
}

void Replies::add(const std::string& key, const std::string& model, const JudgeReply& reply) {
  Json tokens;
  if (reply.has_logprobs) {
    tokens = Json::array();
    for (const auto& [token, logprob] : reply.top_logprobs) tokens.push_back(Json::array({token, logprob}));
  }
  const Json row = {{"key", key}, {"model", model}, {"reply", {{"text", reply.text}, {"top_logprobs", std::move(tokens)},
                                                              {"prompt_tokens", reply.prompt_tokens}, {"completion_tokens", reply.completion_tokens}}}};
  const std::string line = row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::error_code ignored;
  if (file_.has_parent_path()) fs::create_directories(file_.parent_path(), ignored);
  const Descriptor file{::open(file_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644)};
  if (file.fd < 0 || ::flock(file.fd, LOCK_EX) != 0) fail("write", file_);
  // What a killed process left after the last whole line goes.
  off_t size = ::lseek(file.fd, 0, SEEK_END), end = size;
  for (char c = 0; end > 0; --end)
    if (::pread(file.fd, &c, 1, end - 1) != 1 || c == '\n') break;
  if (end != size) {
    std::string torn(static_cast<size_t>(size - end), '\0');
    if (::pread(file.fd, torn.data(), torn.size(), end) != static_cast<ssize_t>(torn.size())) fail("read", file_);
    if (Json::accept(torn)) {
      if (::write(file.fd, "\n", 1) != 1) fail("write", file_);
      end = size + 1;
    } else if (::ftruncate(file.fd, end) != 0) {
      fail("mend", file_);
    }
  }
  const ssize_t written = ::write(file.fd, line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) {
    const int code = written < 0 ? errno : ENOSPC;
    [[maybe_unused]] const int cut = ::ftruncate(file.fd, end);
    errno = code;
    fail("write", file_);
  }
  JudgeReply kept = reply;
  kept.cached = true;
  replies_.try_emplace(key, std::move(kept));
}

ApiJudge::ApiJudge(ApiConfig config, fs::path replies) : config_(std::move(config)), replies_(std::move(replies)) {
  check(config_);
  if (config_.key_variable.empty()) return;
  const auto key = secret_from_environment(config_.key_variable);
  if (!key) throw Error("the environment variable " + config_.key_variable + " is not set", {.field = "key_variable"}, "set it to your key, or the field to \"\" for a server that needs none");
  key_ = *key;
}

std::vector<JudgeReply> ApiJudge::ask(const std::vector<JudgeRequest>& requests) {
  std::vector<size_t> task_of;
  std::vector<Task> tasks = distinct(config_, requests, task_of);
  std::vector<Task*> open;
  for (Task& task : tasks) {
    if (const JudgeReply* known = replies_.find(task.key)) {
      task.reply = *known;
      ++totals_.cached;
    } else {
      open.push_back(&task);
    }
  }

  Progress progress("judge", static_cast<int64_t>(open.size()));
  std::mutex mutex;              // guards everything below, and the totals and replies
  size_t next = 0;
  int64_t done = 0;
  std::string hopeless;          // why no further request can succeed
  std::exception_ptr thrown;

  const auto hidden = [&](std::string text) {
    if (key_.size() >= kShortestSecret)
      for (size_t at; (at = text.find(key_)) != std::string::npos;) text.replace(at, key_.size(), "(the key)");
    return text;
  };
  const auto ask_one = [&](HttpClient& client, const Task& task, std::mt19937_64& random) {
    HttpRequest request{.url = without_slash(config_.base_url) + "/chat/completions", .json = task.body, .timeout_s = config_.timeout_s};
    if (!key_.empty()) request.headers.push_back("Authorization: Bearer " + key_);
    for (int64_t tries = 1;; ++tries) {
      HttpResponse response = client.send(request);
      response.body = hidden(std::move(response.body));
      JudgeReply reply;
      if (response.ok()) reply = reply_of(response.body);
      else reply.error = hidden(response.reason());
      if (reply.error.empty()) return reply;
      const bool out_of_money = response.body.find("insufficient_quota") != std::string::npos;
      if (tries <= config_.max_retries && !out_of_money && (response.ok() || response.worth_retrying()) && !stop_requested()) {
        wait(retry_pause(response, tries, std::uniform_real_distribution<>(0, 1)(random)), stop_requested);
        if (!stop_requested()) {
          const std::lock_guard lock(mutex);
          ++totals_.retried;
          continue;
        }
      }
      if (tries > 1) reply.error += " (" + std::to_string(tries) + " tries)";
      if (stop_requested()) {
        reply.error += "; a stop was asked for";
      } else if (out_of_money || response.status == 401 || !response.connected || response.definite) {
        const std::lock_guard lock(mutex);
        hopeless = reply.error;
      }
      return reply;
    }
  };
  const auto work = [&] {
    try {
      HttpClient client;
      std::mt19937_64 random{std::random_device()()};  // for pauses alone
      while (true) {
        Task* task = nullptr;
        {
          const std::lock_guard lock(mutex);
          if (next == open.size() || thrown || !hopeless.empty() || stop_requested()) return;
          task = open[next++];
        }
        JudgeReply reply = ask_one(client, *task, random);
        const std::lock_guard lock(mutex);
        if (reply.error.empty()) {
          ++totals_.asked;
          totals_.prompt_tokens += reply.prompt_tokens;
          totals_.completion_tokens += reply.completion_tokens;
          totals_.cost += (static_cast<double>(reply.prompt_tokens) * config_.price_per_million_prompt +
                           static_cast<double>(reply.completion_tokens) * config_.price_per_million_completion) / 1e6;
          replies_.add(task->key, config_.model, reply);
        } else {
          ++totals_.failed;
        }
        task->reply = std::move(reply);
        task->answered = true;
        progress.update(++done, {{"failed", std::to_string(totals_.failed)}});
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!thrown) thrown = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> pool;
    for (size_t i = 0; i < std::min(static_cast<size_t>(config_.concurrency), open.size()); ++i) pool.emplace_back(work);
  }
  progress.finish();
  if (thrown) std::rethrow_exception(thrown);
  for (Task* task : open)
    if (!task->answered) {
      task->reply.error = "was not asked: " + (hopeless.empty() ? "a stop was asked for" : hopeless);
      ++totals_.failed;
    }
  std::vector<JudgeReply> replies;
  for (const size_t task : task_of) replies.push_back(tasks[task].reply);
  return replies;
}

RecordedJudge::RecordedJudge(ApiConfig config, const fs::path& replies) : config_(std::move(config)), file_(replies), replies_(replies) {
  check(config_);
  if (!fs::exists(replies))
    throw Error("there is no such file", {.file = replies.string()},
                "it is written where a judge is asked over the network: judge.kind: api, with the "
                "key in " + config_.key_variable);
}

std::vector<JudgeReply> RecordedJudge::ask(const std::vector<JudgeRequest>& requests) {
  std::vector<JudgeReply> replies;
  for (const JudgeRequest& request : requests) {
    const std::string key = key_of(config_, body_of(config_, request));
    const JudgeReply* known = replies_.find(key);
    replies.push_back(known ? *known : JudgeReply{.error = "there is no reply to it in " + file_.string() + " (" + key.substr(0, 12) + "…)"});
  }
  return replies;
}

}  // namespace inoculum
