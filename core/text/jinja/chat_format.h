// A model's chat format: how a conversation becomes text, and which part of the text the assistant
// chose.
//
//   const ChatFormat format(named_chat_templates().at("chatml"), {.eos = "<|im_end|>"});
//   const Rendered r = format.render_supervised(conversation);
//   r.supervised;   // the byte ranges of r.text that are answers to learn
//
// Templates are Jinja (core/text/jinja/jinja.h), from `tokenizer_config.json` or by name. A
// supervised range is an answer and its end-of-turn marker, without the header that a generation
// prompt gives. Where the template has {% generation %} blocks, these say it, as for transformers'
// return_assistant_tokens_mask; of a message without `train` nothing is learnt. Otherwise the
// template is rendered again with a stand-in for the answer: what stands around the stand-in must
// stand around the answer too. Templates that trim the answer or drop the thinking of earlier ones
// pass; one that lets an answer change the text around it is refused with the turn's number.
//
// A system message that changes nothing of the text is refused too: a template that skips the role
// would turn what the system prompt asks for into what nobody asked for.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "core/text/conversation.h"
#include "core/text/jinja/jinja.h"

namespace inoculum {

// chatml, gemma, llama2, llama3, mistral, plain, qwen2.5, qwen3, zephyr: written for this project
// from the formats' descriptions.
const std::map<std::string, std::string>& named_chat_templates();

using ByteRanges = std::vector<std::pair<size_t, size_t>>;  // [begin, end) each

// Refuses what a conversation gives its template (see Message::more) and the template does not
// read: thoughts, tools, arguments. Other keys of messages are the template's to read or not.
// `reads` says whether a key is read.
using Reads = std::function<bool(const std::string& key)>;
void refuse_unread(const Conversation& conversation, const Reads& reads, const std::string& name);

struct ChatSymbols {
  // The template's bos_token and eos_token; one that is empty is undefined, as in transformers.
  std::string bos, eos;
  std::string date = {};  // what strftime_now tells (see core/text/jinja/jinja.h)
};

struct Rendered {
  std::string text;
  ByteRanges supervised;  // in order; one for each assistant turn with `train`, or the marked parts
  bool marked = false;    // by the template
};

class ChatFormat {
 public:
  // `name` is the file or the named template, for errors.
  explicit ChatFormat(const std::string& source, ChatSymbols symbols,
                      const std::string& name = "chat template");

  std::string render(const Conversation& conversation, bool add_generation_prompt) const;
  Rendered render_supervised(const Conversation& conversation) const;

 private:
  // The two above, but for what the template leaves out.
  std::string render_read(const Conversation& conversation, bool add_generation_prompt) const;
  Rendered render_answers(const Conversation& conversation) const;
  std::string render(const Conversation& conversation, bool add_generation_prompt,
                     std::vector<Generated>* generated) const;
  void refuse_left_out(const Conversation& conversation, bool add_generation_prompt,
                       const std::string& text) const;
  std::pair<size_t, size_t> find_answer(const Conversation& conversation, size_t turn,
                                        const std::string& text) const;

  Template template_;
  ChatSymbols symbols_;
  std::string name_;
};

}  // namespace inoculum
