// OpenAI's API as text: how requests are read and replies written, without sockets and models.
//
//   const ApiRequest request = read_request(Endpoint::chat, body);  // an Error names the field
//   reply.dump();
//
// Fields are those of OpenAI and, where they go further, of vLLM (top_k, chat_template_kwargs,
// token ids as prompts, echo with max_tokens 0); "as" is ours: who answers, of the persona world.
// A field that would change the answer and is not honoured is refused; those that change nothing,
// be it by their value, are taken. Null is as good as absent.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/base/files.h"
#include "core/model/generation.h"
#include "core/text/conversation.h"
#include "core/text/tokenizer.h"

namespace inoculum {

enum class Endpoint { chat, completions };

struct ApiLimits {
  int64_t n = 128;            // choices of a prompt
  int64_t prompts = 1024;     // of a request
  int64_t choices = 1024;     // of a request
  int64_t top_logprobs = 20;  // of a token
};

struct ApiRequest {
  Endpoint endpoint = Endpoint::chat;
  std::string model = {};
  Conversation conversation = {};                                             // of a chat
  std::vector<std::variant<std::string, std::vector<int32_t>>> prompts = {};  // of completions
  std::optional<std::string> as = {};
  SamplingConfig sampling = {};  // `stop` holds the request's own
  std::optional<int64_t> max_tokens = {}, seed = {}, logprobs = {};
  int64_t n = 1;
  bool stream = false, include_usage = false, echo = false;
};

ApiRequest read_request(Endpoint endpoint, std::string_view body, const ApiLimits& limits = {});

// {"error": {"message", "type", "param", "code"}}
Json error_json(int status, const std::string& message, const std::string& param = "",
                const std::string& code = "");

// What stands in every reply and chunk of one request.
struct ReplyHead {
  Endpoint endpoint = Endpoint::chat;
  std::string id, model;
  int64_t created = 0, seed = 0;
};

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0;
};

// A choice, or a part of one: what has come since the part before.
struct ChoicePart {
  int64_t index = 0;
  std::string text = {};
  std::string finish_reason = {};  // empty: it goes on
  Json logprobs = nullptr;
};

Json whole_reply(const ReplyHead& head, const std::vector<ChoicePart>& choices, const Usage& usage);
// first: the chunk that begins a chat's choice, and names its role.
Json chunk(const ReplyHead& head, const ChoicePart& part, bool first);
Json usage_chunk(const ReplyHead& head, const Usage& usage);
std::string server_sent_event(const Json& data);

// A token's own text, with the space that it may lose where a text begins.
std::string token_text(const Tokenizer& tokenizer, int32_t id);
// In the shape of chats: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}.
Json chat_logprobs(const Tokenizer& tokenizer, std::span<const TokenLogprob> tokens);
// In that of completions: {"tokens", "token_logprobs", "top_logprobs", "text_offset"}. first: the
// first token of an echoed prompt, which has none. offset: where the text begins.
Json completion_logprobs(const Tokenizer& tokenizer, std::optional<int32_t> first,
                         std::span<const TokenLogprob> tokens, int64_t& offset);

}  // namespace inoculum
