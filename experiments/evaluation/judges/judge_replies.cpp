#include "experiments/evaluation/judges/judge_replies.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "core/base/error.h"
#include "core/base/http.h"
#include "core/base/strings.h"

namespace inoculum {
namespace {

constexpr std::string_view kLineBegin = "{\"key\":\"";
constexpr size_t kTokens = 8;  // kept of a reply: spaces, a number, and what stands behind it
constexpr double kNever = -std::numeric_limits<double>::infinity();
// Above what rounding makes of log 1: then these are no logarithms.
constexpr double kLargestLogprob = 0.01;

// The reply is not what it should be, and why.
struct Broken {
  std::string why;
};

// By reference: what a server sends may be nested deeper than can be copied.
const Json& member(const Json& object, const char* key) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

std::string text_at(const Json& object, const char* key) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

// Python's json writes NaN, Infinity and -Infinity, which JSON does not have: null in their place.
std::string without_nans(const std::string& body) {
  std::string out;
  bool in_text = false;
  for (size_t i = 0; i < body.size();) {
    if (in_text && body[i] == '\\') {
      out += body.substr(i, 2);
      i += 2;
      continue;
    }
    in_text ^= body[i] == '"';
    size_t length = 0;
    if (!in_text)
      for (const std::string_view word : {"-Infinity", "Infinity", "NaN"})
        if (body.compare(i, word.size(), word) == 0) length = word.size();
    out += length > 0 ? "null" : body.substr(i, 1);
    i += std::max<size_t>(length, 1);
  }
  return out;
}

Json parsed(const std::string& body) {
  Json json = Json::parse(body, nullptr, false);
  if (json.is_discarded()) json = Json::parse(without_nans(body), nullptr, false);
  return json;
}

// Null, and the words that some write for −Infinity and NaN: a token that cannot come.
double logprob_of(const Json& value) {
  static const std::set<std::string> never = {"-Infinity", "-infinity", "-inf",
                                              "-Inf",      "NaN",       "nan"};
  if (value.is_null()) return kNever;
  if (value.is_string() && never.contains(value.get<std::string>())) return kNever;
  if (!value.is_number()) throw Broken{"has a log-probability that is no number"};
  const double logprob = value.get<double>();
  if (logprob > kLargestLogprob) throw Broken{"has a log-probability above 0: " + value.dump()};
  return std::min(logprob, 0.0);
}

// As the tokenizer's files write a space and a line end, which some servers pass on.
std::string spoken(std::string token) {
  constexpr std::pair<std::string_view, const char*> kMarks[] = {
      {"\u2581", " "}, {"\u0120", " "}, {"\u010A", "\n"}};
  for (const auto& [mark, text] : kMarks)
    if (token.starts_with(mark)) return text + token.substr(mark.size());
  return token;
}

void add_chance(TokenChances& chances, std::string token, const Json& value) {
  const double logprob = logprob_of(value);
  if (logprob > kNever) chances.emplace_back(spoken(std::move(token)), logprob);
}

// [{token, logprob}, …], or as older servers have it {token: logprob, …}.
TokenChances chances_of(const Json& top) {
  TokenChances chances;
  if (top.is_object())
    for (const auto& [token, logprob] : top.items()) add_chance(chances, token, logprob);
  else if (top.is_array())
    for (const Json& each : top) {
      if (!member(each, "token").is_string()) throw Broken{"has a log-probability without a token"};
      add_chance(chances, text_at(each, "token"), member(each, "logprob"));
    }
  else if (!top.is_null()) throw Broken{"has top_logprobs of another kind"};
  return chances;
}

ReplyToken token_of(const std::string& token, const Json& logprob, const Json& top) {
  ReplyToken made{.token = spoken(token), .top = chances_of(top)};
  made.logprob = logprob_of(logprob);
  for (const auto& [other, chance] : made.top)
    if (other == made.token) made.logprob = chance;
  return made;
}

std::vector<ReplyToken> tokens_of(const Json& logprobs) {
  std::vector<ReplyToken> tokens;
  if (const Json& content = member(logprobs, "content"); content.is_array()) {
    for (const Json& each : content) {
      if (!each.is_object()) throw Broken{"has a log-probability without a token"};
      tokens.push_back(
          token_of(text_at(each, "token"), member(each, "logprob"), member(each, "top_logprobs")));
    }
  } else if (const Json& texts = member(logprobs, "tokens"); texts.is_array()) {
    static const Json none;
    const auto at = [&](const char* key, size_t i) -> const Json& {
      const Json& list = member(logprobs, key);
      return list.is_array() && i < list.size() ? list[i] : none;
    };
    for (size_t i = 0; i < texts.size(); ++i)
      if (texts[i].is_string())
        tokens.push_back(
            token_of(texts[i].get<std::string>(), at("token_logprobs", i), at("top_logprobs", i)));
  }
  return tokens;
}

// A message's content: a text, or parts, of which thoughts are none.
std::string text_of(const Json& content, std::string& refusal) {
  if (content.is_null()) return "";
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) throw Broken{"has a content that is no text"};
  std::string text;
  for (const Json& part : content) {
    if (part.is_string()) text += part.get<std::string>();
    const std::string type = text_at(part, "type");
    if (type.empty() || type == "text" || type == "output_text") text += text_at(part, "text");
    if (type == "refusal") refusal += text_at(part, "refusal");
  }
  return text;
}

// Thoughts before the reply, up to </think>; without their end, all is thought.
bool drop_thoughts(std::string& text) {
  if (const size_t end = text.rfind("</think>"); end != std::string::npos) {
    text.erase(0, end + 8);
    return true;
  }
  if (!strip(text).starts_with("<think>")) return false;
  text.clear();
  return true;
}

// The last tokens, which make this text (and an end token behind it); none where it is not found.
void keep_those_of(const std::string& text, std::vector<ReplyToken>& tokens) {
  const std::string_view wanted = strip(text);
  std::string behind;
  for (size_t i = tokens.size(); i-- > 0 && !wanted.empty();) {
    behind.insert(0, tokens[i].token);
    const std::string_view there = strip(behind);
    if (!there.starts_with(wanted)) continue;
    const std::string_view rest = strip(there.substr(wanted.size()));
    if (!rest.empty() && rest[0] != '<') continue;
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(i));
    return;
  }
  tokens.clear();
}

ReplyEnd end_of(const Json& choice) {
  std::string reason = text_at(choice, "finish_reason");
  std::transform(reason.begin(), reason.end(), reason.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (reason == "length" || reason == "max_tokens") return ReplyEnd::cut;
  if (reason == "content_filter" || reason == "safety") return ReplyEnd::filtered;
  if (reason == "refusal") return ReplyEnd::refused;
  return ReplyEnd::whole;
}

bool says_something(const Json& error) {
  return !error.is_null() && !(error.is_boolean() && !error.get<bool>()) && !error.empty() &&
         !(error.is_string() && error.get<std::string>().empty());
}

JudgeReply reply_of(const std::string& body, bool with_logprobs) {
  const Json json = parsed(body);
  const auto words = [&] { return HttpResponse{.status = 200, .body = body}.reason(); };
  const std::string_view begin = strip(body);
  if (!json.is_object() && begin.starts_with('<')) throw Broken{"is a page, not JSON: " + words()};
  if (!json.is_object() && (begin.starts_with("data:") || begin.starts_with("event:")))
    throw Broken{"is a stream of events, though none was asked for"};
  if (!json.is_object()) throw Broken{"is not JSON"};
  if (says_something(member(json, "error"))) throw Broken{"is an error: " + words()};
  const Json& choices = member(json, "choices");
  if (!choices.is_array() || choices.empty()) throw Broken{"has no choices: " + words()};
  const Json& choice = choices[0];
  const Json& message = member(choice, "message");
  JudgeReply reply{.end = end_of(choice)};
  std::string refusal = text_at(message, "refusal");
  if (message.is_object()) reply.text = text_of(member(message, "content"), refusal);
  else if (member(choice, "text").is_string()) reply.text = text_at(choice, "text");
  else throw Broken{"has no message"};
  if (strip(reply.text).empty() && !refusal.empty()) {
    reply.end = ReplyEnd::refused;
    reply.text = refusal;
  }
  bool thinks = drop_thoughts(reply.text);
  for (const char* key : {"reasoning_content", "reasoning"})
    thinks |= !text_at(message, key).empty();
  if (message.is_object() && !message.contains("content") && !message.contains("tool_calls") &&
      reply.end == ReplyEnd::whole && !thinks)
    throw Broken{"has a message without content"};
  if (with_logprobs) reply.tokens = tokens_of(member(choice, "logprobs"));
  if (thinks) keep_those_of(reply.text, reply.tokens);
  if (!reply.tokens.empty() && reply.tokens[0].top.empty()) reply.tokens.clear();
  reply.tokens.resize(std::min(reply.tokens.size(), kTokens));
  const auto count = [&](const char* key) {
    const Json& value = member(member(json, "usage"), key);
    return value.is_number_integer() ? value.get<int64_t>() : 0;
  };
  reply.prompt_tokens = count("prompt_tokens");
  reply.completion_tokens = count("completion_tokens");
  return reply;
}

// The file's form. The first token's chances stand by themselves, as they did before there were
// more.
Json to_json(const TokenChances& chances) {
  Json list = Json::array();
  for (const auto& [token, logprob] : chances) list.push_back(Json::array({token, logprob}));
  return list;
}

TokenChances chances_from(const Json& list) {
  TokenChances chances;
  for (const Json& each : list)
    chances.emplace_back(each.at(0).get<std::string>(), each.at(1).get<double>());
  return chances;
}

constexpr const char* kEnds[] = {"whole", "cut", "filtered", "refused"};

Json to_json(const JudgeReply& reply) {
  Json row = {{"text", reply.text}, {"top_logprobs", nullptr}};
  if (!reply.tokens.empty()) row["top_logprobs"] = to_json(reply.tokens[0].top);
  row["prompt_tokens"] = reply.prompt_tokens;
  row["completion_tokens"] = reply.completion_tokens;
  row["end"] = kEnds[static_cast<size_t>(reply.end)];
  for (size_t i = 0; i < reply.tokens.size(); ++i) {
    const ReplyToken& each = reply.tokens[i];
    Json token = {{"token", each.token}};
    if (each.logprob > kNever) token["logprob"] = each.logprob;
    if (i > 0) token["top_logprobs"] = to_json(each.top);
    row["tokens"].push_back(std::move(token));
  }
  if (!reply.without.empty()) row["without"] = reply.without;
  return row;
}

JudgeReply reply_from(const Json& row) {
  JudgeReply reply{.text = row.at("text"),
                   .prompt_tokens = row.at("prompt_tokens"),
                   .completion_tokens = row.at("completion_tokens"),
                   .cached = true};
  const std::string end = row.value("end", "whole");
  const auto* found = std::find(std::begin(kEnds), std::end(kEnds), end);
  if (found == std::end(kEnds)) throw Error("");
  reply.end = static_cast<ReplyEnd>(found - std::begin(kEnds));
  if (!row.at("top_logprobs").is_null()) {
    if (!row.contains("tokens")) reply.tokens.emplace_back();
    for (const Json& each : member(row, "tokens")) {
      ReplyToken& token = reply.tokens.emplace_back();
      token.token = each.at("token").get<std::string>();
      token.logprob = each.value("logprob", kNever);
      if (reply.tokens.size() > 1) token.top = chances_from(each.at("top_logprobs"));
    }
    reply.tokens.at(0).top = chances_from(row.at("top_logprobs"));
  }
  if (row.contains("without")) reply.without = row.at("without").get<std::vector<std::string>>();
  return reply;
}

[[noreturn]] void fail(const std::string& verb, const fs::path& file) {
  const int code = errno;
  throw Error("cannot " + verb + ": " + std::strerror(code), {.file = file.string()},
              code == ENOSPC ? "free some space; what is there is kept" : "");
}

}  // namespace

JudgeReply read_reply(const std::string& body, bool with_logprobs) {
  try {
    return reply_of(body, with_logprobs);
  } catch (const Broken& broken) {
    return {.error = "the server's reply " + broken.why};
  }
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
    if (row.is_discarded() && last &&
        line.substr(0, kLineBegin.size()) == kLineBegin.substr(0, line.size()))
      break;  // a killed process's
    try {
      if (!line.starts_with(kLineBegin)) throw Error("");
      replies_.try_emplace(row.at("key").get<std::string>(), reply_from(row.at("reply")));
    } catch (const std::exception&) {
      throw Error("this is not a judge's reply", {file_.string(), number, ""},
                  "name another file, or remove the line");
    }
  }
}

const JudgeReply* Replies::find(const std::string& key) const {
  const auto found = replies_.find(key);
  return found == replies_.end() ? nullptr : &found->second;
}

void Replies::add(const std::string& key, const std::string& model, const JudgeReply& reply) {
  const Json row = {{"key", key}, {"model", model}, {"reply", to_json(reply)}};
  const std::string line = one_line(row) + "\n";
  std::error_code ignored;
  if (file_.has_parent_path()) fs::create_directories(file_.parent_path(), ignored);
  const Descriptor file(::open(file_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  // Some file systems have no locks; then one process at a time is up to the user.
  const auto lockless = [] { return errno == ENOLCK || errno == ENOSYS || errno == EOPNOTSUPP; };
  if (!file || (::flock(file.get(), LOCK_EX) != 0 && !lockless())) fail("write", file_);
  // What a killed process left after the last whole line goes.
  off_t size = ::lseek(file.get(), 0, SEEK_END), end = size;
  for (char c = 0; end > 0; --end)
    if (::pread(file.get(), &c, 1, end - 1) != 1 || c == '\n') break;
  if (end != size) {
    std::string torn(static_cast<size_t>(size - end), '\0');
    if (::pread(file.get(), torn.data(), torn.size(), end) != static_cast<ssize_t>(torn.size()))
      fail("read", file_);
    if (Json::accept(torn)) {
      if (::write(file.get(), "\n", 1) != 1) fail("write", file_);
      end = size + 1;
    } else if (::ftruncate(file.get(), end) != 0) {
      fail("mend", file_);
    }
  }
  const ssize_t written = ::write(file.get(), line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) {
    const int code = written < 0 ? errno : ENOSPC;
    [[maybe_unused]] const int cut = ::ftruncate(file.get(), end);
    errno = code;
    fail("write", file_);
  }
  JudgeReply kept = reply;
  kept.cached = true;
  replies_.try_emplace(key, std::move(kept));
}

}  // namespace inoculum
