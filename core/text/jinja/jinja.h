// Chat templates: the part of Jinja that they use, with the results of Jinja2 as Hugging Face sets
// it up.
//
//   const Template t("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}",
//                    "tokenizer_config.json");
//   t.render({{"messages", {{{"role", "user"}, {"content", "Hi"}}}}});   // "<user>Hi\n"
//
// That is ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True) with break, continue,
// {% generation %}, raise_exception, strftime_now and a tojson that leaves HTML alone; values
// follow Python. What is not known is an Error with the template's name and the line, and so is
// whatever would run for ever or without end. Two things differ: an unknown filter or test counts
// only where it is reached, and what Jinja would compute beforehand (5[1:2]) is an error like any
// other. Refused: include, extends, import, block, call, recursive loops, macros inside loops or
// macros, *args and **kwargs.
//
// strftime_now formats a fixed date, so that runs can be repeated and a model is asked on the day
// that it was trained on: the context's "strftime_now" ("2025-12-31" or "2025-12-31T23:59:59"), by
// default 2024-07-26, the day that Llama 3's template falls back to.
//
// Pages of HTML are templates with autoescape, which writes every value as text unless `safe`, a
// macro or a {% set %} block made it. Unlike Jinja2, filters other than safe, escape, string and
// join give plain text also of such markup, so that what they give is escaped.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

namespace jinja {
struct Program;
}

// What a {% generation %} block wrote, as bytes, and which of the context's `messages` a variable
// of the innermost scopes was then; nothing where that cannot be told.
struct Generated {
  size_t begin = 0, end = 0;
  std::optional<size_t> message = {};
};

struct TemplateOptions {
  bool autoescape = false;  // of HTML: & < > " '
  bool limits = true;       // of time and of size; the project's own templates need none
};

class Template {
 public:
  explicit Template(const std::string& source, const std::string& name,
                    TemplateOptions options = {});
  std::string render(const Json& context, std::vector<Generated>* generated = nullptr) const;
  bool marks_generation() const;
  // Whether it stands in the template as a name or a text, such as a key's.
  bool names(const std::string& word) const;

 private:
  std::shared_ptr<const jinja::Program> program_;
  TemplateOptions options_;
};

}  // namespace inoculum
