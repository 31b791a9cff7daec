// A model's chat format: how a conversation becomes text, and which part of the text the assistant chose.
//
//   const ChatFormat format(named_chat_templates().at("chatml"), {.eos = "<|im_end|>"});
//   const Rendered r = format.render_supervised(conversation);   // r.text, and the byte ranges of answers to learn
//
// Templates are Jinja (core/jinja/jinja.h), from `tokenizer_config.json` or by name. A supervised range is an answer and its
// end-of-turn marker, without the header that a generation prompt gives. Where the template has {% generation %} blocks,
// these say it. Otherwise the template is rendered again with a stand-in for the answer: what stands around the stand-in
// must stand around the answer too. Templates that trim the answer or drop the thinking of earlier ones pass; one that
// lets an answer change the text around it is refused with the turn's number.
#pragma once

#include <map>
#include <string>

#include "core/conversation.h"
#include "core/jinja/jinja.h"

namespace inoculum {

// chatml, gemma, llama2, llama3, mistral, plain, qwen2.5, qwen3, zephyr: written for this project from the formats' descriptions.
const std::map<std::string, std::string>& named_chat_templates();

struct ChatSymbols {
  std::string bos, eos;        // as the template's bos_token and eos_token; one that is empty is undefined, as in transformers
  std::string date = {};       // what strftime_now tells (see core/jinja/jinja.h)
};

struct Rendered {
  std::string text;
  ByteRanges supervised;  // in order; one for each assistant turn with `train`
};

class ChatFormat {
 public:
  explicit ChatFormat(const std::string& source, ChatSymbols symbols, const std::string& name = "chat template");
  // `name` is the file or the named template, for errors.

  std::string render(const Conversation& conversation, bool add_generation_prompt) const;
  Rendered render_supervised(const Conversation& conversation) const;

 private:
  std::string render(const Conversation& conversation, bool add_generation_prompt, ByteRanges* generated) const;
  std::pair<size_t, size_t> find_answer(const Conversation& conversation, size_t turn, const std::string& text) const;

  Template template_;
  ChatSymbols symbols_;
  std::string name_;
};

}  // namespace inoculum
