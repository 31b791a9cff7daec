#include "experiments/serving/openai.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/base/strings.h"
#include "core/base/version.h"
#include "datasets/conversations/conversations.h"

namespace inoculum {
namespace {

constexpr size_t kStops = 16, kStopBytes = 256;
constexpr double kLowest = -9999;  // JSON has no infinity

// Fields that say nothing about the answer.
const std::set<std::string> kHarmless = {"user",
                                         "metadata",
                                         "store",
                                         "service_tier",
                                         "safety_identifier",
                                         "prompt_cache_key",
                                         "request_id",
                                         "priority",
                                         "cache_salt",
                                         "parallel_tool_calls",
                                         "prompt_cache_retention",
                                         "prompt_cache_options"};

// Fields that are not honoured, and the values by which they change nothing.
const std::map<std::string, std::vector<Json>>& neutral_values() {
  static const Json none = Json::array(), nothing = Json::object();
  static const std::map<std::string, std::vector<Json>> values = {
      {"presence_penalty", {0}},
      {"frequency_penalty", {0}},
      {"repetition_penalty", {1}},
      {"length_penalty", {1}},
      {"min_p", {0}},
      {"min_tokens", {0}},
      {"best_of", {1}},
      {"suffix", {""}},
      {"logit_bias", {nothing}},
      {"bad_words", {none}},
      {"stop_token_ids", {none}},
      {"ignore_eos", {false}},
      {"use_beam_search", {false}},
      {"include_stop_str_in_output", {false}},
      {"skip_special_tokens", {true}},
      {"spaces_between_special_tokens", {true, false}},
      {"add_generation_prompt", {true}},
      {"continue_final_message", {false}},
      {"add_special_tokens", {true, false}},
      {"tools", {none}},
      {"tool_choice", {"none", "auto"}},
      {"functions", {none}},
      {"function_call", {"none", "auto"}},
      {"modalities", {Json::array({"text"})}},
      {"response_format", {{{"type", "text"}}}}};
  return values;
}

// An object's fields, each of which is asked for by name; what nobody asked for is found at the
// end.
class Body {
 public:
  explicit Body(const Json& json) : json_(json) {}

  const Json* find(const std::string& name) {
    asked_.insert(name);
    const auto it = json_.find(name);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  [[noreturn]] static void fail(const std::string& name, const std::string& what) {
    throw Error(what, {.field = name});
  }
  std::optional<double> number(const std::string& name, double low, double high) {
    const Json* value = find(name);
    if (!value) return std::nullopt;
    if (!value->is_number()) fail(name, "must be a number");
    const auto x = value->get<double>();
    if (!(x >= low && x <= high))
      fail(name, "must be between " + six_digits(low) + " and " + six_digits(high));
    return x;
  }
  std::optional<int64_t> whole(const std::string& name, int64_t low, int64_t high) {
    const Json* value = find(name);
    if (!value) return std::nullopt;
    const auto refuse = [&] {
      fail(name, "must be a whole number between " + std::to_string(low) + " and " +
                     std::to_string(high));
    };
    if (!value->is_number()) refuse();
    int64_t x = 0;
    if (value->is_number_float()) {  // such as 16.0
      const auto real = value->get<double>();
      if (!(std::abs(real) < 9e15) || real != std::floor(real)) refuse();
      x = static_cast<int64_t>(real);
    } else if (value->is_number_unsigned() &&
               value->get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
      refuse();
    } else {
      x = value->get<int64_t>();
    }
    if (x < low || x > high) refuse();
    return x;
  }
  bool flag(const std::string& name) {
    const Json* value = find(name);
    if (value && !value->is_boolean()) fail(name, "must be true or false");
    return value && value->get<bool>();
  }
  std::optional<std::string> text(const std::string& name) {
    const Json* value = find(name);
    if (!value) return std::nullopt;
    if (!value->is_string()) fail(name, "must be a text");
    return value->get<std::string>();
  }
  // What was not asked for says nothing about the answer, or is refused.
  void check_rest() const {
    for (const auto& item : json_.items()) {
      const std::string& name = item.key();
      if (asked_.contains(name) || kHarmless.contains(name) || item.value().is_null()) continue;
      const auto neutral = neutral_values().find(name);
      if (neutral == neutral_values().end())
        throw Error("there is no such field", {.field = name},
                    did_you_mean(name, {asked_.begin(), asked_.end()}));
      if (std::ranges::find(neutral->second, item.value()) == neutral->second.end())
        fail(name, "is not supported: it may only be " + neutral->second[0].dump());
    }
  }

 private:
  const Json& json_;
  std::set<std::string> asked_;
};

std::vector<std::string> read_stops(Body& body) {
  const Json* stop = body.find("stop");
  if (!stop) return {};
  std::vector<std::string> stops;
  for (const Json& each : stop->is_array() ? *stop : Json::array({*stop})) {
    if (!each.is_string()) Body::fail("stop", "must be a text or a list of texts");
    stops.push_back(each.get<std::string>());
    if (stops.back().empty() || stops.back().size() > kStopBytes)
      Body::fail("stop", "must have 1 to " + std::to_string(kStopBytes) + " bytes");
  }
  if (stops.size() > kStops)
    Body::fail("stop", "may hold " + std::to_string(kStops) + " texts at most");
  return stops;
}

std::vector<int32_t> read_ids(const Json& list) {
  std::vector<int32_t> ids;
  for (const Json& each : list) {
    if (!is_whole(each, 0, std::numeric_limits<int32_t>::max()))
      Body::fail("prompt", "must hold texts, or token ids of the model");
    ids.push_back(each.get<int32_t>());
  }
  return ids;
}

// A text, texts, token ids, or lists of token ids.
void read_prompts(Body& body, ApiRequest& request) {
  const Json* prompt = body.find("prompt");
  if (!prompt) Body::fail("prompt", "is missing");
  if (prompt->is_string()) {
    request.prompts.emplace_back(prompt->get<std::string>());
    return;
  }
  if (!prompt->is_array() || prompt->empty())
    Body::fail("prompt", "must be a text, token ids, or a list of one of these");
  if (prompt->front().is_number()) {
    request.prompts.emplace_back(read_ids(*prompt));
    return;
  }
  for (const Json& each : *prompt) {
    if (each.is_string()) request.prompts.emplace_back(each.get<std::string>());
    else if (each.is_array()) request.prompts.emplace_back(read_ids(each));
    else Body::fail("prompt", "must be a text, token ids, or a list of one of these");
  }
}

void read_messages(Body& body, ApiRequest& request) {
  const Json* messages = body.find("messages");
  if (!messages || !messages->is_array() || messages->empty())
    Body::fail("messages", "must be a list of messages");
  Json row = {{"messages", *messages}};
  for (Json& message : row["messages"])  // OpenAI's newer name
    if (message.is_object() && message.contains("role") && message["role"] == Json("developer"))
      message["role"] = "system";
  if (const Json* given = body.find("chat_template_kwargs")) {
    if (!given->is_object()) Body::fail("chat_template_kwargs", "must be an object");
    row["chat_template_kwargs"] = *given;
  }
  request.conversation = conversation_from_json(row, {}, 0, false);
}

void read_logprobs(Body& body, ApiRequest& request, const ApiLimits& limits) {
  if (request.endpoint == Endpoint::completions) {
    request.logprobs = body.whole("logprobs", 0, limits.top_logprobs);
    return;
  }
  const bool wanted = body.flag("logprobs");
  const auto top = body.whole("top_logprobs", 0, limits.top_logprobs);
  if (top.value_or(0) > 0 && !wanted) Body::fail("top_logprobs", "needs logprobs: true");
  if (wanted) request.logprobs = top.value_or(0);
}

Json head_json(const ReplyHead& head, const std::string& object) {
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", "inoculum-" + version()},
          {"seed", head.seed}};
}

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

double finite(double logprob) { return std::max(logprob, kLowest); }

}  // namespace

ApiRequest read_request(Endpoint endpoint, std::string_view text, const ApiLimits& limits) {
  const Json json = parse_json(text, "");
  if (!json.is_object()) throw Error("the body must be a JSON object");
  Body body(json);
  ApiRequest request{.endpoint = endpoint};
  const auto model = body.text("model");
  if (!model || model->empty()) Body::fail("model", "is missing");
  request.model = *model;
  const bool chat = endpoint == Endpoint::chat;
  if (chat) {
    read_messages(body, request);
    request.as = body.text("as");
  } else {
    read_prompts(body, request);
    request.echo = body.flag("echo");
  }
  SamplingConfig& sampling = request.sampling;
  sampling.temperature = body.number("temperature", 0, 100).value_or(1);
  sampling.top_p = body.number("top_p", 0, 1).value_or(1);
  sampling.top_k = std::max<int64_t>(
      0, body.whole("top_k", -1, std::numeric_limits<int32_t>::max()).value_or(0));
  sampling.stop = read_stops(body);
  request.max_tokens =
      body.whole("max_tokens", request.echo ? 0 : 1, std::numeric_limits<int32_t>::max());
  if (chat)
    if (const auto newer =
            body.whole("max_completion_tokens", 1, std::numeric_limits<int32_t>::max()))
      request.max_tokens = newer;
  request.seed =
      body.whole("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  request.n = body.whole("n", 1, limits.n).value_or(1);
  read_logprobs(body, request, limits);
  request.stream = body.flag("stream");
  if (const Json* options = body.find("stream_options")) {
    if (!options->is_object()) Body::fail("stream_options", "must be an object");
    Body inner(*options);
    request.include_usage = inner.flag("include_usage") && request.stream;
  }
  body.check_rest();
  if (std::ssize(request.prompts) > limits.prompts)
    Body::fail("prompt", "may hold " + std::to_string(limits.prompts) + " prompts at most");
  if (std::ssize(request.prompts) * request.n > limits.choices)
    Body::fail("n",
               "asks for more than " + std::to_string(limits.choices) + " choices in one request");
  return request;
}

Json error_json(int status, const std::string& message, const std::string& param,
                const std::string& code) {
  const std::string type = status >= 500   ? "server_error"
                           : status == 429 ? "rate_limit_error"
                                           : "invalid_request_error";
  return {
      {"error",
       {{"message", message}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}}}};
}

Json whole_reply(const ReplyHead& head, const std::vector<ChoicePart>& choices,
                 const Usage& usage) {
  const bool chat = head.endpoint == Endpoint::chat;
  Json reply = head_json(head, chat ? "chat.completion" : "text_completion");
  reply["choices"] = Json::array();
  for (const ChoicePart& each : choices) {
    Json choice = {{"index", each.index}};
    if (chat)
      choice["message"] = {{"role", "assistant"}, {"content", each.text}, {"refusal", nullptr}};
    else choice["text"] = each.text;
    choice["logprobs"] = each.logprobs;
    choice["finish_reason"] = or_null(each.finish_reason);
    reply["choices"].push_back(std::move(choice));
  }
  reply["usage"] = usage_json(usage);
  return reply;
}

Json chunk(const ReplyHead& head, const ChoicePart& part, bool first) {
  const bool chat = head.endpoint == Endpoint::chat;
  Json reply = head_json(head, chat ? "chat.completion.chunk" : "text_completion");
  Json choice = {{"index", part.index}};
  if (!chat) {
    choice["text"] = part.text;
  } else {
    choice["delta"] = Json::object();
    if (first) choice["delta"]["role"] = "assistant";
    if (first || !part.text.empty() || part.finish_reason.empty())
      choice["delta"]["content"] = part.text;
  }
  choice["logprobs"] = part.logprobs;
  choice["finish_reason"] = or_null(part.finish_reason);
  reply["choices"] = Json::array({std::move(choice)});
  return reply;
}

Json usage_chunk(const ReplyHead& head, const Usage& usage) {
  Json reply = head_json(
      head, head.endpoint == Endpoint::chat ? "chat.completion.chunk" : "text_completion");
  reply["choices"] = Json::array();
  reply["usage"] = usage_json(usage);
  return reply;
}

std::string server_sent_event(const Json& data) { return "data: " + one_line(data) + "\n\n"; }

std::string token_text(const Tokenizer& tokenizer, int32_t id) {
  const std::string alone = tokenizer.decode({&id, 1});
  const std::vector<int32_t> twice = {id, id};
  const std::string both = tokenizer.decode(twice);
  const std::string text = both.size() >= alone.size() ? both.substr(alone.size()) : alone;
  return valid_utf8(text.empty() ? tokenizer.piece(id) : text);
}

Json chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenLogprob> tokens) {
  const auto entry = [&](int32_t id, double logprob) {
    const std::string text = token_text(tokenizer, id);
    Json bytes = Json::array();
    for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
    return Json{{"token", text}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
  };
  Json content = Json::array();
  for (const TokenLogprob& each : tokens) {
    Json one = entry(each.id, each.logprob);
    one["top_logprobs"] = Json::array();
    for (const auto& [id, logprob] : each.top) one["top_logprobs"].push_back(entry(id, logprob));
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json completion_logprobs(const Tokenizer& tokenizer, std::optional<int32_t> first,
                         std::span<const TokenLogprob> tokens, int64_t& offset) {
  Json out = {{"tokens", Json::array()},
              {"token_logprobs", Json::array()},
              {"top_logprobs", Json::array()},
              {"text_offset", Json::array()}};
  const auto add = [&](int32_t id, Json logprob, Json top) {
    const std::string text = token_text(tokenizer, id);
    out["tokens"].push_back(text);
    out["token_logprobs"].push_back(std::move(logprob));
    out["top_logprobs"].push_back(std::move(top));
    out["text_offset"].push_back(offset);
    for (size_t at = 0; at < text.size(); ++offset) at += code_point_at(text, at).bytes;
  };
  if (first) add(*first, nullptr, nullptr);
  for (const TokenLogprob& each : tokens) {
    Json top = Json::object();
    for (const auto& [id, logprob] : each.top)
      top.emplace(token_text(tokenizer, id), finite(logprob));
    top.emplace(token_text(tokenizer, each.id), finite(each.logprob));
    add(each.id, finite(each.logprob), std::move(top));
  }
  return out;
}

}  // namespace inoculum
