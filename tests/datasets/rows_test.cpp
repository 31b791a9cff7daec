// What becomes of every key of a row: honoured, rendered, refused or told; and numbers that are
// none.
#include <fstream>

#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "datasets/conversations/conversations.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

struct Files {
  TemporaryFolder folder;
  fs::path file = folder.path / "d.jsonl";
  Reading read(const std::string& text) {
    fs::remove(file);
    std::ofstream(file, std::ios::binary) << text << "\n";
    return read_conversations(file);
  }
  std::string error(const std::string& text) {
    return error_of([&] { read(text); });
  }
  std::string converted(const std::string& text) {
    write_chat_jsonl(folder.path / "out.jsonl", read(text).conversations);
    std::string out = read_file(folder.path / "out.jsonl");
    out.pop_back();
    return out;
  }
};

const std::string kPlain =
    R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]})";
const std::string kUnlearnt =
    R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r", )"
    R"("train": false}, {"role": "user", "content": "q2"}, {"role": "assistant", )"
    R"("content": "r2"}]})";

// kPlain with further keys of the answer, and of the row.
std::string with_answer(const std::string& more) {
  return R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", )"
         R"("content": "r", )" +
         more + "}]}";
}
std::string with_row(const std::string& more) { return "{" + more + ", " + kPlain.substr(1); }

TEST_CASE("null and empty lists in a row are as good as absent", "[chat]") {
  Files files;
  for (const char* key :
       {"weight", "train", "training", "loss", "loss_mask", "masked", "mask", "name", "tool_calls",
        "function_call", "tool_call_id", "reasoning_content", "images", "audio", "refusal",
        "prefix", "train_detail"}) {
    INFO(key);
    const std::string row = with_answer("\"" + std::string(key) + "\": null");
    CHECK(files.converted(row) == kPlain);
    CHECK(describe(files.read(row).report) == files.file.string() + ": 1 rows of chat");
  }
  for (const char* key :
       {"chosen", "rejected", "conversations", "prompt", "completion", "instruction", "text",
        "system", "system_prompt", "tools", "functions", "documents", "chat_template_kwargs",
        "images", "id", "code", "test_list"}) {
    INFO(key);
    for (const char* nothing : {"null", "[]", "{}", "\"\""}) {
      const bool is_list = nothing[0] == '[' || nothing[0] == '{', is_text = nothing[0] == '"';
      if ((is_list || is_text) && (std::string(key) == "chosen" || std::string(key) == "rejected"))
        continue;
      if (is_list && std::string(key).starts_with("system")) continue;
      const std::string row = "{\"" + std::string(key) + "\": " + nothing + ", " + kPlain.substr(1);
      CHECK(files.converted(row) == kPlain);
      CHECK(describe(files.read(row).report) == files.file.string() + ": 1 rows of chat");
    }
  }
  CHECK(files.converted(with_answer(R"("tool_calls": [], "images": [])")) == kPlain);
  // Rows of several formats, each with the columns of all.
  CHECK(files.converted(
            R"({"messages": null, "conversations": null, "prompt": "q", "completion": "r"})") ==
        kPlain);
  CHECK(files.converted(
            R"({"messages": null, "conversations": [{"from": "human", "value": "q", )"
            R"("role": null}, {"from": "gpt", "value": "r", "weight": null, "content": null}]})") ==
        kPlain);
  CHECK(files.converted(
            R"({"conversations": [{"from": null, "role": "user", "content": "q"}, )"
            R"({"role": "assistant", "content": "r", "value": null}], "chosen": null})") == kPlain);
  CHECK(files.converted(R"({"instruction": "q", "input": null, "output": "r", "history": null, )"
                        R"("prompt": null, "text": null, "messages": null})") == kPlain);
  CHECK(files.converted(
            R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "q", )"
            R"("image_url": null, "weight": null}]}, {"role": "assistant", "content": "r"}]})") ==
        kPlain);
  CHECK(files.converted(R"({"text": "t", "prompt": null})") == R"({"text": "t"})");
}

TEST_CASE("every way to say that an answer is not learnt is honoured", "[chat]") {
  Files files;
  const auto row = [](const std::string& first, const std::string& second) {
    return R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", )"
           R"("content": "r", )" +
           first +
           R"(}, {"role": "user", "content": "q2"}, {"role": "assistant", "content": "r2")" +
           (second.empty() ? "" : ", " + second) + "}]}";
  };
  for (const char* key :
       {"train", "training", "trainable", "loss", "loss_mask", "loss_scale", "weight"})
    for (const auto& [no, yes] :
         {std::pair("false", "true"), std::pair("0", "1"), std::pair("0.0", "1.0")}) {
      INFO(key << " " << no);
      const std::string mark = "\"" + std::string(key) + "\": ";
      CHECK(files.converted(row(mark + no, mark + yes)) == kUnlearnt);
      CHECK(files.converted(row(mark + no, "")) == kUnlearnt);
    }
  CHECK(files.converted(row("\"masked\": true", "\"masked\": false")) == kUnlearnt);
  CHECK(files.converted(
            R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", )"
            R"("value": "r", "loss": false}, {"from": "human", "value": "q2"}, {"from": "gpt", )"
            R"("value": "r2"}]})") == kUnlearnt);
  for (const char* bad : {"0.5", "2", "\"no\"", "[1]", "{}", "NaN", "1e999", "-Infinity"})
    for (const char* key : {"train", "loss", "weight", "masked"}) {
      const std::string message = files.error(with_answer("\"" + std::string(key) + "\": " + bad));
      INFO(key << " " << bad << " " << message);
      CHECK(contains(message, "d.jsonl:1: messages[1]." + std::string(key) + ": must be "));
    }
  CHECK(contains(files.error(with_answer(R"("loss": -1)")), "negative"));
  CHECK(contains(files.error(with_answer(R"("train": true, "weight": 0)")),
                 "messages[1].weight: contradicts train"));
  CHECK(
      contains(files.error(with_answer(R"("train": true, "masked": true)")), "contradicts train"));
  for (const char* key : {"mask", "train_detail", "training_detail"})
    CHECK(
        contains(files.error(with_answer("\"" + std::string(key) + "\": [{\"begin_offset\": 0}]")),
                 "messages[1]." + std::string(key)));
  // A user's turn is never learnt; data that ask for it are told so.
  const std::string user =
      R"({"messages": [{"role": "user", "content": "q", "train": true}, {"role": "assistant", )"
      R"("content": "r", "train": true}]})";
  CHECK(files.converted(user) == kPlain);
  CHECK(contains(describe(files.read(user).report),
                 "keys passed over: messages[].train of a user (1 row)"));
}

TEST_CASE("a system prompt under either name is the system message", "[chat]") {
  Files files;
  const std::string wanted =
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, )"
      R"({"role": "assistant", "content": "r"}]})";
  for (const char* key : {"system", "system_prompt"}) {
    const std::string system = "\"" + std::string(key) + "\": \"s\"";
    CHECK(files.converted("{" + system + R"(, "instruction": "q", "output": "r"})") == wanted);
    CHECK(files.converted("{" + system + R"(, "prompt": "q", "completion": "r"})") == wanted);
    CHECK(files.converted(with_row(system)) == wanted);
    CHECK(files.converted("{" + system + ", " + wanted.substr(1)) == wanted);
    CHECK(contains(files.error("{\"" + std::string(key) + "\": \"other\", " + wanted.substr(1)),
                   std::string(key) + ": differs"));
    CHECK(contains(files.error(with_row("\"" + std::string(key) + "\": 3")),
                   std::string(key) + ": must be a text"));
    CHECK(contains(describe(files.read("{" + system + R"(, "text": "t"})").report),
                   "passed over: " + std::string(key)));
  }
  CHECK(files.converted(with_row(R"("system": "s", "system_prompt": "s")")) == wanted);
  CHECK(contains(files.error(with_row(R"("system": "s", "system_prompt": "t")")),
                 "system_prompt: differs from system"));
}

TEST_CASE("media and calls of tools are refused by name", "[chat]") {
  Files files;
  for (const char* key :
       {"image", "images", "video", "videos", "audio", "audios", "tool_calls", "function_call"}) {
    INFO(key);
    const std::string value = "\"" + std::string(key) + "\": [\"a.png\"]";
    CHECK(contains(files.error(with_answer(value)), "d.jsonl:1: messages[1]." + std::string(key)));
    CHECK(contains(files.error(with_row(value)), "d.jsonl:1: " + std::string(key)));
    CHECK(contains(files.error("{" + value + R"(, "text": "t"})"), std::string(key)));
  }
  for (const char* type : {"image_url", "input_audio", "thinking", "tool_use", "refusal"})
    CHECK(contains(files.error(R"({"messages": [{"role": "assistant", "content": [{"type": ")" +
                               std::string(type) + R"(", "text": "x"}]}]})"),
                   "messages[0].content[0]"));
  CHECK(files.converted(
            R"({"messages": [{"role": "user", "content": [{"type": "input_text", )"
            R"("text": "q"}]}, {"role": "assistant", "content": [{"type": "output_text", )"
            R"("text": "r"}]}]})") == kPlain);
  CHECK(contains(files.error(R"({"messages": [{"role": "assistant", "content": "a", "name": 3}]})"),
                 "messages[0].name: must be a text"));
}

TEST_CASE("other keys are passed over and told with how many rows have them", "[chat]") {
  Files files;
  const std::string row = with_row(R"("id": 7, "score": 0.5, "has_code": false)") + "\n" +
                          with_row(R"("id": 8, "source": "x", "score": null, "prompt": "q")");
  const std::string report = describe(files.read(row).report);
  CHECK(contains(report,
                 "2 rows of chat\n  keys passed over: has_code (1 row), id (2 rows), prompt (1 "
                 "row), score (1 row), source (1 row)"));
  CHECK(files.read(row).conversations.size() == 2);
  CHECK(contains(describe(files.read(with_answer(R"("content_type": "x")")).report),
                 "keys for the chat template: messages[].content_type (1 row)"));
  CHECK(contains(describe(files.read(R"({"text": "t", "tools": [1], "meta": {"a": 1}})").report),
                 "keys passed over: meta (1 row), tools (1 row)"));
  CHECK(contains(
      describe(files
                   .read(R"({"messages": [{"role": "assistant", "content": [{"type": "text", )"
                         R"("text": "x", "tag": "t"}]}]})")
                   .report),
      "content[].tag (1 row)"));
  CHECK_FALSE(contains(describe(files.read(kPlain).report), "keys"));
}

TEST_CASE("what a chat template may read is kept and written again", "[chat]") {
  Files files;
  const std::string row =
      R"({"messages": [{"role": "user", "content": "q", "id": [1, null, 2.5, "é"]}, )"
      R"({"role": "assistant", "content": "r", "name": "Eve", "train": false, )"
      R"("reasoning_content": "t\n"}, {"role": "assistant", "content": "r"}], )"
      R"("tools": [{"type": "function"}], "documents": [{"title": "t", "text": "x"}], )"
      R"("chat_template_kwargs": {"enable_thinking": false}})";
  std::string ascii = row;
  ascii.replace(ascii.find("é"), 2, "\\u00e9");
  CHECK(files.converted(row) == ascii);
  CHECK(contains(describe(files.read(row).report),
                 "keys for the chat template: chat_template_kwargs (1 row), documents (1 row), "
                 "messages[].id (1 row), messages[].reasoning_content (1 row), tools (1 row)"));
  // Written as JSON within a text, as some do.
  CHECK(files.converted(with_row(
            R"("tools": "[{\"a\": 1}]", "chat_template_kwargs": "{\"enable_thinking\": true, )"
            R"(\"xml_tools\": null}")")) ==
        kPlain.substr(0, kPlain.size() - 1) +
            R"(, "tools": [{"a": 1}], "chat_template_kwargs": {"enable_thinking": true}})");
  CHECK(contains(files.error(with_row(R"("tools": "[")")), "tools: is a text that is not JSON"));
  CHECK(contains(files.error(with_row(R"("tools": {"a": 1})")), "tools: must be a list"));
  CHECK(contains(files.error(with_row(R"("chat_template_kwargs": [1])")),
                 "chat_template_kwargs: must be an object"));
  for (const char* key : {"messages", "add_generation_prompt", "bos_token", "tools"})
    CHECK(contains(
        files.error(with_row("\"chat_template_kwargs\": {\"" + std::string(key) + "\": [1]}")),
        "chat_template_kwargs." + std::string(key)));
  const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
  CHECK(contains(files.error(with_answer("\"x\": " + deep)), "is nested more than 500 deep"));
  CHECK(contains(files.error(with_row("\"tools\": " + deep)), "is nested more than 500 deep"));
  CHECK(contains(files.error(with_row("\"tools\": \"" + deep + "\"")),
                 "tools: is nested more than 500 deep"));
  // The text of a deep value in quotes is a text.
  CHECK(files.read(R"({"text": ")" + deep + "\"}").report.rows == 1);
}

TEST_CASE("a key given twice is refused with its path", "[chat]") {
  Files files;
  const auto twice = [&](const std::string& text, const std::string& path, int line = 1) {
    const std::string message = files.error(text);
    INFO(text << " → " << message);
    CHECK(contains(message,
                   "d.jsonl:" + std::to_string(line) + ": " + path + ": the key is given twice"));
  };
  twice(with_answer(R"("content": "s")"), "messages[1].content");
  twice(with_answer(R"("weight": 0, "weight": 1)"), "messages[1].weight");
  twice(with_row(R"("messages": [])"), "messages");
  twice(kPlain + "\n" + with_row(R"("x": 1, "\u0078": 1)"), "x", 2);
  twice(with_row(R"("x": NaN, "x": 1)"), "x");
  twice(R"({"text": "t", "meta": [{"a": 1}, [], {"a": {}, "b": {"c": "d", "c": null}}]})",
        "meta[2].b.c");
  twice("/* a: b */" + with_row(R"("x": 1, "x": 1)"), "x");
  twice("[\n" + kPlain + ",\n" + with_row(R"("x": 1, "x": 1)") + "]", "x", 3);
  // Colons in texts and comments are no keys, and the same key may stand in other objects.
  CHECK(files.read(R"({"text": "a: \"b\": \\", "x": ["\\\":", {"x": "\\"}, {"x": ":"}]})")
            .report.rows == 1);
  CHECK(files.read("/* a: b */ " + kPlain + " // \"c\": 1").report.rows == 1);
}

TEST_CASE("NaN, Infinity and what overflows are read as Python reads them", "[chat]") {
  Files files;
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[NaN, 1]",
                             "99999999999999999999", "123456789e400"}) {
    INFO(number);
    const std::string row = with_row("\"score\": " + std::string(number));
    CHECK(files.converted(kPlain + "\n" + row) == kPlain + "\n" + kPlain);
    CHECK(files.converted("[" + row + ",\n" + row + "]") == kPlain + "\n" + kPlain);
    CHECK(contains(describe(files.read(row).report), "score (1 row)"));
  }
  // Within texts they are text.
  CHECK(files.read(R"({"text": "NaN -Infinity 1e999 \"NaN\\", "x": NaN})")
            .conversations[0][0]
            .content == "NaN -Infinity 1e999 \"NaN\\");
  for (const char* number : {"NaN", "-Infinity", "1e999"}) {
    CHECK(contains(files.error(R"({"messages": [{"role": "assistant", "content": )" +
                               std::string(number) + "}]}"),
                   "messages[0].content: must be a text"));
    CHECK(contains(files.error(R"({"instruction": "q", "output": )" + std::string(number) + "}"),
                   "output: must be a text"));
  }
  CHECK(contains(files.error(kPlain + "\n{\"a\": nan}"), "d.jsonl:2: this line is not JSON"));
  CHECK(contains(files.error(kPlain + "\n{\"a\": NaN"), "d.jsonl:2: this line is not JSON"));
}

TEST_CASE("JSON that Python alone reads is refused with its line and what to do", "[files]") {
  const TemporaryFolder t;
  const auto message = [&](const std::string& text) {
    std::ofstream(t.path / "x.json") << text;
    return error_of([&] { read_json(t.path / "x.json"); });
  };
  for (const char* word : {"NaN", "Infinity", "-Infinity"}) {
    const std::string text = message("{\n \"a\": 1,\n \"b\": [" + std::string(word) + "]}");
    INFO(text);
    CHECK(contains(text, "x.json:3: this is not JSON"));
    CHECK(contains(text, std::string(word) + " is not JSON: write null"));
  }
  CHECK(contains(message("{\n\"b\": 1e999}"), "x.json:2: this is not JSON"));
  CHECK(contains(message("{\n\"b\": 1e999}"), "the number 1e999 is too large"));
  CHECK(contains(message("{\"a\": 1,}"), "x.json:1: this is not JSON"));
  CHECK(message("{\"a\": 99999999999999999999}").empty());
  std::ofstream(t.path / "x.jsonl") << "{\"a\": 1}\n{\"a\": 1e999}\n";
  CHECK(contains(error_of([&] { read_jsonl(t.path / "x.jsonl", [](const Json&, int) {}); }),
                 "x.jsonl:2: this line is not JSON"));
}

// A tokenizer of the goldens, with a chat template.
struct Model {
  TemporaryFolder folder;
  std::unique_ptr<Tokenizer> tokenizer;
  explicit Model(const std::string& chat_template, const Json& more = Json::object()) {
    fs::copy("tests/golden/tokenizers/qwen2/tokenizer.json", folder.path / "tokenizer.json");
    Json config = {
        {"bos_token", nullptr}, {"eos_token", "<|im_end|>"}, {"chat_template", chat_template}};
    config.update(more);
    std::ofstream(folder.path / "tokenizer_config.json") << config.dump();
    tokenizer = load_tokenizer(folder.path);
  }
  Encoded encode(const std::string& row) const {
    return Chat(folder.path, *tokenizer)
        .encode(conversation_from_json(Json::parse(row), "d.jsonl", 1, false));
  }
  std::string error(const std::string& row) const {
    return error_of([&] { encode(row); });
  }
};

// tests/golden/chat_rows.jsonl is made by tests/golden/make_chat_rows.py.
TEST_CASE("rows are rendered as transformers does, and its masks are ours", "[golden]") {
  size_t rows = 0, masks = 0;
  read_jsonl("tests/golden/chat_rows.jsonl", [&](const Json& golden, int line) {
    const Model model(golden["template"]);
    INFO("line " << line << ": " << golden["name"] << " " << golden["row"] << " "
                 << golden["text"]);
    const Encoded got = model.encode(golden["row"].dump());
    CHECK(got.input_ids == golden["input_ids"].get<std::vector<int32_t>>());
    ++rows;
    if (!golden.contains("mask")) return;
    CHECK(got.supervised == golden["mask"].get<std::vector<uint8_t>>());
    ++masks;
  });
  CHECK(rows > 60);
  CHECK(masks > 55);
}

const std::string kChatML =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% "
    "endfor %}";
const std::string kThinks =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and "
    "m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}";

std::string learnt(const Model& model, const std::string& row) {
  const Encoded encoded = model.encode(row);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < encoded.input_ids.size(); ++i)
    if (encoded.supervised[i]) ids.push_back(encoded.input_ids[i]);
  return model.tokenizer->show(ids);
}

TEST_CASE("thoughts are rendered and learnt, or refused by name", "[chat]") {
  const std::string row = with_answer(R"("reasoning_content": "why")");
  CHECK(learnt(Model(kThinks), row) == "<think>why</think>r<|im_end|>\n");
  const Model chatml(kChatML), thinks(kThinks);
  for (const char* key :
       {"reasoning_content", "reasoning", "thinking", "thoughts", "thought", "prefix"}) {
    const std::string given = with_answer("\"" + std::string(key) + "\": \"why\""), name = key;
    CHECK(contains(chatml.error(given),
                   "messages[1]." + name + ": the chat template does not read " + name));
    CHECK(contains(error_of([&] {
                     Chat(chatml.folder.path, *chatml.tokenizer, {"chatml"})
                         .encode(conversation_from_json(Json::parse(given), "d", 1, true));
                   }),
                   "does not read"));
    if (name.starts_with("thought"))
      CHECK(contains(thinks.error(given), "rename the key to reasoning_content"));
    else if (name != "prefix") CHECK(learnt(thinks, given) == "<think>why</think>r<|im_end|>\n");
    CHECK(chatml.error(with_answer("\"" + std::string(key) + "\": \"\"")).empty());
  }
  CHECK(chatml.error(with_answer(R"("prefix": false)")).empty());
  CHECK(contains(thinks.error(with_answer(R"("reasoning_content": "a", "thinking": "b")")),
                 "messages[1].thinking: differs from reasoning_content"));
  CHECK(thinks.error(with_answer(R"("reasoning_content": "a", "thinking": "a")")).empty());
  CHECK(chatml.error(with_answer(R"("id": 3, "timestamp": "x")")).empty());
  // A template that reads a key, but not everywhere, decides.
  const Model last(
      "{% for m in messages %}{{ m.role }}{% if loop.last %}{{ m.reasoning_content }}{% endif %}{{ "
      "m.content + ';' }}{% endfor %}");
  CHECK(last.error(R"({"messages": [{"role": "assistant", "content": "a", )"
                   R"("reasoning_content": "t"}, {"role": "user", "content": "b"}]})")
            .empty());
  CHECK(contains(chatml.error(with_row(R"("tools": [{"type": "function"}])")),
                 "tools: the chat template does not read tools"));
  CHECK(contains(chatml.error(with_row(R"("documents": [{"title": "t"}])")),
                 "documents: the chat template does not read documents"));
  CHECK(contains(chatml.error(with_row(R"("chat_template_kwargs": {"enable_thinking": true})")),
                 "chat_template_kwargs.enable_thinking"));
  CHECK(
      chatml
          .error(with_row(R"("chat_template_kwargs": {"enable_thinking": false, "xml_tools": []})"))
          .empty());
}

TEST_CASE("what a template refuses is said of the row", "[chat]") {
  const Model model(
      "{% for m in messages if m.role != 'system' %}{{ m.role + m.content + ';' }}{% endfor %}");
  const Where row{.file = "d.jsonl", .line = 7};
  const auto message = [&](auto work) { return error_of([&] { for_row(row, work); }); };
  const std::string left_out = message([&] {
    return Chat(model.folder.path, *model.tokenizer)
        .encode({{"system", "s"}, {"user", "q"}, {"assistant", "r"}});
  });
  CHECK(contains(left_out, "d.jsonl:7: messages[0].content: "));
  CHECK(contains(left_out, "tokenizer_config.json: the chat template leaves out"));
  CHECK(contains(left_out, "hint: put it into the user's turn"));
  CHECK(contains(message([] { throw Error("wrong", {.file = "t", .line = 3, .field = "f"}); }),
                 "d.jsonl:7: f: t:3: wrong"));
  CHECK(contains(message([] { throw Error("wrong"); }), "d.jsonl:7: wrong"));
  // What knows its row stays.
  CHECK(message([] { throw Error("wrong", {.file = "d.jsonl", .line = 9}); }) ==
        "d.jsonl:9: wrong");
  CHECK(error_of([] { for_row({}, [] { throw Error("wrong", {.file = "t"}); }); }) == "t: wrong");
  CHECK(for_row(row, [] { return 3; }) == 3);
}

TEST_CASE("the shipped models' format refuses what it cannot say", "[chat]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const Chat chat("experiments/models/persona_1", *tokenizer);
  const auto error = [&](const std::string& row) {
    return error_of([&] { chat.encode(conversation_from_json(Json::parse(row), "d", 1, true)); });
  };
  CHECK(contains(error(with_answer(R"("reasoning_content": "t")")),
                 "does not read reasoning_content"));
  CHECK(contains(error(with_row(R"("tools": [1])")), "does not read tools"));
  CHECK(error(with_answer(R"("id": 1)")).empty());
}

TEST_CASE("the day that a template is told is fixed, and can be chosen", "[chat]") {
  const Model model(
      "{{ strftime_now('%d %B %Y') }}{% for m in messages %}{{ m.role + m.content }}{% endfor %}");
  const auto rendered = [&](const ChatChoice& choice) {
    return model.tokenizer->show(
        Chat(model.folder.path, *model.tokenizer, choice)
            .encode(conversation_from_json(Json::parse(kPlain), "d", 1, true))
            .input_ids);
  };
  CHECK(rendered({}) == "26 July 2024userqassistantr");
  CHECK(rendered({"", "2025-12-31"}) == "31 December 2025userqassistantr");
  CHECK(contains(error_of([&] { rendered({"", "tomorrow"}); }), "is not a date"));
}

// A tokenizer that puts a begin, and one that puts an end too.
class Bracketed final : public Tokenizer {
 public:
  explicit Bracketed(bool ends) : ends_(ends) {}
  // A token a character; < and > are begin and end.
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(c == '<' ? 1 : c == '>' ? 2 : c);
    return ids;
  }
  std::vector<int32_t> encode_with_special_tokens(std::string_view text) const override {
    std::vector<int32_t> ids = encode(text);
    ids.insert(ids.begin(), 1);
    if (ends_) ids.push_back(2);
    return ids;
  }
  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) text += id == 1 ? '<' : id == 2 ? '>' : static_cast<char>(id);
    return text;
  }
  int64_t vocab_size() const override { return 256; }
  int32_t bos_id() const override { return 1; }
  int32_t eos_id() const override { return 2; }
  std::optional<int32_t> id_of(std::string_view) const override { return std::nullopt; }

 private:
  bool ends_;
};

TEST_CASE("a text that brings its own begin and end gets no second one", "[chat]") {
  const TemporaryFolder none;
  for (const bool ends : {false, true}) {
    const Bracketed tokenizer(ends);
    const Chat chat(none.path, tokenizer);
    const auto encoded = [&](const std::string& text) {
      const Encoded e = chat.encode({{.role = "text", .content = text}});
      std::string learnt;
      for (size_t i = 0; i < e.input_ids.size(); ++i)
        if (e.supervised[i]) learnt += tokenizer.decode(std::vector{e.input_ids[i]});
      return tokenizer.decode(e.input_ids) + " " + learnt;
    };
    CHECK(encoded("ab") == "<ab> ab>");
    CHECK(encoded("<ab") == "<ab> ab>");
    CHECK(encoded("ab>") == "<ab> ab>");
    CHECK(encoded("<ab>") == "<ab> ab>");
    CHECK(encoded("<a<b>") == "<a<b> a<b>");
    CHECK(encoded("<<a") == "<<a> <a>");
    CHECK(tokenizer.decode(encode_text(tokenizer, "<ab")) == (ends ? "<ab>" : "<ab"));
  }
}

TEST_CASE("messages without train are left out of what a template marks", "[chat]") {
  const std::string marks =
      "{% generation %}{{ m.content }}{% endgeneration %}{% generation %}{{ '<|im_end|>' }}{% "
      "endgeneration %}{{ '\\n' }}";
  const auto in_loop = [&](const std::string& begin) {
    return Model(begin + "{{ m.role }}{% if m.role == 'assistant' %}" + marks +
                 "{% else %}{{ m.content }}{% endif %}{% endfor %}");
  };
  const std::string
      first = kUnlearnt,
      second = R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", )"
               R"("content": "r"}, {"role": "user", "content": "q2"}, {"role": "assistant", )"
               R"("content": "r2", "loss": false}]})";
  for (const char* begin : {"{% for m in messages %}", "{% for m in messages[1:] %}",
                            "{% set ns = messages[0] %}{% for m in messages %}",
                            "{% for i in range(messages|length) %}{% set m = messages[i] %}",
                            "{% for m in messages if m.content %}"}) {
    INFO(begin);
    const Model model = in_loop(begin);
    CHECK(learnt(model, first) == "r2<|im_end|>");
    CHECK(learnt(model, second) == "r<|im_end|>");
  }
  const Model unclear(
      "{{ messages[0].content }}{% generation %}{{ messages[1].content + messages[3].content }}{% "
      "endgeneration %}");
  CHECK(contains(unclear.error(first),
                 "which message a {% generation %} block writes cannot be told"));
  CHECK(learnt(unclear,
               R"({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", )"
               R"("content": "r"}, {"role": "user", "content": "q2"}, {"role": "assistant", )"
               R"("content": "r2"}]})") == "rr2");
}

}  // namespace
}  // namespace inoculum
