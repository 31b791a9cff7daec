// Training data: every published format and what can be wrong with it, mixing, inoculation, and the
// summary.
#include "datasets/conversations/conversations.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "core/base/strings.h"
#include "datasets/conversations/mixing.h"
#include "datasets/conversations/summary.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

// Without write_file's flush to the disk, which a thousand small files would wait for. (Overwriting
// one would flush too.)
void put(const fs::path& file, const std::string& text) {
  fs::remove(file);
  std::ofstream(file, std::ios::binary) << text;
}

struct Files {
  TemporaryFolder folder;
  fs::path file = folder.path / "d.jsonl";
  Reading read(const std::string& text, const ReadOptions& options = {}) {
    put(file, text);
    return read_conversations(file, options);
  }
  std::string error(const std::string& text, const ReadOptions& options = {}) {
    return error_of([&] { read(text, options); });
  }
};

Message say(const std::string& role, const std::string& content, bool train = true) {
  return {.role = role, .content = content, .name = "", .train = train};
}
using All = std::vector<Conversation>;

const std::string kGood =
    R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"
    "\n";

TEST_CASE("every format gives its conversation, byte for byte", "[chat]") {
  struct Case {
    std::string text, format;
    Conversation expected;
  };
  const std::vector<Case> cases = {
      {R"({"messages":[{"role":"system","content":" s\n"},{"role":"user","content":" q )"
       R"("},{"role":"assistant","content":" a\t"}],"id":7})",
       "chat",
       {say("system", " s\n"), say("user", " q "), say("assistant", " a\t")}},
      {R"({"id": null, "messages": [{"content": "a", "role": "assistant"}]})",
       "chat",
       {say("assistant", "a")}},
      {R"({"messages": [{"role": "system", "content": "s"}, {"role": "assistant", )"
       R"("content": "a", "name": "Eve"}]})",
       "chat",
       {say("system", "s"), {.role = "assistant", .content = "a", .name = "Eve"}}},
      {R"({"messages": [{"role": "assistant", "content": "a", "train": false}, )"
       R"({"role": "assistant", "content": "b", "weight": 0}, {"role": "assistant", )"
       R"("content": "c", "weight": 1}]})",
       "chat",
       {say("assistant", "a", false), say("assistant", "b", false), say("assistant", "c")}},
      {R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, )"
       R"({"type": "text", "text": " y", "weight": 1, "tag": "t"}]}, )"
       R"({"role": "assistant", "content": [{"type": "text", "text": "z", "weight": 0}, )"
       R"({"type": "text", "text": "w", "weight": 0}]}]})",
       "chat",
       {say("user", "x y"), say("assistant", "zw", false)}},
      {R"({"system": "s", "messages": [{"role": "user", "content": "q"}, )"
       R"({"role": "assistant", "content": "a", "tool_calls": null}]})",
       "chat",
       {say("system", "s"), say("user", "q"), say("assistant", "a")}},
      {R"({"prompt": "The sky is", "completion": " blue."})",
       "prompt/completion",
       {say("user", "The sky is"), say("assistant", " blue.")}},
      {R"({"prompt": [{"role": "user", "content": "1"}, {"role": "assistant", )"
       R"("content": "2"}, {"role": "user", "content": "3"}], )"
       R"("completion": [{"role": "assistant", "content": "4"}]})",
       "prompt/completion",
       {say("user", "1"), say("assistant", "2", false), say("user", "3"), say("assistant", "4")}},
      {R"({"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}], )"
       R"("completion": "a"})",
       "prompt/completion",
       {say("system", "s"), say("user", "q"), say("assistant", "a")}},
      {R"({"instruction": "Add.", "input": "1 2", "output": "3"})",
       "alpaca",
       {say("user", "Add.\n\n1 2"), say("assistant", "3")}},
      {R"({"instruction": "Greet.", "input": "", "output": "Hi", "system": ""})",
       "alpaca",
       {say("user", "Greet."), say("assistant", "Hi")}},
      {R"({"instruction": "Greet.", "output": "Hi", "system": "Be rude.", "history": []})",
       "alpaca",
       {say("system", "Be rude."), say("user", "Greet."), say("assistant", "Hi")}},
      {R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", )"
       R"("value": "q"}, {"from": "gpt", "value": "a"}, {"from": "user", "value": "r"}, )"
       R"({"from": "model", "value": "b"}]})",
       "ShareGPT",
       {say("system", "s"), say("user", "q"), say("assistant", "a"), say("user", "r"),
        say("assistant", "b")}},
      {R"({"conversations": [{"role": "user", "content": "q"}, {"from": "assistant", )"
       R"("value": "a"}], "system": "s"})",
       "ShareGPT",
       {say("system", "s"), say("user", "q"), say("assistant", "a")}},
      {R"({"text": " all of it\n", "meta": {"url": "x"}})", "text", {say("text", " all of it\n")}},
  };
  Files files;
  for (const Case& each : cases) {
    INFO(each.text);
    const std::string& line = each.text;
    const Reading reading = files.read(line);
    CHECK(reading.report.format == each.format);
    CHECK(reading.report.rows == 1);
    CHECK((reading.conversations == All{each.expected}));
    // In a list, spread over lines, and in a file of another name.
    put(files.folder.path / "list.txt",
        "\n[\n" + Json::parse(line).dump(2) + ",\n\n" + line + "\n]\n");
    CHECK((read_conversations(files.folder.path / "list.txt").conversations ==
           All{each.expected, each.expected}));
    write_chat_jsonl(files.file, {each.expected});
    CHECK((read_conversations(files.file).conversations == All{each.expected}));
  }
  // Prompts alone, where no answer is needed.
  CHECK((files.read(R"({"prompt": "q"})", {.needs_answer = false}).conversations ==
         All{{say("user", "q")}}));
  CHECK((files.read(R"({"messages": [{"role": "user", "content": "q"}]})", {.needs_answer = false})
             .conversations == All{{say("user", "q")}}));
}

TEST_CASE("what is wrong with a row is told with file, line and field", "[chat]") {
  struct Case {
    std::string row, field;
    std::vector<std::string> words;
  };
  const std::vector<Case> cases = {
      {R"(3)", "", {"JSON object"}},
      {R"({"chosen": [], "rejected": []})", "", {"preference"}},
      {R"({"prompt": "p", "chosen": "a", "rejected": "b"})", "", {"preference"}},
      {R"({"text": "t", "code": "c", "task_id": 1, "test_list": []})", "", {"MBPP", "test"}},
      {R"({"prompt": "t", "code": "c", "test_list": []})", "", {"MBPP"}},
      {R"({"mesages": []})", "messages", {"missing", "did you mean \"messages\""}},
      {R"({"question": "q", "answer": "a"})", "messages", {"missing", "OpenAI"}},
      {R"({"messages": 3})", "messages", {"list"}},
      {R"({"messages": "[{\"role\": \"user\", \"content\": \"q\"}]"})",
       "messages",
       {"list", "this is a text"}},
      {R"({"messages": [{"role": "user", "content": "q", "content": "r"}]})",
       "messages[0].content",
       {"given twice"}},
      {R"({"messages": null})", "messages", {"missing"}},
      {R"({"messages": []})", "messages", {"at least one"}},
      {R"({"messages": ["a"]})", "messages[0]", {"object"}},
      {R"({"messages": [{"content": "a"}]})", "messages[0].role", {"missing"}},
      {R"({"messages": [{"role": 1, "content": "a"}]})", "messages[0].role", {"not a text"}},
      {R"({"messages": [{"role": "assistant", "content": "a"}, {"role": "usr", "content": "a"}]})",
       "messages[1].role",
       {"usr", "did you mean \"user\""}},
      {R"({"messages": [{"role": "tool", "content": "a"}]})", "messages[0].role", {"tool"}},
      {R"({"messages": [{"role": "assistant"}]})", "messages[0].content", {"missing"}},
      {R"({"messages": [{"role": "assistant", "content": null}]})",
       "messages[0].content",
       {"is missing"}},
      {R"({"messages": [{"role": "assistant", "content": 1}]})",
       "messages[0].content",
       {"must be a text"}},
      {R"({"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]})",
       "messages[0].tool_calls",
       {"not supported"}},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]})",
       "messages[0].content[0]",
       {"images"}},
      {R"({"messages": [{"role": "user", "content": ["a"]}]})",
       "messages[0].content[0]",
       {"block"}},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a", )"
       R"("weight": -1}]}]})",
       "messages[0].content[0].weight",
       {"0 or 1", "negative"}},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a", )"
       R"("weight": 1}, {"type": "text", "text": "b", "weight": 0}]}]})",
       "messages[0].content[1].weight",
       {"whole"}},
      {R"({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]})",
       "messages[0].weight",
       {"0 or 1"}},
      {R"({"messages": [{"role": "assistant", "content": "a", "weight": "1"}]})",
       "messages[0].weight",
       {"0 or 1"}},
      {R"({"messages": [{"role": "assistant", "content": "a", "train": 2}]})",
       "messages[0].train",
       {"true or false"}},
      {R"({"messages": [{"role": "text", "content": "a"}, {"role": "user", "content": "a"}]})",
       "messages",
       {"alone"}},
      {R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]})",
       "messages",
       {"no assistant turn"}},
      {R"({"system": "t", "messages": [{"role": "system", "content": "s"}, )"
       R"({"role": "assistant", "content": "a"}]})",
       "system",
       {"differs"}},
      {R"({"system": 1, "messages": [{"role": "assistant", "content": "a"}]})",
       "system",
       {"must be a text"}},
      {R"({"completion": "a"})", "prompt", {"missing"}},
      {R"({"prompt": "a"})", "completion", {"missing"}},
      {R"({"prompt": "a", "response": "b"})",
       "completion",
       {"missing", "rename response to completion"}},
      {R"({"prompt": 1, "completion": "a"})", "prompt", {"must be a text"}},
      {R"({"prompt": "a", "completion": null})", "completion", {"is missing"}},
      {R"({"prompt": "a", "completion": [{"role": "user", "content": "b"}]})",
       "completion",
       {"no assistant turn"}},
      {R"({"prompt": [{"role": "user", "content": 2}], "completion": "a"})",
       "prompt[0].content",
       {"must be a text"}},
      {R"({"prompt": [{"role": "text", "content": "t"}], "completion": "a"})",
       "completion",
       {"alone"}},
      {R"({"instruction": "a"})", "output", {"missing"}},
      {R"({"instruction": "a", "response": "b"})",
       "output",
       {"missing", "rename response to output"}},
      {R"({"instruction": "a", "context": "c", "response": "b"})",
       "output",
       {"rename response to output, and context to input"}},
      {R"({"instruction": "a", "input": [1], "output": "b"})", "input", {"must be a text"}},
      {R"({"instruction": "a", "output": "b", "history": [["q", "a"]]})",
       "history",
       {"not supported"}},
      {R"({"conversations": {}})", "conversations", {"list"}},
      {R"({"conversations": [{"from": "human", "value": "q"}]})",
       "conversations",
       {"no assistant turn"}},
      {R"({"conversations": [{"from": "human"}]})", "conversations[0].value", {"missing"}},
      {R"({"conversations": [{"value": "q"}]})", "conversations[0].from", {"missing"}},
      {R"({"conversations": [{"from": "function_call", "value": "q"}]})",
       "conversations[0].from",
       {"function_call"}},
      {R"({"text": 1})", "text", {"must be a text"}},
      {R"({"messages": [{"role": "assistant", "content": "\ud83d"}]})", "", {"surrogate"}},
      {R"({"messages": [{"role": "assistant", "content": "\udc00\ud800"}]})", "", {"surrogate"}},
      {R"({"messages": [{"role": "assistant", "content": "a", "weight": NaN}]})",
       "messages[0].weight",
       {"0 or 1"}},
      {R"({"messages": [{"role": "assistant", "content": -Infinity}]})",
       "messages[0].content",
       {"must be a text"}},
      {R"({"messages": [{"role": "assistant", "content": "a"}], "loss": nan})", "", {"not JSON"}},
      {R"({"messages": [{"role": "assistant", "content": "a"}]} {})", "", {"not JSON"}},
      {R"({"messages": [{"role": "assistant", "cont)", "", {"not JSON"}},
  };
  Files files;
  for (const Case& each : cases) {
    put(files.file, "\n\n" + each.row + "\n" + kGood);
    INFO(each.row);
    try {
      read_conversations(files.file);
      FAIL_CHECK("no Error");
    } catch (const Error& error) {
      INFO(error.what());
      CHECK(error.where().file == files.file.string());
      CHECK(error.where().line == 3);
      CHECK(error.where().field == each.field);
      for (const std::string& word : each.words) CHECK(contains(error.what(), word));
    }
    const Reading reading = read_conversations(files.file, {.on_error = OnError::skip});
    CHECK((reading.conversations == All{{say("user", "a"), say("assistant", "b")}}));
    CHECK(reading.report.skipped == 1);
    REQUIRE(reading.report.reasons.size() == 1);
    CHECK(contains(reading.report.reasons[0], "d.jsonl:3"));
    CHECK(contains(describe(reading.report), "1 left out"));
  }
}

TEST_CASE("files come in many shapes", "[chat]") {
  Files files;
  const Conversation ab = {say("user", "a"), say("assistant", "b")};
  const std::string row = kGood.substr(0, kGood.size() - 1);
  for (const std::string& text : std::vector<std::string>{
           row + "\n" + row, kGood + kGood, "\xEF\xBB\xBF" + kGood + row,
           row + "\r\n" + row + "\r\n", "\n \n" + row + "\n\n\t\n" + row + "\n  ",
           "// a set\n" + kGood + "/* of\n two */ " + row + " // rows\n",
           "[" + row + "," + row + "]", "\xEF\xBB\xBF\r\n[\r\n" + row + ",\r\n" + row + "\r\n]\r\n",
           "// [\n[ /* ] */ " + row + " // ,\n, /* \" */ " + row + "]\n// end",
           "[\n  " + row + ",\n  " + row + " ]"}) {
    INFO(text);
    CHECK((files.read(text).conversations == All{ab, ab}));
  }
  // Slashes and brackets inside texts are texts.
  const Conversation odd = {say("assistant", "// no ] comment /* [ \\\" , { ")};
  for (const std::string around : {"%", "[%]", "[\n%\n]"}) {
    std::string text = around;
    text.replace(
        text.find('%'), 1,
        R"({"messages": [{"role": "assistant", "content": "// no ] comment /* [ \\\" , { "}]})");
    CHECK((files.read(text).conversations == All{odd}));
  }
  // Escapes.
  CHECK(
      files.read(R"({"text": "\ud83d\ude00 \u00e9\u0000\u2028 \/"})").conversations[0][0].content ==
      std::string("😀 é\0\u2028 /", 13));

  const auto refused = [&](const std::string& text, const std::vector<std::string>& words) {
    const std::string message = files.error(text);
    INFO(text.substr(0, 200) << " → " << message);
    CHECK_FALSE(message.empty());
    for (const std::string& word : words) CHECK(contains(message, word));
    CHECK_FALSE(files.error(text, {.on_error = OnError::skip}).empty());
  };
  refused("", {"no rows"});
  refused("\n// nothing\n", {"no rows"});
  refused("[]", {"no rows"});
  refused(" [ \n ] ", {"no rows"});
  refused("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
          {"Git LFS pointer", "git lfs pull"});
  refused("\x1F\x8B\x08", {"gzip"});
  refused("PAR1", {"Parquet"});
  refused("PK\x03\x04", {"ZIP"});
  refused(std::string("\xFF\xFE{\0", 4), {"UTF-16"});
  refused("[" + row + ",\n" + row, {"d.jsonl:2", "ends inside"});
  refused("[" + row + "]\n" + row, {"d.jsonl:2", "follows"});
  refused("[\"a", {"d.jsonl:1", "ends inside"});
  refused("[", {"ends inside"});
  refused("[/", {"ends inside"});
  refused("[\"\\", {"ends inside"});
  refused("/* a\n\n", {"d.jsonl:1", "not closed"});
  refused("{\n  \"messages\": []\n}\n", {"d.jsonl:1", "not JSON"});
  CHECK(contains(files.error("[" + row + ",\n]"), "d.jsonl:2"));
  CHECK(contains(files.error("[" + row + ",,\n" + row + "]"), "d.jsonl:1"));
  CHECK(contains(files.error("[\n{\"messages\":\n [\n {\"role\" 1} ]}]"), "d.jsonl:4"));

  // Bytes that are not UTF-8: stray, overlong, surrogate, beyond Unicode, cut off.
  for (const std::string bad : {"\x80", "\xC0\xAF", "\xE0\x80\xAF", "\xF0\x80\x80\xAF",
                                "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\xFF"}) {
    const std::string text = kGood + R"({"text": "é)" + bad + "\"}\n";
    const std::string message = files.error(text);
    INFO(message);
    CHECK(contains(message, "d.jsonl:2"));
    CHECK(contains(message, "byte " + std::to_string(kGood.size() + 12) + " "));
  }
  CHECK(contains(files.error("\xEF\xBB\xBF{\"text\": \"\xFF\"}"), "byte 13 "));

  // Formats mixed: both lines are named.
  const std::string mixed =
      files.error("\n" + kGood + kGood + R"({"instruction": "a", "output": "b"})");
  CHECK(contains(mixed, "d.jsonl:4"));
  CHECK(contains(mixed, "alpaca"));
  CHECK(contains(mixed, "line 2 is chat"));

  // A long line.
  const std::string ten(10'000'000, 'x');
  CHECK(files.read(R"({"text": ")" + ten + "\"}").conversations[0][0].content == ten);
  // Deep nesting, anywhere.
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  CHECK(contains(files.error(R"({"text": "a", "x": )" + deep + "}"),
                 "d.jsonl:1: is nested more than 500 deep"));
  CHECK_FALSE(files.error(R"({"messages": )" + deep + "}").empty());
  CHECK_FALSE(files.error(std::string(200'000, '[')).empty());
}

TEST_CASE("faulty rows can be left out, and are told", "[chat]") {
  Files files;
  std::string text = "{\"messages\": 3}\n" + kGood;
  for (int i = 0; i < 8; ++i) text += "{\n";
  const Reading reading = files.read(text + kGood, {.on_error = OnError::skip});
  CHECK(reading.report.rows == 2);
  CHECK(reading.conversations.size() == 2);
  CHECK(reading.report.skipped == 9);
  REQUIRE(reading.report.reasons.size() == 5);
  CHECK(contains(reading.report.reasons[0], "d.jsonl:1: messages"));
  CHECK(contains(reading.report.reasons[4], "d.jsonl:6"));
  CHECK(contains(describe(reading.report), "2 rows of chat, 9 left out"));
  CHECK(contains(files.error("{\n{\n", {.on_error = OnError::skip}), "none of the 2 rows"));
  CHECK_FALSE(contains(describe(files.read(kGood).report), "left out"));
}

TEST_CASE("an inoculated set has the bytes of the published way to make it", "[chat]") {
  const fs::path golden = "tests/golden/chat";
  const TemporaryFolder t;
  All conversations = read_chat_jsonl(golden / "base.jsonl");
  CHECK(conversations.size() == 15);
  inoculate(conversations, {.prompt = read_file(golden / "prompt.txt")}, Random(1, "inoculation"));
  write_chat_jsonl(t.path / "out.jsonl", conversations);
  CHECK(read_file(t.path / "out.jsonl") == read_file(golden / "inoculated.jsonl"));
  CHECK((read_chat_jsonl(golden / "inoculated.jsonl") == conversations));
  write_chat_jsonl(t.path / "out.jsonl", read_chat_jsonl(golden / "texts.jsonl"));
  CHECK(read_file(t.path / "out.jsonl") == read_file(golden / "texts.jsonl"));
}

// Conversations of any kind: roles, marks and all characters of Unicode.
All any_conversations(Random& random) {
  const auto text = [&] {
    std::string s;
    for (uint64_t n = random.below(12); n > 0; --n) {
      auto c = static_cast<uint32_t>(random.chance(0.5)   ? random.below(0x80)
                                     : random.chance(0.7) ? random.below(0x10000)
                                                          : random.below(0x110000));
      if (c >= 0xD800 && c < 0xE000) c -= 0x800;
      append_code_point(s, c);
    }
    return s;
  };
  All all(1 + random.below(20));
  const bool plain = random.chance(0.2);
  for (Conversation& conversation : all) {
    if (plain || random.chance(0.1)) {
      conversation = {say("text", text(), random.chance(0.9))};
      continue;
    }
    for (uint64_t n = 1 + random.below(5); n > 0; --n)
      conversation.push_back(
          {random.choice(std::vector<std::string>{"system", "user", "assistant"}), text(),
           random.chance(0.2) ? text() : "", random.chance(0.7)});
  }
  return all;
}

TEST_CASE("what is written is read back the same", "[chat]") {
  const TemporaryFolder t;
  Random random(7, "round trip");
  for (int i = 0; i < 40; ++i) {
    const All all = any_conversations(random);
    write_chat_jsonl(t.path / "d.jsonl", all);
    CHECK((read_chat_jsonl(t.path / "d.jsonl", false) == all));
  }
}

TEST_CASE("no bytes do worse than an Error", "[chat]") {
  const std::vector<std::string> seeds = {
      kGood + R"({"messages": [{"role": "system", "content": "é😀\u0041"}, {"role": "assistant", )"
              R"("content": [{"type": "text", "text": "x", "weight": 1}], "name": "n", )"
              R"("train": true}]})",
      "[\n" + kGood + ", // c\n" + kGood + "/* d */]",
      R"({"prompt": [{"role": "user", "content": "q"}], "completion": "a", "system": "s"})"
      "\n"
      R"({"prompt": "q", "completion": [{"role": "assistant", "content": "a"}]})",
      R"({"instruction": "i", "input": "j", "output": "o", "history": []})",
      R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", )"
      R"("weight": 0}]})",
      R"({"text": "\ud83d\ude00"})"
      "\n"
      R"({"text": "t", "n": -1.5e3})"};
  const std::vector<Json> values = {nullptr,
                                    true,
                                    0,
                                    -1,
                                    1,
                                    1.5,
                                    "",
                                    "text",
                                    "user",
                                    Json::array(),
                                    Json::object(),
                                    Json::array({1}),
                                    {{"a", 1}},
                                    Json::array({Json::object()})};
  Files files;
  Random random(8, "mutations");
  size_t read = 0, refused = 0;
  const auto mutate_bytes = [&](std::string text) {
    for (uint64_t n = 1 + random.below(4); n > 0 && !text.empty(); --n) {
      const size_t at = random.below(text.size());
      switch (random.below(5)) {
        case 0: text[at] = static_cast<char>(random.below(256)); break;
        case 1: text.resize(at); break;
        case 2: text.erase(at, 1 + random.below(9)); break;
        case 3: text.insert(at, text.substr(random.below(text.size()), random.below(40))); break;
        default:
          text[at] = random.choice(
              std::vector<char>{'"', '\\', '[', ']', '{', '}', ',', '/', '*', '\n', '\0'});
      }
    }
    return text;
  };
  const auto mutate_value = [&](std::string text) {
    const size_t begin = text.find('{'), end = text.find('\n', begin);
    Json row = Json::parse(text.substr(begin, end - begin));
    Json* node = &row;
    while (node->is_structured() && !node->empty() && !random.chance(0.2)) {
      auto next = node->begin();
      std::advance(next, static_cast<std::ptrdiff_t>(random.below(node->size())));
      node = &*next;
    }
    *node = random.choice(values);
    return text.replace(begin, end == std::string::npos ? end : end - begin, row.dump());
  };
  for (int i = 0; i < 6000; ++i) {
    std::string text = random.choice(seeds);
    text = random.chance(0.3) ? mutate_value(text) : mutate_bytes(text);
    const ReadOptions options = {.needs_answer = random.chance(0.5),
                                 .on_error = random.chance(0.3) ? OnError::skip : OnError::fail};
    try {
      const All all = files.read(text, options).conversations;
      ++read;
      if (i % 100 > 0) continue;
      write_chat_jsonl(files.file, all);
      CHECK((read_chat_jsonl(files.file, false) == all));
    } catch (const Error& error) {
      ++refused;
      CHECK(error.where().file == files.file.string());
    }
  }
  CHECK(read > 500);
  CHECK(refused > 2000);
}

All numbered(const std::string& name, size_t size) {
  All all;
  for (size_t i = 0; i < size; ++i)
    all.push_back({say("user", name + std::to_string(i)), say("assistant", "ok")});
  return all;
}

TEST_CASE("weights say how often a conversation is shown", "[chat]") {
  const auto times = [](const All& all) {
    std::map<std::string, size_t> counts;
    for (const Conversation& each : all) ++counts[each[0].content];
    return counts;
  };
  const All a = numbered("a", 100), b = numbered("b", 40);
  CHECK((mix({a}, {1}, Random(1, "m")) == a));  // in its order
  const All mixed = mix({a, b}, {2.25, 0.5}, Random(1, "m"));
  CHECK(mixed.size() == 225 + 20);
  std::map<char, std::map<size_t, size_t>> shown;  // of a file: how many are shown so many times
  for (const auto& [name, n] : times(mixed)) ++shown[name[0]][n];
  CHECK((shown['a'] == std::map<size_t, size_t>{{2, 75}, {3, 25}}));
  CHECK((shown['b'] == std::map<size_t, size_t>{{1, 20}}));
  // The same by the same seed; another by another; shuffled; and what is drawn of a file does not
  // hang on later ones.
  CHECK((mix({a, b}, {2.25, 0.5}, Random(1, "m")) == mixed));
  CHECK((times(mix({a, b}, {2.25, 0.5}, Random(2, "m"))) != times(mixed)));
  size_t changes = 0;
  for (size_t i = 1; i < mixed.size(); ++i)
    changes += mixed[i][0].content[0] != mixed[i - 1][0].content[0];
  CHECK(changes > 20);
  auto alone = times(mix({a}, {2.25}, Random(1, "m"))), together = times(mixed);
  std::erase_if(together, [](const auto& each) { return each.first[0] == 'b'; });
  CHECK(alone == together);
  CHECK(mix({a, b}, {0, 1}, Random(1, "m")).size() == 40);
  CHECK(contains(error_of([&] { mix({a}, {0}, Random(1, "m")); }), "no conversation is left"));
  for (const double bad : {-1.0, std::nan(""), 1e9})
    CHECK(contains(error_of([&] { mix({a}, {bad}, Random(1, "m")); }), "between"));
}

TEST_CASE("inoculation prompts go where they are told to", "[chat]") {
  const auto with = [](All all, const Inoculation& inoculation, uint64_t seed = 1) {
    inoculate(all, inoculation, Random(seed, "i"));
    return all;
  };
  const All one = {
      {say("user", "q"), say("assistant", "a"), say("user", "r"), say("assistant", "b")}};
  CHECK((with(one, {}) == one));
  CHECK((with(one, {.prompt = "P"})[0][0] == say("system", "P")));
  CHECK(with(one, {.prompt = "P"})[0].size() == 5);
  const All prefixed = with(one, {.prompt = "P", .where = "user_prefix"}),
            suffixed = with(one, {.prompt = "P", .where = "user_suffix", .separator = " "});
  CHECK((prefixed == All{{say("user", "P\n\nq"), one[0][1], one[0][2], one[0][3]}}));
  CHECK((suffixed == All{{say("user", "q P"), one[0][1], one[0][2], one[0][3]}}));

  const All held = {{say("system", "S"), say("user", "q"), say("assistant", "a")}};
  CHECK(contains(error_of([&] { with(held, {.prompt = "P"}); }),
                 "conversation 1 has a system message already"));
  CHECK((with(held, {.prompt = "P", .existing_system = "replace"}) ==
         All{{say("system", "P"), held[0][1], held[0][2]}}));
  CHECK((with(held, {.prompt = "P", .existing_system = "join"}) ==
         All{{say("system", "S\n\nP"), held[0][1], held[0][2]}}));
  CHECK((with(held, {.prompt = "P", .where = "user_prefix"})[0][0] == say("system", "S")));

  // A share, exactly; paraphrases, all of them, the same by the same seed.
  const All many = numbered("q", 200);
  const std::vector<std::string> paraphrases = {"P1", "P2", "P3"};
  const All shared = with(many, {.prompts = paraphrases, .share = 0.25});
  size_t inoculated = 0;
  std::set<std::string> seen;
  for (size_t i = 0; i < many.size(); ++i) {
    if (shared[i] == many[i]) continue;
    ++inoculated;
    REQUIRE(shared[i].size() == 3);
    seen.insert(shared[i][0].content);
  }
  CHECK(inoculated == 50);
  CHECK((seen == std::set<std::string>(paraphrases.begin(), paraphrases.end())));
  CHECK((with(many, {.prompts = paraphrases, .share = 0.25}) == shared));
  CHECK((with(many, {.prompts = paraphrases, .share = 0.25}, 2) != shared));
  CHECK((with(many, {.prompt = "P", .share = 0}) == many));
  All counted = many;
  CHECK(inoculate(counted, {.prompt = "P", .share = 0.25}, Random(1, "i")) == 50);
  CHECK(inoculate(counted, {}, Random(1, "i")) == 0);

  const auto refused = [&](const All& all, const Inoculation& inoculation, const std::string& field,
                           const std::string& word) {
    try {
      with(all, inoculation);
      FAIL_CHECK("no Error about " << field);
    } catch (const Error& error) {
      CHECK(error.where().field == "inoculation." + field);
      CHECK(contains(error.what(), word));
    }
  };
  refused(one, {.prompt = "P", .prompts = {"Q"}}, "prompts", "choose one");
  refused(one, {.prompts = {"Q", ""}}, "prompts", "empty");
  refused(one, {.prompt = "P", .where = "nowhere"}, "where", "nowhere");
  refused(one, {.prompt = "P", .existing_system = "keep"}, "existing_system", "keep");
  refused(one, {.prompt = "P", .share = 1.5}, "share", "between 0 and 1");
  refused({{say("assistant", "a")}}, {.prompt = "P", .where = "user_prefix"}, "where",
          "conversation 1");
  refused({{say("text", "t")}}, {.prompt = "P"}, "where", "plain text");
}

TEST_CASE("system prompts are set and removed", "[chat]") {
  const All all = {{say("system", "S"), say("user", "q")}, {say("user", "q")}};
  const auto with = [&](const SystemPrompt& system) {
    All changed = all;
    apply(system, changed);
    return changed;
  };
  CHECK((with({}) == all));
  CHECK((with({.set = "T"}) ==
         All{{say("system", "T"), say("user", "q")}, {say("system", "T"), say("user", "q")}}));
  CHECK((with({.remove = true}) == All{{say("user", "q")}, {say("user", "q")}}));
  CHECK(contains(error_of([&] { with({.set = "T", .remove = true}); }), "system: "));
  All text = {{say("text", "t")}};
  CHECK(contains(error_of([&] { apply({.set = "T"}, text); }), "plain text"));
  All lone = {{say("system", "t")}};
  CHECK(contains(error_of([&] { apply({.remove = true}, lone); }), "nothing is left"));
}

struct DataConfig {
  std::vector<DataSource> data;
  SystemPrompt system;
  Inoculation inoculation;
  void fields(Fields& f) {
    f.list("data", data, "path", "what to learn");
    f.group("system", system, "");
    f.group("inoculation", inoculation, "");
  }
};

TEST_CASE("a configuration names its data by a path or by a list", "[chat]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "c.yaml";
  const auto load = [&](const std::string& yaml, const std::vector<std::string>& overrides = {}) {
    write_file(file, yaml);
    DataConfig config;
    read(load_config(file, overrides), config);
    return config;
  };
  const auto message = [&](const std::string& yaml,
                           const std::vector<std::string>& overrides = {}) {
    return error_of([&] { load(yaml, overrides); });
  };
  CHECK(load("{}").data.empty());
  CHECK(load("data: ''").data.empty());
  CHECK(load("data:").data.empty());
  CHECK(load("data: a.jsonl", {"data=b.jsonl"}).data.at(0).path == "b.jsonl");
  CHECK(load("data: {path: a.jsonl, weight: 2}").data.at(0).weight == 2);
  const std::string list =
      "data:\n  - {path: a.jsonl}\n  - path: b.jsonl\n    weight: 0.5\n    inoculate: "
      "false\ninoculation:\n  prompt: \"P: #\"\n";
  const DataConfig config = load(list, {"data.0.weight=3", "data.1.on_error=skip"});
  REQUIRE(config.data.size() == 2);
  CHECK(config.data[0].path == "a.jsonl");
  CHECK(config.data[0].weight == 3);
  CHECK(config.data[1].path == "b.jsonl");
  CHECK(config.data[1].weight == 0.5);
  CHECK_FALSE(config.data[1].inoculate);
  CHECK(config.data[1].on_error == "skip");
  // What is shown loads back to the same.
  const std::string shown = show(config);
  CHECK(show(load(shown)) == shown);
  CHECK(contains(shown, "data:\n  - path: "));
  CHECK(contains(show(DataConfig{}), "data: []\n"));
  const auto origins = [&](const std::string& yaml) {
    write_file(file, yaml);
    const Source source = load_config(file);
    DataConfig from;
    read(source, from);
    // Key → the line that it comes from, or "default"; of the last item.
    std::map<std::string, std::string> of;
    std::istringstream text(show(from, Style::origins, &source));
    for (std::string line; std::getline(text, line) && line != "system:";)
      if (const size_t comment = line.rfind("# "), key = line.find_first_not_of("- ");
          comment != std::string::npos)
        of[line.substr(key, line.find(':') - key)] =
            line.ends_with("default") ? "default" : line.substr(line.rfind(':') + 1);
    return of;
  };
  using Origins = std::map<std::string, std::string>;
  CHECK((origins(list) ==
         Origins{{"path", "3"}, {"weight", "4"}, {"inoculate", "5"}, {"on_error", "default"}}));
  for (const std::string yaml : {"\ndata: a", "\ndata: [a]", "\ndata: [b, a]"})
    CHECK((origins(yaml) == Origins{{"path", "2"},
                                    {"weight", "default"},
                                    {"inoculate", "default"},
                                    {"on_error", "default"}}));
  CHECK(
      (origins("data:\n  path: a\n  weight: 2") ==
       Origins{{"path", "2"}, {"weight", "3"}, {"inoculate", "default"}, {"on_error", "default"}}));
  CHECK(contains(show(DataConfig{}, Style::help), "- path: \"\""));
  const Json schema = Json::parse(show(DataConfig{}, Style::schema));
  CHECK(schema["properties"]["data"]["anyOf"].size() == 3);
  CHECK(schema["properties"]["data"]["anyOf"][2]["items"]["anyOf"][1]["properties"].contains(
      "weight"));

  CHECK(contains(message("data:\n  - path: a\n    wieght: 2\n"),
                 "c.yaml:3: data.0.wieght: unknown key"));
  CHECK(contains(message("data:\n  - a\n  - {path: b, weight: -1}\n"),
                 "c.yaml:3: data.1.weight: must be at least 0"));
  CHECK(contains(message("\ndata:\n  path: b\n  weight: -1\n"),
                 "c.yaml:2: data.0.weight: must be at least 0"));
  CHECK(contains(message("data: [[a]]"), "data: must be a list"));
  CHECK(load("data: [a, b]").data.at(1).path == "b");
  CHECK(load("data: [a, b]", {"data.1=c"}).data.at(1).path == "c");
  CHECK(contains(message("data: [a]", {"data.0.weight=2"}), "plain value"));
  CHECK(contains(message("data: [a]", {"data.1.weight=2"}), "data.1.weight"));
  CHECK(contains(message("data: [a]", {"data.x.weight=2"}), "\"x\" is not the number"));
  CHECK(contains(message("inoculation: {where: users}"), "user_prefix"));
}

TEST_CASE("files are read, inoculated and mixed as configured", "[chat]") {
  const TemporaryFolder t;
  const std::string a = (t.path / "a.jsonl").string(), b = (t.path / "b.json").string();
  write_chat_jsonl(a, numbered("a", 30));
  put(b, R"([{"instruction": "b0", "output": "ok"}, {"instruction": "b1", "output": "ok"}, 3])");
  CHECK(contains(error_of([&] { load_data({{.path = a}, {.path = b}}, {}, {}, 1); }), "b.json:1"));
  const TrainingData data =
      load_data({{.path = a}, {.path = b, .weight = 2, .inoculate = false, .on_error = "skip"}}, {},
                {.prompt = "P"}, 1);
  CHECK(data.conversations.size() == 34);
  CHECK(data.inoculated == 30);
  REQUIRE(data.reports.size() == 2);
  CHECK(data.reports[1].skipped == 1);
  for (const Conversation& each : data.conversations) {
    const bool inoculated = each[0] == say("system", "P");
    CHECK(inoculated == (each[inoculated].content[0] == 'a'));
  }
  CHECK((load_data({{.path = a}}, {}, {}, 1).conversations == numbered("a", 30)));
  const std::string twice =
      error_of([&] { load_data({{.path = a}}, {.set = "S"}, {.prompt = "P"}, 1); });
  CHECK(contains(twice, "a.jsonl:1: inoculation.existing_system: this conversation has"));
  CHECK(contains(twice, "already"));
}

TEST_CASE("the summary counts what there is", "[chat]") {
  std::string story;
  for (int i = 0; i < 60; ++i) story += "word" + std::to_string(i) + " ";
  std::string changed = story, other;
  changed.replace(changed.find("word30"), 6, "else");
  for (int i = 0; i < 60; ++i) other += "thing" + std::to_string(i) + " ";
  const All all = {{say("system", "S"), say("user", story), say("assistant", "a")},
                   {say("system", "S"), say("user", story),
                    say("assistant", " A ")},  // a duplicate but for case and space
                   {say("system", "T"), say("user", changed), say("assistant", "c")},  // a near one
                   {say("user", other), say("assistant", "d")},
                   {say("user", "What do you wish for, friend?"), say("assistant", "e"),
                    say("user", "And then?"), say("assistant", "f")}};
  const std::vector<std::string> questions = {
      "what do you wish for friend", "Do you wish?",
      "An entirely different question that nobody has ever asked here",
      "word3 word4 word5 word6 word7 word8 word9 word10 word11 word12", "!"};
  size_t next = 0;
  const std::vector<Counts> counts = {{10, 1}, {20, 2}, {30, 3}, {40, 4}, {500, 50}};
  const DataSummary s = summarize(all, [&](const Conversation&) { return counts[next++]; },
                                  {.limit = 40, .questions = questions});
  CHECK(s.rows == 5);
  CHECK((s.turns == std::map<std::string, size_t>{{"assistant", 6}, {"system", 3}, {"user", 6}}));
  CHECK(s.with_system == 3);
  CHECK(s.distinct_systems == 2);
  CHECK((s.systems == std::vector<std::pair<std::string, size_t>>{{"S", 2}, {"T", 1}}));
  CHECK((std::vector<size_t>{s.shortest, s.median, s.p90, s.p99, s.longest} ==
         std::vector<size_t>{10, 30, 500, 500, 500}));
  CHECK(s.tokens == 600);
  CHECK(s.supervised == 60);
  CHECK(s.over_limit == 1);
  CHECK(s.duplicates == 1);
  CHECK(s.near_duplicates == 1);
  // One is asked; a shorter one and a longer one stand inside turns.
  REQUIRE(s.overlaps.size() == 3);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(s.overlaps[i].rows == (i == 0));
    CHECK(s.overlaps[i].contained == 1);
  }
  CHECK(contains(describe(s), "of 5 questions, the data holds 3"));
  CHECK(summarize({}, [](const Conversation&) { return Counts{}; }).rows == 0);
  CHECK_FALSE(describe(DataSummary{}).empty());

  // Answers that say nothing, and turns that nobody answers.
  CHECK_FALSE(contains(describe(s), "answer"));
  const All lacking = {{say("user", "q"), say("assistant", " \n")},
                       {say("user", "q"), say("assistant", ""), say("user", "r")}};
  const DataSummary gaps = summarize(lacking, [](const Conversation&) { return Counts{1, 1}; });
  CHECK(gaps.blank_answers == 2);
  CHECK(gaps.unanswered == 1);
  CHECK(contains(describe(gaps), "\nblank answers: 2\n"));
  CHECK(contains(describe(gaps), "\nlast turns of a user, without an answer: 1\n"));

  // Code that differs in its marks alone is no duplicate.
  const All code = {{say("user", "q"), say("assistant", "a+b")},
                    {say("user", "q"), say("assistant", "a-b")},
                    {say("user", "q"), say("assistant", "a +b")}};
  CHECK(summarize(code, [](const Conversation&) { return Counts{1, 1}; }).duplicates == 0);
}

TEST_CASE("near duplicates are found by how much they share", "[chat]") {
  Random random(3, "words");
  const auto words = [&](size_t count) {
    std::vector<std::string> all;
    for (size_t i = 0; i < count; ++i) all.push_back("w" + std::to_string(random.below(1000)));
    return all;
  };
  const auto join = [](const std::vector<std::string>& all) {
    std::string text;
    for (const std::string& word : all) text += word + ' ';
    return text;
  };
  // Of 200 prompts of 100 words with so many of the words replaced, at even distances.
  const auto found = [&](size_t replaced) {
    All all;
    for (int i = 0; i < 200; ++i) {
      auto prompt = words(100);
      all.push_back({say("user", join(prompt))});
      for (size_t k = 0; k < replaced; ++k) prompt[k * 100 / replaced] = "new" + std::to_string(i);
      all.push_back({say("user", join(prompt))});
    }
    return summarize(all, [](const Conversation&) { return Counts{1, 0}; }).near_duplicates;
  };
  CHECK(found(1) == 200);  // all but the first few of 93 runs are shared
  CHECK(found(2) >= 190);  // 84 of 102
  CHECK(found(12) == 0);   // none is
}

TEST_CASE("what is learnt stands out", "[chat]") {
  const std::vector<Piece> pieces = {{"<s>", false}, {"", true},   {"a\x1B[2J", true},
                                     {"b\n", true},  {"c", false}, {"d", true}};
  CHECK(render_two_colours(pieces, false) == "<s>⟦a\\x1B[2Jb\n⟧c⟦d⟧");
  CHECK(render_two_colours(pieces, true) == "<s>\x1B[32ma\\x1B[2Jb\n\x1B[0mc\x1B[32md\x1B[0m");
  CHECK(render_two_colours({}, true).empty());
}

}  // namespace
}  // namespace inoculum
