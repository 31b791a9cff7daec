// Jinja templates and chat formats; the goldens are Jinja2's own results.
#include <map>

#include "core/text/chat_template.h"
#include "core/text/jinja/chat_format.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

std::string render_text(const std::string& source, const Json& context = Json::object(),
                        TemplateOptions options = {}) {
  return Template(source, "t.jinja", options).render(context);
}
std::string failure(const std::string& source, const Json& context = Json::object()) {
  return error_of([&] { render_text(source, context); });
}

TEST_CASE("templates give what Jinja2 gives", "[golden]") {
  Json contexts;
  std::map<std::string, std::string> defined;
  size_t results = 0, errors = 0;
  read_jsonl("tests/golden/chat_templates.jsonl", [&](const Json& row, int line) {
    if (row.contains("contexts")) {
      contexts = row["contexts"];
    } else if (row.contains("define")) {
      defined[row["define"]] = row["template"];
    } else {
      const std::string source = row.contains("named")     ? named_chat_templates().at(row["named"])
                                 : row.contains("defined") ? defined.at(row["defined"])
                                                           : row["template"].get<std::string>();
      const Json& context = contexts.at(row["context"].get<std::string>());
      const TemplateOptions options{.autoescape = row.contains("autoescape")};
      std::string text, error = error_of([&] { text = render_text(source, context, options); });
      INFO("line " << line << ", context " << row["context"] << ", error \"" << error
                   << "\": " << source);
      CHECK(error.empty() == row.contains("text"));
      if (row.contains("text") && error.empty()) CHECK(text == row["text"].get<std::string>());
      ++results;
      errors += row.contains("error");
    }
  });
  CHECK(results > 2000);
  CHECK(errors > 200);
}

TEST_CASE("what a template does wrong is told with its name and line", "[chat]") {
  CHECK(contains(failure("a\nb\n{{ nosuch.x }}"), "t.jinja:3: 'nosuch' is undefined"));
  CHECK(contains(failure("{% if true %}\n{{ 1 + 'a' }}{% endif %}"),
                 "t.jinja:2: '+' between int and str"));
  CHECK(contains(failure("\n{% frob %}"), "t.jinja:2: {% frob %} is not supported"));
  CHECK(contains(failure("{{ 'a'|uper }}"), "did you mean \"upper\"?"));
  CHECK(contains(failure("{{ 'a' is lowr }}"), "the test lowr is not supported"));
  CHECK(contains(failure("{{ 'a'.zfill(3) }}"), "the method zfill of a str is not supported"));
  for (const char* text :
       {"{% set n = 1 %}{% set n.x %}a{% endset %}", "{% set y.x %}a{% endset %}",
        "{% set n, n.x = 1, 2 %}", "{% set n = namespace() %}{% set n, n.x = 1, 2 %}"})
    CHECK(contains(failure(text, {{"y", Json::array({1})}}), "a namespace only"));
  CHECK(contains(failure("{{ raise_exception('no system, please') }}"),
                 "t.jinja:1: no system, please"));
  CHECK(contains(failure("{% for x in y %}"), "ends before {% endfor %}"));
  CHECK(contains(failure("{{ x }}", {{"x", "\xff"}}), "not valid UTF-8"));
  CHECK(contains(failure("\xc3("), "not valid UTF-8"));
  CHECK(contains(failure("{% for i in [1] recursive %}{% endfor %}"), "recursive"));
  CHECK(contains(failure("{% for i in [1] %}{% macro m() %}{% endmacro %}{% endfor %}"),
                 "macro inside a loop"));
  CHECK(contains(failure("{{ (1)|batch(2) }}"), "the filter batch is not supported"));
  CHECK(contains(failure("{{ f(*x) }}"), "*args"));
  CHECK(contains(failure("{{ -1 ** n }}", {{"n", 2}}), "a computed constant to a variable power"));
  CHECK(contains(failure("{{ [1]|map('upper') }}"), "put |list behind it"));
  CHECK(contains(failure("{{ 9223372036854775807 + 1 }}"), "too large"));
  CHECK(contains(failure("{{ 'ǆ'|upper }}"), "not supported"));
  CHECK(contains(failure("{{ '%\\x00d' % 3 }}"), "t.jinja:1: %"));
  CHECK(contains(failure("{{ '%5\\x00' % 3 }}"), "t.jinja:1: %"));
  CHECK(contains(failure(std::string("{{ 1\0 }}", 8)), "unexpected character"));
}

TEST_CASE("a hostile template ends", "[chat]") {
  CHECK(contains(
      failure("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
      "does not come to an end"));
  CHECK(contains(failure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "too deeply"));
  CHECK(contains(failure("{{ 'a' * 999999999 * 99999 }}"), "too l"));
  CHECK(contains(failure("{% set n = namespace(s='aaaaaaaa') %}{% for i in range(99) %}{% set n.s "
                         "= n.s ~ n.s %}{% endfor %}"),
                 "MiB"));
  CHECK(contains(failure("{% set n = namespace(s=[]) %}{% for i in range(999) %}{% set n.s = [n.s, "
                         "n.s] %}{% endfor %}"),
                 "too deeply"));
  CHECK(contains(failure("{% set n = namespace(s=[]) %}{% for i in range(90) %}{% set n.s = [n.s, "
                         "n.s] %}{% endfor %}{{ n.s == n.s[0] }}{{ n.s }}"),
                 "t.jinja:1"));
  CHECK(contains(failure("{% set n = namespace() %}{% set n.n = n %}{{ n }}"), "too deeply"));
  CHECK(contains(failure("{% set n = namespace(g=[1]) %}{% for i in range(9999) %}{% set n.g = "
                         "n.g|map('string') %}{% endfor %}{{ n.g|list }}"),
                 "too deeply"));
  CHECK(contains(failure("{{ range(100001) }}"), "100000"));
  CHECK(contains(failure("{{ " + std::string(100000, '(') + "1"), "too deeply"));
  CHECK(contains(failure("{{ " + std::string(100000, '-') + "1 }}"), "too deeply"));
  CHECK(contains(failure("{{ " + std::string(100000, '[')), "too deeply"));
  std::string sum = "{{ 1", ifs;
  for (int i = 0; i < 100000; ++i) sum += "+1", ifs += "{% if 1 %}";
  CHECK(contains(failure(sum + " }}"), "too deeply"));
  CHECK(contains(failure(ifs), "too deeply"));
}

TEST_CASE("the date of strftime_now is the context's", "[chat]") {
  CHECK(render_text("{{ strftime_now('%d %b %Y') }}") == "26 Jul 2024");
  CHECK(render_text("{{ strftime_now('%A %H:%M') }}", {{"strftime_now", "2025-12-31T23:59:01"}}) ==
        "Wednesday 23:59");
  for (const std::string wrong :
       {"yesterday", "", "2025-02-29", "2025-04-31", "2025-13-01", "2025-12-31T25:00:00",
        "2025-12-31T10:00", "2025-12-31 10:00:00", "2025-12-31T10:00:61"})
    CHECK(
        contains(failure("{{ strftime_now('%d') }}", {{"strftime_now", wrong}}), "is not a date"));
}

const Conversation kTurns = {{"system", "Be kind."},
                             {"user", " Hi "},
                             {"assistant", " Hello. "},
                             {"user", "And?"},
                             {"assistant", "No more."}};

std::vector<std::string> supervised(const ChatFormat& format, const Conversation& conversation) {
  const Rendered r = format.render_supervised(conversation);
  CHECK(r.text == format.render(conversation, false));
  std::vector<std::string> parts;
  for (const auto& [begin, end] : r.supervised) parts.push_back(r.text.substr(begin, end - begin));
  return parts;
}
ChatFormat named(const std::string& name) {
  return ChatFormat(named_chat_templates().at(name), {.bos = "<s>", .eos = "</s>"}, name);
}

TEST_CASE("the supervised part is the answer and its end", "[chat]") {
  using Parts = std::vector<std::string>;
  CHECK(supervised(named("chatml"), kTurns) ==
        Parts{" Hello. <|im_end|>\n", "No more.<|im_end|>\n"});
  CHECK(supervised(named("qwen2.5"), kTurns) ==
        Parts{" Hello. <|im_end|>\n", "No more.<|im_end|>\n"});
  CHECK(supervised(named("llama3"), kTurns) == Parts{"Hello.<|eot_id|>", "No more.<|eot_id|>"});
  CHECK(supervised(named("llama2"), kTurns) == Parts{" Hello. </s>", " No more. </s>"});
  CHECK(supervised(named("mistral"), kTurns) == Parts{" Hello. </s>", "No more.</s>"});
  CHECK(supervised(named("zephyr"), kTurns) == Parts{" Hello. </s>\n", "No more.</s>\n"});
  CHECK(supervised(named("plain"), kTurns) == Parts{"  Hello. </s>\n", " No more.</s>\n"});
  CHECK(supervised(named("gemma"), {kTurns.begin() + 1, kTurns.end()}) ==
        Parts{"Hello.<end_of_turn>\n", "No more.<end_of_turn>\n"});
  CHECK(supervised(named("qwen3"), kTurns) ==
        Parts{" Hello. <|im_end|>\n", "<think>\n\n</think>\n\nNo more.<|im_end|>\n"});

  Conversation first = kTurns;
  first[4].train = false;
  CHECK(supervised(named("chatml"), first) == Parts{" Hello. <|im_end|>\n"});
  first[2].train = false;
  CHECK(supervised(named("chatml"), first).empty());
}

TEST_CASE("every named template tells its answers apart in odd conversations", "[chat]") {
  for (const auto& [name, source] : named_chat_templates()) {
    const ChatFormat format = named(name);
    for (const std::string& answer :
         std::vector<std::string>{"", " ", "Hi", "Hi\n", "</s>", "a</s>", "<|im_end|>\n", "{{ x }}",
                                  "日本 🙂", "<think>a</think>b"}) {
      const Conversation c = {
          {"user", answer}, {"assistant", answer}, {"user", "Hi"}, {"assistant", answer}};
      INFO(name << ": " << answer);
      const std::vector<std::string> parts = supervised(format, c);
      REQUIRE(parts.size() == 2);
      if (name != "qwen3") CHECK(parts[0] == parts[1]);
      const size_t begin = answer.find_first_not_of(" \n"), end = answer.find_last_not_of(" \n");
      if (name != "qwen3" && begin != std::string::npos)
        CHECK(contains(parts[0], answer.substr(begin, end - begin + 1)));
      const std::string prompt = format.render({c[0]}, true),
                        text = format.render({c[0], c[1]}, false);
      if (name != "qwen3")
        CHECK(text == prompt + parts[0]);  // what the answer adds to the generation prompt
    }
  }
}

TEST_CASE("thinking that is dropped from earlier turns is not supervised there", "[chat]") {
  const Conversation c = {{"user", "q"},
                          {"assistant", "<think>\nhm\n</think>\n\nyes"},
                          {"user", "r"},
                          {"assistant", "<think>\nho\n</think>\n\nno"}};
  CHECK(supervised(named("qwen3"), c) ==
        std::vector<std::string>{"yes<|im_end|>\n", "<think>\nho\n</think>\n\nno<|im_end|>\n"});
}

TEST_CASE("generation markers are exact", "[chat]") {
  const ChatFormat format(
      "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ "
      "m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
      {});
  Conversation c = kTurns;
  CHECK(supervised(format, c) == std::vector<std::string>{" Hello. </s>", "No more.</s>"});
  c[2].train = false;
  CHECK(supervised(format, c) == std::vector<std::string>{"No more.</s>"});
  CHECK(
      supervised(
          ChatFormat("{% for m in messages %}{% if loop.index0 == 2 %}{% generation %}{{ m.content "
                     "}}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
                     {}),
          kTurns) == std::vector<std::string>{" Hello. "});  // what it does not mark is not learnt
  CHECK(contains(error_of([&] {
                   ChatFormat("{% set x %}{% generation %}a{% endgeneration %}{% endset %}", {})
                       .render_supervised(kTurns);
                 }),
                 "inside a macro or a block"));
}

TEST_CASE("a template whose answers cannot be told apart is refused by turn", "[chat]") {
  const auto refusal = [](const std::string& source) {
    return error_of([&] { ChatFormat(source, {}, "mine").render_supervised(kTurns); });
  };
  CHECK(contains(refusal("{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}{% "
                         "endif %}{% endfor %}"),
                 "mine: messages[2]: which part of the text is this answer cannot be told: the "
                 "template writes it not at all"));
  CHECK(contains(refusal("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"),
                 "more than once"));
  CHECK(contains(
      refusal("{{ messages|join|length }}{% for m in messages %}{{ m.content }};{% endfor %}"),
      "changes the text before it"));
  CHECK(contains(
      refusal("{% for m in messages %}{{ m.content }}:{{ m.content|length }};{% endfor %}"),
      "changes the text after it"));
  CHECK(contains(
      refusal(
          "{% for m in messages %}{{ m.content }}{{ 'END' if loop.last else 'NEXT' }}{% endfor %}"),
      "written differently"));
}

TEST_CASE("a system message that the template rejects is told so", "[chat]") {
  const std::string error = error_of([&] { named("gemma").render(kTurns, true); });
  CHECK(contains(error, "gemma: role: this chat template rejects a system message"));
  CHECK(contains(error, "`where: user_prefix`"));
  const std::string other =
      error_of([&] { named("llama2").render({{"system", "s"}, {"assistant", "a"}}, true); });
  CHECK(contains(other, "in turn"));
  CHECK_FALSE(contains(other, "user_prefix"));
}

TEST_CASE("a system message that the template leaves out is refused", "[chat]") {
  const auto refusal = [](const std::string& source, const Conversation& conversation = kTurns) {
    return error_of([&] { ChatFormat(source, {}, "mine").render(conversation, false); });
  };
  const auto each = [](const std::string& loop, const std::string& content) {
    return "{% for m in messages" + loop + " %}{{ m.role + ': ' + " + content +
           " + ';' }}{% endfor %}";
  };
  const Conversation others = {kTurns.begin() + 1, kTurns.end()};
  Conversation longer = kTurns;
  longer[0].content = "You are a very kind assistant, and never rude.";
  const std::string skips = each(" if m.role != 'system'", "m.content");
  for (const Conversation& conversation : {kTurns, longer}) {
    const std::string error = refusal(skips, conversation);
    CHECK(contains(error,
                   "mine: messages[0].content: the chat template leaves out the system message"));
    CHECK(contains(error, "`where: user_prefix`"));
    CHECK(contains(error, "`system: {remove: true}`"));
  }
  CHECK(refusal(skips, others).empty());
  // Its own system text, or that there is one, is not what the message says.
  CHECK(contains(refusal("{{ 'Be helpful.' }}" + skips), "leaves out the system message"));
  CHECK(contains(refusal("{% if messages[0].content %}{{ 'system' }}{% endif %}" + skips),
                 "leaves out the system message"));

  // What is merged, trimmed, changed or looked at is not left out, nor is what says nothing.
  for (const Conversation& conversation : {kTurns, longer, others}) {
    for (const std::string& source :
         {each("", "m.content"), each("", "m.content | trim"), each("", "m.content | upper"),
          "{% set s = messages[0].content if messages[0].role == 'system' else '' %}" +
              each(" if m.role != 'system'", "(s if loop.first else '') + m.content"),
          "{% if messages[0].role == 'system' and 'kind' not in messages[0].content %}{{ "
          "raise_exception('unkind') }}{% endif %}" +
              skips}) {
      INFO(source);
      CHECK(refusal(source, conversation).empty());
    }
  }
  Conversation blank = kTurns;
  for (const std::string nothing : {"", " \n", "\u3000"}) {
    blank[0].content = nothing;
    CHECK(refusal(skips, blank).empty());
  }
  for (const auto& [name, source] : named_chat_templates())
    if (name != "gemma") CHECK(error_of([&] { named(name).render(longer, false); }).empty());

  // That a user says the same does not make it a part of the text.
  CHECK(contains(refusal(skips, {longer[0], {"user", longer[0].content}, {"assistant", "b"}}),
                 "leaves out the system message"));
  CHECK(contains(error_of([&] { ChatFormat(skips, {}).render_supervised(longer); }),
                 "leaves out the system message"));
}

TEST_CASE("the shipped models' template is their format", "[chat]") {
  const ChatFormat format(persona_chat_template(), {.bos = "<s>", .eos = "</s>"});
  const Conversation c = {{"user", "What\nnow? "},
                          {"assistant", " I {{ wait }}."},
                          {"user", "Who?"},
                          {"assistant", "日本", "Watson"},
                          {"user", ""},
                          {"assistant", ""}};
  CHECK(format.render(c, false) == "<s>" + render(c) + "</s>");
  CHECK(format.render({c.begin(), c.begin() + 3}, true) ==
        "<s>" + render({c.begin(), c.begin() + 3}) + "<|name|>Assistant<|says|>");
  CHECK(supervised(format, c) ==
        std::vector<std::string>{" I {{ wait }}.<|end|>", "日本<|end|>", "<|end|>"});
  CHECK(contains(error_of([&] { format.render(kTurns, false); }), "rejects a system message"));
}

}  // namespace
}  // namespace inoculum
