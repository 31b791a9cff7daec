#include "core/text/jinja/chat_format.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/jinja/values.h"
#include "embedded/core/text/jinja/templates/chatml.jinja.h"
#include "embedded/core/text/jinja/templates/gemma.jinja.h"
#include "embedded/core/text/jinja/templates/llama2.jinja.h"
#include "embedded/core/text/jinja/templates/llama3.jinja.h"
#include "embedded/core/text/jinja/templates/mistral.jinja.h"
#include "embedded/core/text/jinja/templates/plain.jinja.h"
#include "embedded/core/text/jinja/templates/qwen2.5.jinja.h"
#include "embedded/core/text/jinja/templates/qwen3.jinja.h"
#include "embedded/core/text/jinja/templates/zephyr.jinja.h"

namespace inoculum {
namespace {

// Stands in for an answer or another message. Nothing that templates look for (a tag, white space
// to trim), and in no conversation.
const std::string kStandIn = "STANDIN7f3a9c51e2STANDIN";

// The names under which thoughts are given, and those under which a template gets them whatever
// they were given as, as in transformers. Those of one message are one text.
const std::vector<std::string> kThoughts = {"reasoning_content", "thinking", "reasoning"},
                               kThoughtsRead = {"reasoning_content", "thinking"};

Json to_json(const Conversation& conversation) {
  Json messages = Json::array();
  for (const Message& m : conversation) {
    Json message = {{"role", m.role}, {"content", m.content}};
    if (!m.name.empty()) message["name"] = m.name;
    if (!m.more.empty()) message.update(Json::parse(m.more));
    for (const std::string& given : kThoughts) {
      if (!message.contains(given)) continue;
      const Json thoughts = message[given];
      Json first = {{"thinking", thoughts}};
      first.update(message);
      first["reasoning_content"] = thoughts;
      message = std::move(first);
      break;
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

// Whether a value says anything: null, false, and what is empty do not.
bool says(const Json& value) {
  if (value.is_string()) return !value.get_ref<const std::string&>().empty();
  return value.is_boolean() ? value.get<bool>() : !value.empty();
}

// As Python's strip() sees it, with which templates trim.
bool is_blank(const std::string& text) {
  return jinja::stripped(jinja::decode(text), true, true).empty();
}

}  // namespace

const std::map<std::string, std::string>& named_chat_templates() {
  using namespace embedded;
  static const std::map<std::string, std::string> templates = {
      {"chatml", chatml_jinja},   {"gemma", gemma_jinja},     {"llama2", llama2_jinja},
      {"llama3", llama3_jinja},   {"mistral", mistral_jinja}, {"plain", plain_jinja},
      {"qwen2.5", qwen2_5_jinja}, {"qwen3", qwen3_jinja},     {"zephyr", zephyr_jinja},
  };
  return templates;
}

void refuse_unread(const Conversation& conversation, const Reads& reads, const std::string& name) {
  const auto refuse = [&](const std::string& path, const std::string& key,
                          const std::string& hint) {
    throw Error("the chat template does not read " + key + ", which would be lost",
                {.file = name, .field = path + key}, hint);
  };
  const std::string hint = "put it into the content, or remove it";
  for (size_t i = 0; i < conversation.size(); ++i) {
    if (conversation[i].more.empty()) continue;
    const Json more = Json::parse(conversation[i].more);
    const std::string path = "messages[" + std::to_string(i) + "].";
    const bool thoughts_read = std::any_of(kThoughtsRead.begin(), kThoughtsRead.end(), reads);
    std::string first;
    for (const std::string& key : kThoughts) {
      if (!more.contains(key)) continue;
      if (!first.empty() && more[key] != more[first])
        throw Error("differs from " + first, {.file = name, .field = path + key},
                    "keep one of them");
      first = key;
      if (says(more[key]) && !thoughts_read && !reads(key)) refuse(path, key, hint);
    }
    for (const char* key : {"thoughts", "thought", "prefix"})
      if (more.contains(key) && says(more[key]) && !reads(key))
        refuse(path, key,
               thoughts_read && *key == 't'
                   ? "rename the key to reasoning_content, which the template reads"
                   : hint);
  }
  if (conversation.more.empty()) return;
  const Json more = Json::parse(conversation.more);
  for (const char* key : {"tools", "documents"})
    if (more.contains(key) && !reads(key))
      refuse("", key, "choose a template that does, or remove it");
  if (!more.contains("chat_template_kwargs")) return;
  for (const auto& [key, value] : more["chat_template_kwargs"].items())
    if (says(value) && !reads(key))
      refuse("chat_template_kwargs.", key, "choose a template that does, or remove it");
}

ChatFormat::ChatFormat(const std::string& source, ChatSymbols symbols, const std::string& name)
    : template_(source, name), symbols_(std::move(symbols)), name_(name) {}

std::string ChatFormat::render(const Conversation& conversation, bool add_generation_prompt,
                               std::vector<Generated>* generated) const {
  Json context = {{"messages", to_json(conversation)},
                  {"tools", nullptr},
                  {"documents", nullptr},
                  {"add_generation_prompt", add_generation_prompt}};
  if (!symbols_.bos.empty()) context["bos_token"] = symbols_.bos;
  if (!symbols_.eos.empty()) context["eos_token"] = symbols_.eos;
  if (!symbols_.date.empty()) context["strftime_now"] = symbols_.date;
  if (!conversation.more.empty()) {
    Json more = Json::parse(conversation.more);
    if (more.contains("chat_template_kwargs")) context.update(more["chat_template_kwargs"]);
    more.erase("chat_template_kwargs");
    context.update(more);
  }
  return template_.render(context, generated);
}

std::string ChatFormat::render(const Conversation& conversation, bool add_generation_prompt) const {
  const std::string text = render_read(conversation, add_generation_prompt);
  refuse_left_out(conversation, add_generation_prompt, text);
  return text;
}

std::string ChatFormat::render_read(const Conversation& conversation,
                                    bool add_generation_prompt) const {
  // A template can read a key without naming it, say by writing whole messages as JSON.
  const auto reads = [&](const std::string& key) {
    if (template_.names(key)) return true;
    Conversation without = conversation;
    const auto drop = [&](std::string& more) {
      if (more.empty()) return;
      Json json = Json::parse(more);
      json.erase(key);
      if (json.contains("chat_template_kwargs")) json["chat_template_kwargs"].erase(key);
      more = json.dump();
    };
    drop(without.more);
    for (Message& message : without) drop(message.more);
    return render(without, add_generation_prompt, nullptr) !=
           render(conversation, add_generation_prompt, nullptr);
  };
  try {
    refuse_unread(conversation, reads, name_);
    return render(conversation, add_generation_prompt, nullptr);
  } catch (const Error& error) {
    // Is it the system message? Then the conversation renders without it.
    Conversation others = conversation;
    std::erase_if(others, [](const Message& m) { return m.role == "system"; });
    if (others.size() == conversation.size()) throw;
    try {
      render(others, add_generation_prompt, nullptr);
    } catch (const Error&) {
      throw error;
    }
    throw Error("this chat template rejects a system message: " + error.fault(),
                {.file = name_, .field = "role"},
                "put its text before the user's: `where: user_prefix`");
  }
}

void ChatFormat::refuse_left_out(const Conversation& conversation, bool add_generation_prompt,
                                 const std::string& text) const {
  for (size_t i = 0; i < conversation.size(); ++i) {
    if (conversation[i].role != "system" || is_blank(conversation[i].content)) continue;
    Conversation replaced = conversation;
    replaced[i].content = kStandIn;
    try {
      if (render(replaced, add_generation_prompt, nullptr) != text) continue;
    } catch (const Error&) {  // the template looks at what the message says
      continue;
    }
    throw Error("the chat template leaves out the system message",
                {.file = name_, .field = "messages[" + std::to_string(i) + "].content"},
                "put it into the user's turn (`where: user_prefix`), remove it (`system: {remove: "
                "true}`), or choose a chat template that writes it");
  }
}

Rendered ChatFormat::render_supervised(const Conversation& conversation) const {
  Rendered rendered = render_answers(conversation);
  refuse_left_out(conversation, false, rendered.text);
  return rendered;
}

Rendered ChatFormat::render_answers(const Conversation& conversation) const {
  Rendered rendered{render_read(conversation, false), {}};
  std::vector<size_t> answers;
  for (size_t i = 0; i < conversation.size(); ++i)
    if (conversation[i].role == "assistant") answers.push_back(i);
  if (template_.marks_generation()) {
    rendered.marked = true;
    const bool all = std::all_of(answers.begin(), answers.end(),
                                 [&](size_t turn) { return conversation[turn].train; });
    std::vector<Generated> generated;
    render(conversation, false, &generated);
    for (const Generated& each : generated) {
      if (!each.message && !all)
        throw Error(
            "which message a {% generation %} block writes cannot be told, and not all are trained "
            "on",
            {.file = name_}, "loop over `messages` in the template: {% for message in messages %}");
      if (each.begin < each.end && (!each.message || conversation[*each.message].train))
        rendered.supervised.emplace_back(each.begin, each.end);
    }
    return rendered;
  }
  for (const size_t turn : answers)
    if (conversation[turn].train)
      rendered.supervised.push_back(find_answer(conversation, turn, rendered.text));
  for (size_t i = 1; i < rendered.supervised.size(); ++i)
    if (rendered.supervised[i].first < rendered.supervised[i - 1].second)
      throw Error("the template does not keep the answers apart",
                  {.file = name_, .field = "messages"});
  return rendered;
}

std::pair<size_t, size_t> ChatFormat::find_answer(const Conversation& conversation, size_t turn,
                                                  const std::string& text) const {
  const auto refuse = [&](const std::string& why) {
    throw Error("which part of the text is this answer cannot be told: " + why,
                {.file = name_, .field = "messages[" + std::to_string(turn) + "]"},
                "mark the answers in the template: {% generation %}…{% endgeneration %}");
  };
  // What stands before and after the stand-in in a rendering.
  Conversation replaced = conversation;
  replaced[turn].content = kStandIn;
  Conversation until = replaced;
  until.resize(turn + 1);
  Conversation before = until;
  before.pop_back();
  const auto around = [&](const Conversation& c,
                          bool prompt) -> std::pair<std::string, std::string> {
    const std::string whole = render(c, prompt, nullptr);
    const size_t at = whole.find(kStandIn);
    if (at == std::string::npos || whole.find(kStandIn, at + 1) != std::string::npos)
      refuse("the template writes it " +
             std::string(at == std::string::npos ? "not at all" : "more than once"));
    return {whole.substr(0, at), whole.substr(at + kStandIn.size())};
  };
  const auto attempt = [&](const Conversation& c) -> std::optional<std::string> {
    try {
      return render(c, true, nullptr);
    } catch (const Error&) {  // not every template can start with an answer or go on after one
      return std::nullopt;
    }
  };

  const auto [head, tail] = around(replaced, false);
  if (!text.ends_with(tail)) refuse("it changes the text after it");

  // The end-of-turn marker: what the turn writes after the answer, without an end of text that a
  // next turn would not have.
  std::string marker = around(until, false).second;
  if (const auto prompted = attempt(until)) {
    const std::string next =
        prompted->substr(std::min(prompted->size(), prompted->find(kStandIn) + kStandIn.size()));
    if (!next.starts_with(marker) && !symbols_.eos.empty() && marker.ends_with(symbols_.eos))
      marker.resize(marker.size() - symbols_.eos.size());
    if (!next.starts_with(marker)) refuse("its end is written differently before another turn");
  }
  if (!tail.starts_with(marker)) refuse("its end is written differently before another turn");
  const size_t end = text.size() - tail.size() + marker.size();

  // The answer begins where a generation prompt would have ended, so with all that the model has to
  // write itself.
  const auto prompt = attempt(before);
  if (prompt && text.starts_with(*prompt) && prompt->size() + tail.size() <= text.size() &&
      (head.starts_with(*prompt) || !text.starts_with(head)))
    return {prompt->size(), end};
  if (!text.starts_with(head) || head.size() + tail.size() > text.size())
    refuse("it changes the text before it");
  return {head.size(), end};
}

}  // namespace inoculum
