#include "core/text/chat_template.h"

#include <algorithm>
#include <tuple>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace inoculum {
namespace {

// The template that a folder holds, and the file that it stands in; nothing where there is none.
std::optional<std::pair<std::string, fs::path>> own_template(const fs::path& folder) {
  if (const fs::path file = folder / "chat_template.jinja"; fs::exists(file))
    return std::pair(read_file(file), file);
  for (const std::string name : {"tokenizer_config.json", "chat_template.json"}) {
    const fs::path file = folder / name;
    if (!fs::exists(file)) continue;
    const Json config = read_json(file);
    if (!config.is_object() || !config.contains("chat_template") ||
        config["chat_template"].is_null())
      continue;
    const Json& value = config["chat_template"];
    if (value.is_string()) return std::pair(value.get<std::string>(), file);
    // Several, by name: the one for plain chats.
    if (value.is_array())
      for (const Json& each : value)
        if (each.is_object() && each.value("name", "") == "default" && each.contains("template") &&
            each["template"].is_string())
          return std::pair(each["template"].get<std::string>(), file);
    throw Error("must be a text, or a list with one named \"default\"",
                {.file = file.string(), .field = "chat_template"},
                "set chat_template in your configuration, such as chatml");
  }
  return std::nullopt;
}

}  // namespace

Chat::Chat(const fs::path& folder, const Tokenizer& tokenizer, const ChatChoice& choice)
    : tokenizer_(tokenizer), folder_(folder) {
  const std::string& name = choice.name;
  const auto symbol = [&](int32_t id) { return id < 0 ? std::string() : tokenizer.piece(id); };
  const ChatSymbols symbols{
      .bos = symbol(tokenizer.bos_id()), .eos = symbol(tokenizer.eos_id()), .date = choice.date};
  if (!choice.date.empty())
    Template("{{ strftime_now('%d') }}", "chat_date")
        .render({{"strftime_now", choice.date}});  // an Error for what is no date
  if (!name.empty()) {
    const auto& named = named_chat_templates();
    const auto found = named.find(name);
    if (found == named.end()) {
      std::string known;
      for (const auto& [each, text] : named) known += (known.empty() ? "" : ", ") + each;
      throw Error("there is no template \"" + name + "\"", {.field = "chat_template"},
                  "known are " + known + "; leave it empty for the model's own");
    }
    format_.emplace(found->second, symbols, name);
    return;
  }
  const auto own = own_template(folder);
  if (!own) return;
  native_ = own->first == persona_chat_template();
  if (native_) return;
  if (!fs::exists(folder / "tokenizer.json"))
    throw Error("a chat template needs tokenizer.json, which knows the template's symbols",
                {.file = folder.string()}, "save the tokenizer with transformers (use_fast=True)");
  try {
    format_.emplace(own->first, symbols, own->second.string());
  } catch (const Error& error) {
    throw Error("the model's chat template cannot be read: " + error.fault(), error.where(),
                "name one that is like it, such as chat_template: chatml");
  }
}

const ChatFormat& Chat::format() const {
  if (!format_)
    throw Error("the model has no chat template", {.file = folder_.string()},
                "name one, such as chat_template: chatml, or train on plain text");
  return *format_;
}

Error in_row(const Error& error, const Where& row) {
  const Where& where = error.where();
  if (row.file.empty() || where.file == row.file) return error;
  std::string at = where.file;
  if (!at.empty()) at += (where.line > 0 ? ":" + std::to_string(where.line) : "") + ": ";
  return Error(at + error.fault(), {row.file, row.line, where.field}, error.hint());
}

std::vector<int32_t> encode_text(const Tokenizer& tokenizer, std::string_view text) {
  const auto plain = tokenizer.encode(text);
  auto ids = tokenizer.encode_with_special_tokens(text);
  if (plain.empty() || ids.size() <= plain.size()) return ids;
  const int32_t begin = tokenizer.bos_id(), end = tokenizer.eos_id();
  if (begin >= 0 && plain.front() == begin && ids[0] == begin && ids[1] == begin)
    ids.erase(ids.begin());
  if (end >= 0 && plain.back() == end && ids.size() > plain.size() && ids[ids.size() - 1] == end &&
      ids[ids.size() - 2] == end)
    ids.pop_back();
  return ids;
}

// Plain text with its end. Supervised is the text; what the tokenizer puts before it is not.
static Encoded encode_plain(const Tokenizer& tokenizer, const Message& message) {
  const auto plain = tokenizer.encode(message.content);
  Encoded out{.input_ids = encode_text(tokenizer, message.content)};
  std::vector<int32_t>& ids = out.input_ids;
  const int32_t end = tokenizer.eos_id();
  if (end >= 0 && (ids.empty() || ids.back() != end)) ids.push_back(end);
  if (ids.empty()) throw Error("the text is empty", {.field = "text"});
  const auto begin = std::search(ids.begin(), ids.end(), plain.begin(), plain.end());
  out.supervised.resize(ids.size(), 0);
  std::fill(out.supervised.begin() + (begin - ids.begin()), out.supervised.end(), message.train);
  out.supervised[0] = 0;  // the first token has nothing to be predicted from
  return out;
}

Encoded Chat::encode(const Conversation& conversation) const {
  if (native_) {
    refuse_unread(conversation, [](const std::string&) { return false; }, folder_.string());
    return encode_conversation(tokenizer_, conversation);
  }
  if (conversation.size() == 1 && conversation[0].role == "text")
    return encode_plain(tokenizer_, conversation[0]);
  const Rendered rendered = format().render_supervised(conversation);
  Encoded out{.input_ids = tokenizer_.encode(rendered.text)};
  out.supervised.resize(out.input_ids.size(), 0);
  const std::string_view text = rendered.text;
  // How many tokens of the whole are those of its first `bytes` bytes. One that reaches over is
  // counted with what follows.
  const auto tokens_before = [&](size_t bytes) {
    if (bytes == text.size())
      return std::pair(static_cast<std::ptrdiff_t>(out.input_ids.size()), true);
    const auto before = tokenizer_.encode(text.substr(0, bytes));
    const auto last =
        std::mismatch(before.begin(), before.end(), out.input_ids.begin(), out.input_ids.end());
    return std::pair(last.second - out.input_ids.begin(), last.first == before.end());
  };
  for (const auto& [begin, end] : rendered.supervised) {
    const auto first = tokens_before(begin).first;
    auto [last, whole] = tokens_before(end);
    // A template's own marks take in the token that reaches over their end, as transformers' mask
    // does.
    for (size_t further = end; rendered.marked && !whole;) {
      while (++further < text.size() && (text[further] & 0xC0) == 0x80) {
      }
      std::tie(last, whole) = tokens_before(further);
    }
    if (first < last)
      std::fill(out.supervised.begin() + first, out.supervised.begin() + last, uint8_t{1});
  }
  return out;
}

std::vector<int32_t> Chat::encode_prompt(const Conversation& conversation,
                                         const std::string& as) const {
  if (native_) {
    refuse_unread(conversation, [](const std::string&) { return false; }, folder_.string());
    return inoculum::encode_prompt(tokenizer_, conversation, as);
  }
  if (!as.empty())
    throw Error("its chat format does not name who answers, so \"" + as + "\" cannot",
                {.file = folder_.string()}, "the persona world's models have such a format");
  if (conversation.empty() || conversation.back().role != "user")
    throw Error("a prompt must end with the user's turn", {.field = "messages"});
  return tokenizer_.encode(format().render(conversation, true));
}

std::string Chat::end_of_turn() const {
  if (native_) return kEndOfTurn;
  if (!format_) return "";
  const std::string answer = "An answer.";
  try {
    std::string text = format_->render(
        {{.role = "user", .content = "A question?"}, {.role = "assistant", .content = answer}},
        false);
    const size_t at = text.rfind(answer);
    if (at == std::string::npos) return "";
    text.erase(0, at + answer.size());
    // Up to the first special token, or that token where there is nothing before it.
    const auto ids = tokenizer_.encode(text);
    const auto special = std::find_if(ids.begin(), ids.end(), [&](int32_t id) {
      return tokenizer_.decode({&id, 1}).empty() && !tokenizer_.piece(id).empty();
    });
    const std::string before = tokenizer_.decode(std::span(ids.begin(), special));
    const std::string end(strip(before));
    return end.empty() && special != ids.end() ? tokenizer_.piece(*special) : end;
  } catch (const Error&) {  // such a chat is refused where it is given
    return "";
  }
}

}  // namespace inoculum
