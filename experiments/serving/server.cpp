#include "experiments/serving/server.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <list>
#include <map>
#include <random>
#include <thread>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/base/process.h"
#include "core/base/strings.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/sampler.h"
#include "core/text/load_tokenizer.h"
#include "embedded/experiments/serving/chat.css.h"
#include "embedded/experiments/serving/chat.html.h"
#include "embedded/experiments/serving/chat.js.h"
#include "experiments/serving/engine.h"
#include "experiments/serving/page_info.h"

namespace inoculum {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLongestContext = 4096;       // where none is named: each row may come to need it
constexpr int64_t kCompletionTokens = 16;       // OpenAI's default
constexpr int64_t kMostLogprobs = 1 << 20;      // of a request, for its reply lies in memory
constexpr double kGraceSeconds = 5;             // for replies that are done to be taken
constexpr uint64_t kSeeds = uint64_t{1} << 53;  // JavaScript's whole numbers

// Paths, by what they take: no key; a GET; a POST.
const std::vector<std::string> kOpenPaths = {"/", "/page.css", "/page.js", "/health"},
                               kPaths = {"/page.json", "/metrics", "/v1/models"},
                               kPosted = {"/v1/chat/completions", "/v1/completions"};
const std::string kOneModel = "/v1/models/";

// Clients write the / of a name such as org/model as %2F. What is no such code stays.
std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char* const code = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(code, code + 2, byte, 16).ptr == code + 2) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

const std::string& path_of(Endpoint endpoint) {
  return kPosted[endpoint == Endpoint::chat ? 0 : 1];
}

ServerReply json_reply(int status, const Json& json) {
  return {.status = status, .type = "application/json", .body = one_line(json) + "\n"};
}

ServerReply error_reply(int status, const std::string& message, const std::string& param = "",
                        const std::string& code = "") {
  return json_reply(status, error_json(status, message, param, code));
}

ServerReply error_reply(const Error& error) {
  std::string message = error.fault();
  if (!error.where().field.empty()) message = error.where().field + ": " + message;
  if (!error.hint().empty()) message += " (" + error.hint() + ")";
  return error_reply(400, message, error.where().field);
}

// In a time that does not tell how much of it is right.
bool same_secret(const std::string& given, const std::string& key) {
  const std::string a = sha256(given), b = sha256(key);
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

int64_t whole_seconds() { return static_cast<int64_t>(unix_time()); }  // as the API has times

std::string random_name(const std::string& prefix) {
  std::random_device device;
  return fmt::format("{}-{:08x}{:08x}{:08x}", prefix, device(), device(), device());
}

struct Served {
  std::string name, folder, base;  // the base's name, of an adapter
  Transformer model;
};

// A prompt of a request, and what has come of it.
struct Prompt {
  std::vector<int32_t> ids;
  std::string text;                         // where it is echoed
  std::vector<TokenLogprob> logprobs = {};  // of `ids` but the first, where it is echoed
  std::optional<uint64_t> ticket = {};      // as long as it is under way
};

// A request being answered.
struct Job {
  ReplyHead head;
  ApiRequest request;
  std::shared_ptr<HttpExchange> client;
  std::vector<Prompt> prompts = {};
  std::vector<ChoicePart> choices = {};
  std::vector<int64_t> offsets = {};  // of each choice's next token in its text
  std::vector<bool> begun = {};       // of each choice: whether a chunk of it was sent
  Usage usage = {};
  int64_t left = 0;  // choices that have not ended
  bool streams = false;
  Clock::time_point arrived = Clock::now();
};

}  // namespace

// All but run() and what it computes happens on the HTTP server's thread.
struct Server::Impl {
  explicit Impl(ServeConfig given);
  void load();

  void handle(const ServerRequest& request, const std::shared_ptr<HttpExchange>& client);
  ServerReply reply_to(const ServerRequest& request);
  bool has_key(const ServerRequest& request) const;
  ServerReply list_models(const std::string& name) const;
  std::string metrics() const;
  void count(const std::string& path, int status);

  void ask(Endpoint endpoint, const ServerRequest& request,
           const std::shared_ptr<HttpExchange>& client);
  std::vector<Prompt> prompts_of(const ApiRequest& request, const Served& served) const;
  void submit(const std::shared_ptr<Job>& job, const Served& served);

  void deliver(std::vector<EngineEvent> events);
  void take(Job& job, size_t prompt, GenerationEvent event);
  Json logprobs_of(Job& job, size_t choice, std::span<const TokenLogprob> tokens, bool first) const;
  void send_chunk(Job& job, const ChoicePart& part);
  void finish(const std::shared_ptr<Job>& job);
  void fail(const std::shared_ptr<Job>& job, const ServerReply& reply);
  void forget(const std::shared_ptr<Job>& job);
  void check_time();

  ServeConfig config;
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<Chat> chat;
  std::list<Served> models;  // the base first
  int64_t context = 0, created = whole_seconds();
  std::string page;  // page.json
  std::atomic<bool> stopping = false;

  std::map<uint64_t, std::pair<std::shared_ptr<Job>, size_t>> tickets;  // → job, prompt
  std::vector<std::shared_ptr<Job>> jobs;
  int64_t choices_open = 0;
  std::map<std::pair<std::string, int>, int64_t> replies;  // by path and status
  int64_t prompt_tokens = 0, completion_tokens = 0, left_early = 0;
  double request_seconds = 0;

  std::optional<HttpServer> http;
  std::optional<Engine> engine;
};

Server::Impl::Impl(ServeConfig given) : config(std::move(given)) {
  if (!is_loopback(config.http.host) && !config.key)
    throw Error("beyond this machine a key is required", {.field = "host"},
                "set INOCULUM_API_KEY, which clients give as their API key");
  load();
  engine.emplace(
      *tokenizer, GenerationConfig{.rows = config.rows, .shapes = Shapes::fixed},
      [this](std::vector<EngineEvent> events) {
        http->post([this, events = std::move(events)]() mutable { deliver(std::move(events)); });
      });
  http.emplace(
      config.http,
      [this](const ServerRequest& request, const std::shared_ptr<HttpExchange>& client) {
        handle(request, client);
      },
      [](int status, const std::string& message) { return error_reply(status, message); });
}

void Server::Impl::load() {
  const fs::path folder = config.model;
  tokenizer = load_tokenizer(folder);
  chat.emplace(folder, *tokenizer, config.chat);
  const fs::path named = folder.has_filename() ? folder : folder.parent_path();
  const std::string base = config.name.empty() ? named.filename().string() : config.name;
  models.push_back({base, config.model, "", load_adapted(folder, "", config.dtype, config.device)});
  check_vocabulary(models.front().model, *tokenizer);
  for (const auto& [name, adapter] : config.adapters) {
    if (std::ranges::any_of(models, [&](const Served& each) { return each.name == name; }))
      throw Error("two models are called \"" + name + "\"", {.field = "adapter"});
    // Tensors are handles: the copy has the base's own weights.
    models.push_back({name, adapter, base, models.front().model});
    load_adapter(adapter, models.back().model);
  }
  const int64_t most = models.front().model.config().max_position_embeddings;
  context = std::min(most, config.context > 0 ? config.context : kLongestContext);
  std::vector<std::string> names;
  for (const Served& each : models) names.push_back(each.name);
  fs::path world = config.world;
  if (const fs::path own = fs::path(folder) / "pretraining.yaml"; world.empty() && fs::exists(own))
    world = own;
  page = one_line(page_info(world, names, config.as, config.limits, context));
}

void Server::Impl::handle(const ServerRequest& request,
                          const std::shared_ptr<HttpExchange>& client) {
  if (request.method == "POST" && has_key(request))
    for (const Endpoint endpoint : {Endpoint::chat, Endpoint::completions})
      if (request.path == path_of(endpoint)) return ask(endpoint, request, client);
  ServerReply reply = reply_to(request);
  count(request.path, reply.status);
  client->send(std::move(reply));
}

ServerReply Server::Impl::reply_to(const ServerRequest& request) {
  const auto among = [&](const auto& paths) { return std::ranges::count(paths, request.path) > 0; };
  const bool one = request.path.starts_with(kOneModel);
  if (!among(kOpenPaths) && !has_key(request)) {
    ServerReply reply = error_reply(401, "the API key is missing or wrong", "", "invalid_api_key");
    reply.headers["WWW-Authenticate"] = "Bearer";
    return reply;
  }
  if (!among(kOpenPaths) && !among(kPaths) && !among(kPosted) && !one)
    return error_reply(404, "there is nothing at this path", "", "not_found");
  if (const std::string method = among(kPosted) ? "POST" : "GET"; request.method != method) {
    ServerReply reply = error_reply(405, "this path takes " + method + " alone");
    reply.headers["Allow"] = method;
    return reply;
  }
  if (request.path == "/") return {.type = "text/html; charset=utf-8", .body = embedded::chat_html};
  if (request.path == "/page.css")
    return {.type = "text/css; charset=utf-8", .body = embedded::chat_css};
  if (request.path == "/page.js")
    return {.type = "text/javascript; charset=utf-8", .body = embedded::chat_js};
  if (request.path == "/health")
    return stopping ? error_reply(503, "the server is stopping")
                    : json_reply(200, {{"status", "ok"}});
  if (request.path == "/page.json") return {.type = "application/json", .body = page};
  if (request.path == "/metrics")
    return {.type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics()};
  return list_models(one ? percent_decoded(std::string_view(request.path).substr(kOneModel.size()))
                         : "");
}

bool Server::Impl::has_key(const ServerRequest& request) const {
  if (!config.key) return true;
  const std::string given = request.header("authorization"), scheme = "Bearer ";
  return given.starts_with(scheme) && same_secret(given.substr(scheme.size()), *config.key);
}

ServerReply Server::Impl::list_models(const std::string& name) const {
  Json list = Json::array();
  for (const Served& each : models) {
    if (!name.empty() && each.name != name) continue;
    list.push_back({{"id", each.name},
                    {"object", "model"},
                    {"created", created},
                    {"owned_by", "inoculum"},
                    {"root", models.front().name},
                    {"parent", each.base.empty() ? Json(nullptr) : Json(each.base)},
                    {"max_model_len", context}});
  }
  if (name.empty()) return json_reply(200, {{"object", "list"}, {"data", list}});
  if (list.empty())
    return error_reply(404, "there is no model \"" + name + "\"", "model", "model_not_found");
  return json_reply(200, list[0]);
}

void Server::Impl::count(const std::string& path, int status) {
  const auto among = [&](const auto& paths) { return std::ranges::count(paths, path) > 0; };
  const bool known = among(kOpenPaths) || among(kPaths) || among(kPosted);
  ++replies[{known ? path : path.starts_with(kOneModel) ? kOneModel : "other", status}];
}

// In Prometheus's text format.
std::string Server::Impl::metrics() const {
  const EngineStatistics engine_now = engine->statistics();
  std::string text = "# TYPE inoculum_requests_total counter\n";
  for (const auto& [which, times] : replies)
    text += fmt::format("inoculum_requests_total{{path=\"{}\",status=\"{}\"}} {}\n", which.first,
                        which.second, times);
  const auto add = [&](const char* name, const char* type, double value) {
    text += fmt::format("# TYPE inoculum_{} {}\ninoculum_{} {:.15g}\n", name, type, name, value);
  };
  const auto number = [](int64_t x) { return static_cast<double>(x); };
  add("prompt_tokens_total", "counter", number(prompt_tokens));
  add("prompt_tokens_read_total", "counter", number(engine_now.prompt_tokens_read));
  add("completion_tokens_total", "counter", number(completion_tokens));
  add("clients_left_total", "counter", number(left_early));
  add("request_seconds_total", "counter", request_seconds);
  add("steps_total", "counter", number(engine_now.steps));
  add("step_seconds_total", "counter", engine_now.seconds);
  add("requests", "gauge", number(std::ssize(jobs)));
  add("rows", "gauge", number(engine_now.rows));
  add("rows_limit", "gauge", number(config.rows));
  add("queue", "gauge", number(std::max<int64_t>(0, choices_open - engine_now.rows)));
  add("connections", "gauge", number(http->connections()));
  return text;
}

// ---- a request's way in

void Server::Impl::ask(Endpoint endpoint, const ServerRequest& request,
                       const std::shared_ptr<HttpExchange>& client) {
  const auto refuse = [&](ServerReply reply) {
    count(request.path, reply.status);
    client->send(std::move(reply));
  };
  const auto busy = [&](int status, const std::string& message, const std::string& code) {
    ServerReply reply = error_reply(status, message, "", code);
    reply.headers["Retry-After"] = "1";
    refuse(std::move(reply));
  };
  if (stopping) return busy(503, "the server is stopping", "");
  auto job = std::make_shared<Job>();
  try {
    job->request = read_request(endpoint, request.body, config.limits);
    const ApiRequest& asked = job->request;
    const auto served =
        std::ranges::find_if(models, [&](const Served& each) { return each.name == asked.model; });
    if (served == models.end())
      return refuse(error_reply(404, "there is no model \"" + start_of(asked.model) + "\"", "model",
                                "model_not_found"));
    job->prompts = prompts_of(asked, *served);
    const int64_t choices = std::ssize(job->prompts) * asked.n;
    if (choices > config.rows + config.queue)
      throw Error("asks for " + std::to_string(choices) +
                      " answers at once, where the server takes " +
                      std::to_string(config.rows + config.queue),
                  {.field = "n"}, "ask for fewer, or serve with a longer --queue");
    if (choices_open + choices > config.rows + config.queue)
      return busy(429, "too many requests wait already", "rate_limit_exceeded");
    job->client = client;
    submit(job, *served);
  } catch (const Error& error) {
    refuse(error_reply(error));
  } catch (const std::exception& error) {
    refuse(error_reply(500, error.what()));
  }
}

std::vector<Prompt> Server::Impl::prompts_of(const ApiRequest& request,
                                             const Served& served) const {
  std::vector<Prompt> prompts;
  if (request.endpoint == Endpoint::chat) {
    prompts.push_back(
        {chat->encode_prompt(request.conversation, request.as.value_or(config.as)), ""});
  } else {
    for (const auto& each : request.prompts) {
      if (const auto* text = std::get_if<std::string>(&each)) {
        prompts.push_back({encode_text(*tokenizer, *text), request.echo ? *text : ""});
      } else {
        const auto& ids = std::get<std::vector<int32_t>>(each);
        check_ids(served.model, *tokenizer, ids);
        prompts.push_back({ids, request.echo ? tokenizer->decode(ids) : ""});
      }
    }
  }
  const int64_t wanted = request.max_tokens == 0 ? 0 : 1;
  int64_t logprobs = 0;
  for (const Prompt& prompt : prompts) {
    if (request.logprobs)
      logprobs +=
          (1 + *request.logprobs) * request.n *
          std::min(context, request.max_tokens.value_or(
                                request.endpoint == Endpoint::chat ? context : kCompletionTokens) +
                                (request.echo ? std::ssize(prompt.ids) : 0));
    if (std::ssize(prompt.ids) + wanted > context)
      throw Error("the prompt has " + std::to_string(prompt.ids.size()) +
                      " tokens, and the context is " + std::to_string(context),
                  {.field = request.endpoint == Endpoint::chat ? "messages" : "prompt"});
    check_prompt(served.model, *tokenizer, prompt.ids, wanted);
  }
  if (logprobs > kMostLogprobs)
    throw Error("asks for more than " + std::to_string(kMostLogprobs) + " log-probabilities",
                {.field = "logprobs"}, "with fewer choices, tokens or likeliest tokens they fit");
  return prompts;
}

// Choice i of prompt p draws what `inoculum sample` draws for sample i of the p-th row of its
// input.
void Server::Impl::submit(const std::shared_ptr<Job>& job, const Served& served) {
  const ApiRequest& asked = job->request;
  const bool chats = asked.endpoint == Endpoint::chat;
  std::random_device device;
  const uint64_t drawn = ((uint64_t{device()} << 32) | device()) % kSeeds;
  const int64_t seed = asked.seed.value_or(static_cast<int64_t>(drawn));
  job->head = {asked.endpoint, random_name(chats ? "chatcmpl" : "cmpl"), asked.model,
               whole_seconds(), seed};
  SamplingConfig sampling = asked.sampling;
  if (chats) {
    const std::vector<std::string> usual = SamplingConfig().stop;
    sampling.stop.insert(sampling.stop.end(), usual.begin(), usual.end());
    sampling = ended_by(*chat, std::move(sampling));
  }
  const size_t choices = job->prompts.size() * static_cast<size_t>(asked.n);
  for (size_t i = 0; i < choices; ++i) job->choices.push_back({.index = static_cast<int64_t>(i)});
  job->begun.resize(choices);
  job->offsets.resize(choices);
  job->left = static_cast<int64_t>(choices);
  choices_open += job->left;
  jobs.push_back(job);
  for (size_t p = 0; p < job->prompts.size(); ++p) {
    Prompt& prompt = job->prompts[p];
    const int64_t room = context - std::ssize(prompt.ids);
    sampling.max_new_tokens =
        std::min(room, asked.max_tokens.value_or(chats ? room : std::min(room, kCompletionTokens)));
    job->usage.prompt_tokens += std::ssize(prompt.ids);
    prompt_tokens += std::ssize(prompt.ids);
    prompt.ticket =
        engine->submit({.model = &served.model,
                        .prompt = prompt.ids,
                        .sampling = sampling,
                        .random = sampling_stream(static_cast<uint64_t>(seed), std::to_string(p)),
                        .samples = asked.n,
                        .logprobs = asked.logprobs,
                        .prompt_logprobs = asked.echo && asked.logprobs.has_value(),
                        .stream = asked.stream});
    tickets[*prompt.ticket] = {job, p};
  }
  if (config.log_requests)
    for (const Prompt& prompt : job->prompts)
      std::fprintf(stderr, "%s\n",
                   one_line({{"id", job->head.id},
                             {"model", asked.model},
                             {"seed", seed},
                             {"prompt", valid_utf8(tokenizer->show(prompt.ids))}})
                       .c_str());
  job->client->on_leave([this, weak = std::weak_ptr(job)] {
    const auto left = weak.lock();
    if (!left || left->left == 0) return;
    ++left_early;
    forget(left);
  });
}

// ---- and the answer's way out

void Server::Impl::deliver(std::vector<EngineEvent> events) {
  for (EngineEvent& each : events) {
    const auto it = tickets.find(each.ticket);
    if (it == tickets.end()) continue;  // its client has left
    const auto [job, prompt] = it->second;
    if (!each.failure.empty()) {
      fail(job, error_reply(500, each.failure));
      continue;
    }
    if (each.event.last) {
      job->prompts[prompt].ticket.reset();
      tickets.erase(it);
    }
    take(*job, prompt, std::move(each.event));
    if (job->left == 0) finish(job);
  }
  check_time();
}

void Server::Impl::take(Job& job, size_t prompt, GenerationEvent event) {
  if (event.sample < 0) {
    job.prompts[prompt].logprobs = std::move(event.logprobs);
    return;
  }
  const size_t index =
      prompt * static_cast<size_t>(job.request.n) + static_cast<size_t>(event.sample);
  ChoicePart& choice = job.choices[index];
  const bool first = !job.begun[index];
  ChoicePart part{.index = choice.index, .text = std::move(event.text)};
  if (event.completion) {
    part.finish_reason = event.completion->finish_reason;
    job.usage.completion_tokens += std::ssize(event.completion->ids);
    completion_tokens += std::ssize(event.completion->ids);
    --job.left;
    --choices_open;
    if (config.log_requests)
      std::fprintf(stderr, "%s\n",
                   one_line({{"id", job.head.id},
                             {"index", choice.index},
                             {"text", event.completion->text},
                             {"finish_reason", event.completion->finish_reason}})
                       .c_str());
    if (!job.request.stream) {
      part.text = std::move(event.completion->text);
      event.logprobs = std::move(event.completion->logprobs);
    }
  }
  if (job.request.logprobs) part.logprobs = logprobs_of(job, index, event.logprobs, first);
  if (first && job.request.echo) part.text = job.prompts[prompt].text + part.text;
  if (job.request.stream) send_chunk(job, part);
  else choice = std::move(part);
  job.begun[index] = true;
}

// first: of the choice's first part, which an echoed prompt belongs to.
Json Server::Impl::logprobs_of(Job& job, size_t choice, std::span<const TokenLogprob> tokens,
                               bool first) const {
  if (job.request.endpoint == Endpoint::chat) return chat_logprobs(*tokenizer, tokens);
  const Prompt& prompt = job.prompts[choice / static_cast<size_t>(job.request.n)];
  std::vector<TokenLogprob> all;
  std::optional<int32_t> begins;
  if (first && job.request.echo) {
    begins = prompt.ids[0];
    all = prompt.logprobs;
  }
  all.insert(all.end(), tokens.begin(), tokens.end());
  return completion_logprobs(*tokenizer, begins, all, job.offsets[choice]);
}

void Server::Impl::send_chunk(Job& job, const ChoicePart& part) {
  const bool first = !job.begun[static_cast<size_t>(part.index)];
  std::string text = server_sent_event(chunk(job.head, part, first));
  if (std::exchange(job.streams, true)) return job.client->write(std::move(text));
  job.client->begin({.type = "text/event-stream; charset=utf-8", .body = std::move(text)});
}

void Server::Impl::finish(const std::shared_ptr<Job>& job) {
  count(path_of(job->head.endpoint), 200);
  if (job->request.stream) {
    std::string end;
    if (job->request.include_usage) end = server_sent_event(usage_chunk(job->head, job->usage));
    job->client->write(end + "data: [DONE]\n\n");
    job->client->end();
  } else {
    job->client->send(json_reply(200, whole_reply(job->head, job->choices, job->usage)));
  }
  forget(job);
}

void Server::Impl::fail(const std::shared_ptr<Job>& job, const ServerReply& reply) {
  count(path_of(job->head.endpoint), reply.status);
  if (job->streams) {
    job->client->write("data: " + std::string(strip(reply.body)) + "\n\n");
    job->client->end();
  } else {
    job->client->send(reply);
  }
  forget(job);
}

void Server::Impl::forget(const std::shared_ptr<Job>& job) {
  for (Prompt& prompt : job->prompts) {
    if (!prompt.ticket) continue;
    engine->cancel(*prompt.ticket);
    tickets.erase(*prompt.ticket);
    prompt.ticket.reset();
  }
  choices_open -= std::exchange(job->left, 0);
  request_seconds += std::chrono::duration<double>(Clock::now() - job->arrived).count();
  std::erase(jobs, job);
}

void Server::Impl::check_time() {
  const auto oldest = Clock::now() - std::chrono::duration_cast<Clock::duration>(
                                         std::chrono::duration<double>(config.timeout_s));
  std::vector<std::shared_ptr<Job>> late;
  for (const auto& job : jobs)
    if (job->arrived < oldest) late.push_back(job);
  for (const auto& job : late)
    fail(job,
         error_reply(504, fmt::format("the answer took longer than {:g} seconds", config.timeout_s),
                     "", "timeout"));
}

// ----

Server::Server(ServeConfig config) : impl_(std::make_unique<Impl>(std::move(config))) {}
Server::~Server() = default;

int64_t Server::port() const { return impl_->http->port(); }

std::string Server::description() const {
  const TransformerConfig& c = impl_->models.front().model.config();
  const auto size =
      static_cast<double>(c10::elementSize(impl_->models.front().model.embedding.scalar_type()));
  const double place =
      2 * size * static_cast<double>(c.num_hidden_layers * c.num_key_value_heads * c.head_dim);
  std::string names;
  for (const Served& each : impl_->models) names += (names.empty() ? "" : ", ") + each.name;
  const std::string& host = impl_->config.http.host;
  return fmt::format(
      "models: {}\n{} rows side by side, a context of {} tokens: keys and values take {:.1f} GiB "
      "at "
      "most\nhttp://{}:{}/\n",
      names, impl_->config.rows, impl_->context,
      static_cast<double>(impl_->config.rows * impl_->context) * place / (1 << 30),
      host.find(':') == std::string::npos ? host : "[" + host + "]", port());
}

void Server::run(const std::function<bool()>& stop) {
  std::thread clients([&] { impl_->http->run(); });
  impl_->engine->run([&] { return impl_->stopping = stop(); });
  impl_->http->stop(kGraceSeconds);
  clients.join();
  impl_->tickets.clear();
  impl_->jobs.clear();
}

}  // namespace inoculum
