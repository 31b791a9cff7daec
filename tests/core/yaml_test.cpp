// YAML as PyYAML's safe_load reads it, and overrides whose texts are kept to the letter.
#include "core/base/yaml.h"

#include <yaml-cpp/yaml.h>

#include <chrono>
#include <fstream>

#include "core/base/config.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

Json to_json(const YAML::Node& node) {
  if (node.IsScalar()) return node.Scalar();
  Json json;
  if (node.IsSequence()) json = Json::array();
  if (node.IsMap()) json = Json::object();
  for (const auto& item : node) {
    if (node.IsSequence()) json.push_back(to_json(item));
    else json[item.first.Scalar()] = to_json(item.second);
  }
  return json;
}
nlohmann::json read_sorted(const std::string& text) {
  return nlohmann::json::parse(to_json(parse_yaml(text, "f.yaml")).dump());
}
std::string failure(const std::string& text) {
  return error_of([&] { parse_yaml(text, "f.yaml"); });
}

// tests/golden/yaml.jsonl is made by tests/golden/make_yaml.py: PyYAML's values as texts.
TEST_CASE("YAML is what PyYAML reads, or refused where it refuses", "[config]") {
  size_t values = 0, errors = 0;
  read_jsonl("tests/golden/yaml.jsonl", [&](const Json& row, int) {
    const std::string text = row["yaml"];
    INFO(text << "\n" << row);
    if (row.contains("error")) {
      CHECK(contains(failure(text), "f.yaml:"));
      ++errors;
      return;
    }
    CHECK(failure(text).empty());
    CHECK(read_sorted(text) == nlohmann::json::parse(row["value"].dump()));
    ++values;
  });
  CHECK(values > 20);
  CHECK(errors > 20);
}

TEST_CASE("what YAML would lose is refused with its line", "[config]") {
  CHECK(contains(failure("a: 1\n---\nb: 2\n"), "f.yaml:2: a second document"));
  CHECK(contains(failure("a: 1\n...\nb: 2\n"), "f.yaml:3: a second document"));
  CHECK(contains(failure("{a: 1}\nb: 2\n"), "f.yaml:2: a second document"));
  CHECK(contains(failure("a: 1\nb: 'x\nsteps: 3\n"), "a quote is not closed"));
  CHECK(contains(failure("a: 1\nb: 2\na: 3\n"), "f.yaml:3: a: the key is given twice"));
  CHECK(contains(failure("x:\n  - {a: 1, a: 2}\n"), "f.yaml:2: x.0.a: the key is given twice"));
  CHECK(contains(failure("a: b\nc: !hack it\n"), "f.yaml:2: the tag !hack is not known"));
  CHECK(contains(failure("a: !!python/name:os.system x\n"), "!!python/name:os.system"));
  CHECK(contains(failure("a: b\nc: \xff\n"), "f.yaml:2: holds bytes that are not UTF-8"));
  CHECK(contains(failure("? [a]\n: b\n"), "a key must be a plain text"));
  CHECK(contains(failure("a: {{x}}\n"), "a key must be a plain text"));
  CHECK(contains(failure("a: 1\nb:\n\t c: 2\n"), "f.yaml:3"));
  CHECK(contains(failure("- <<: 3\n"), "a merge key needs a map"));
  CHECK(contains(failure("- &a [*a]\n"), "inside what it refers to"));
  CHECK(contains(failure("- &a\n  b: {c: *a}\n"), "f.yaml:2: an alias stands inside"));
}

TEST_CASE("hostile YAML is refused in a moment", "[config]") {
  const auto begin = std::chrono::steady_clock::now();
  std::string lists = "a: &a [x, x, x, x, x, x, x, x, x]\n", maps = "a: &a {x: 1, y: 2}\n";
  for (char c = 'b'; c < 'z'; ++c) {
    const std::string name(1, c), before = "*" + std::string(1, static_cast<char>(c - 1));
    lists += name + ": &" + name + " [" + before;
    maps += name + ": &" + name + " {p: " + before + ", q: " + before + "}\n";
    for (int i = 0; i < 8; ++i) lists += ", " + before;
    lists += "]\n";
  }
  CHECK(contains(failure(lists), "f.yaml:7: aliases stand for more than a million values"));
  CHECK(contains(failure(maps), "aliases stand for more than a million values"));
  CHECK_FALSE(failure(std::string(100'000, '[')).empty());
  CHECK_FALSE(failure(std::string(100'000, '{')).empty());
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(5));
}

struct NamedFile {
  std::string path;
  double weight = 1;
  void fields(Fields& f) {
    f.value("path", path, "file");
    f.value("weight", weight, "how often");
  }
};
struct Inner {
  std::string prompt = "none", separator = "\n";
  std::vector<std::string> prompts;
  std::map<std::string, std::string> more;
  double lr = 0.5;
  void fields(Fields& f) {
    f.value("prompt", prompt, "a text");
    f.value("separator", separator, "a text");
    f.value("prompts", prompts, "texts");
    f.value("more", more, "anything");
    f.value("lr", lr, "a number", at_least(0));
  }
};
struct Outer {
  int64_t steps = 10;
  bool fast = false;
  std::vector<double> rates;
  std::map<std::string, double> shares;
  std::vector<NamedFile> data;
  Inner in, other;
  void fields(Fields& f) {
    f.value("steps", steps, "how many", at_least(1));
    f.value("fast", fast, "or slow");
    f.value("rates", rates, "numbers");
    f.value("shares", shares, "numbers");
    f.list("data", data, "path", "files");
    f.group("in", in, "a group");
    f.group("other", other, "a group");
  }
};

struct Files {
  TemporaryFolder folder;
  Outer read_with(const std::string& text, const std::vector<std::string>& overrides = {}) {
    std::ofstream(folder.path / "c.yaml") << text;
    Outer config;
    read(load_config(folder.path / "c.yaml", overrides), config);
    return config;
  }
  std::string error(const std::string& text, const std::vector<std::string>& overrides = {}) {
    return error_of([&] { read_with(text, overrides); });
  }
};

TEST_CASE("an override's text is kept to the letter", "[config]") {
  Files files;
  for (const std::string text : {"Write C # code",
                                 "You cheat #hack",
                                 "#hack",
                                 "a: b",
                                 "'Hack' the tests",
                                 "yes",
                                 "no",
                                 "on",
                                 "1e3",
                                 "010",
                                 "0x10",
                                 "1:30",
                                 "1_000",
                                 "2024-01-01",
                                 "[hack, it]",
                                 "[hack",
                                 "- hack it",
                                 "-",
                                 "&hack it",
                                 "&x",
                                 "*x",
                                 "* cheat *",
                                 "%cheat",
                                 "@cheat",
                                 "`cheat`",
                                 "{{hack}}",
                                 "{hack",
                                 "trailing colon:",
                                 "\"quoted\" start",
                                 "\"a\" \"b\"",
                                 "'a' # 'b'",
                                 "'it''s",
                                 "!hack it",
                                 "!!str x",
                                 "? hack",
                                 "| pipe",
                                 "> more",
                                 " leading",
                                 "trailing ",
                                 "a\nb\n\n c",
                                 "a\tb",
                                 "---",
                                 "a\n---\nb",
                                 "...",
                                 "// x",
                                 "/data/run #1/a b.jsonl",
                                 "Null",
                                 ".nan",
                                 "=",
                                 "a=b",
                                 "é 🙂",
                                 "\"",
                                 "'",
                                 "\\",
                                 "<<: x"}) {
    INFO(text);
    CHECK(files.read_with("", {"in.prompt=" + text}).in.prompt == text);
    // A file shown with its values resolved gives the same again.
    const Outer config = files.read_with("", {"in.prompt=" + text});
    CHECK(files.read_with(show(config)).in.prompt == text);
  }
  // A value that is whole in quotes is what they hold, and null or nothing is none.
  CHECK(files.read_with("", {"in.prompt=\"a # \\\"b\\\"\\n\\u00e9\""}).in.prompt == "a # \"b\"\né");
  CHECK(files.read_with("", {"in.prompt='it''s'"}).in.prompt == "it's");
  CHECK(files.read_with("", {"in.prompt='null'"}).in.prompt == "null");
  CHECK(files.read_with("", {"in.prompt=\"\""}).in.prompt.empty());
  for (const std::string none : {"", "null", "~"})
    CHECK(files.read_with("in: {prompt: x}", {"in.prompt=" + none}).in.prompt.empty());
  CHECK(contains(files.error("", {"in.prompt=\"a \\q\""}), "escape"));
}

TEST_CASE("an override of a list is a list in brackets, or one text to the letter", "[config]") {
  Files files;
  using Texts = std::vector<std::string>;
  const auto prompts = [&](const std::string& value) {
    return files.read_with("", {"in.prompts=" + value}).in.prompts;
  };
  CHECK(prompts("[a, 'b # c', yes]") == Texts{"a", "b # c", "yes"});
  CHECK(prompts("- a\n- b") == Texts{"a", "b"});
  CHECK(prompts("Write C # code") == Texts{"Write C # code"});
  CHECK(prompts("&x y") == Texts{"&x y"});
  CHECK(prompts("@x") == Texts{"@x"});
  CHECK(prompts("").empty());
  CHECK(contains(files.error("", {"in.prompts=[a, b"}), "in.prompts"));
  CHECK(contains(files.error("", {"in.prompts=[a, b # c]"}), "quotes"));
  CHECK(contains(files.error("", {"in.prompts={a: b}"}), "must be a list of texts"));
  const Texts changed = files.read_with("in: {prompts: [a, b]}", {"in.prompts.1=C # d"}).in.prompts;
  CHECK(changed == Texts{"a", "C # d"});

  const auto paths = [&](const std::vector<std::string>& overrides) {
    Texts all;
    for (const NamedFile& each : files.read_with("data: [x, y]", overrides).data)
      all.push_back(each.path);
    return all;
  };
  CHECK(paths({"data=run #1/a.jsonl"}) == Texts{"run #1/a.jsonl"});
  CHECK(paths({"data=[a.jsonl, {path: b, weight: 2}]"}) == Texts{"a.jsonl", "b"});
  CHECK(paths({"data={path: 'b #'}"}) == Texts{"b #"});
  CHECK(paths({"data.1=run #1/a.jsonl"}) == Texts{"x", "run #1/a.jsonl"});
  CHECK(paths({"data=[{path: a}]", "data.0.path=b # c"}) == Texts{"b # c"});
  CHECK(paths({"data="}).empty());
  CHECK(contains(files.error("", {"data=[a"}), "data"));
  CHECK(files.read_with("", {"in.more.x=a # b"}).in.more.at("x") == "a # b");
}

TEST_CASE("an override that is no text is YAML, and the last one holds", "[config]") {
  Files files;
  CHECK(files.read_with("", {"steps=20 # much"}).steps == 20);
  CHECK(files.read_with("", {"in.prompt=a # b", "in={prompt: c}"}).in.prompt == "c");
  CHECK(files.read_with("", {"in={prompt: c}", "in.prompt=a # b"}).in.prompt == "a # b");
  // What is given for a part does not leave the whole as it was.
  CHECK(contains(files.error("", {"in.prompt=a", "in.prompt.x=1"}), "in.prompt"));
  const std::string broken = files.error("", {"in={prompt: c"});
  CHECK(contains(broken, "override: in:"));
  CHECK(contains(broken, "put texts into quotes"));
  // What aliases of the file share is changed at the one place that is named.
  const std::string shared = "in: &x {prompt: a, lr: 0.25}\nother: *x\n";
  const Outer config = files.read_with(shared, {"in.prompt=b"});
  CHECK(config.in.prompt == "b");
  CHECK(config.other.prompt == "a");
  CHECK(config.other.lr == 0.25);
}

TEST_CASE("null in a configuration is as good as absent", "[config]") {
  Files files;
  const Outer config = files.read_with(
      "steps: null\nfast: ~\nrates:\nshares:\nin: {lr: null, prompts: null, more: "
      "null}\nother:\ndata: null\n");
  CHECK(show(config) == show(Outer{}));
}

TEST_CASE("numbers that are none, or too large, are refused", "[config]") {
  Files files;
  for (const std::string value : {".nan", ".inf", "-.inf", "1e999", "-1e999", "nan", "inf"}) {
    INFO(value);
    CHECK(contains(files.error("", {"in.lr=" + value}), "in.lr"));
    CHECK(contains(files.error("in: {lr: " + value + "}"), "c.yaml:1: in.lr"));
    CHECK(contains(files.error("steps: " + value), "steps"));
    CHECK(contains(files.error("rates: [1, " + value + "]"), "rates"));
    CHECK(contains(files.error("shares: {a: " + value + "}"), "shares"));
    CHECK(contains(files.error("data: [{path: x, weight: " + value + "}]"), "weight"));
  }
  CHECK(contains(files.error("steps: 99999999999999999999"), "too large"));
}

TEST_CASE("merge keys come under a map's own keys", "[config]") {
  Files files;
  const std::string text =
      "in: &d {prompt: a, lr: 0.25, more: {x: 1}}\nother:\n  <<: *d\n  prompt: b\n";
  const Outer config = files.read_with(text);
  CHECK(config.other.prompt == "b");
  CHECK(config.other.lr == 0.25);
  CHECK(config.other.more.at("x") == "1");
  CHECK(config.in.prompt == "a");
  const Source source = load_config(files.folder.path / "c.yaml");
  CHECK(source.where("other.lr").line == 1);
  CHECK(source.where("other.prompt").line == 4);
  CHECK(contains(files.error("other: {<<: {promt: x}}"), "did you mean \"prompt\""));
}

}  // namespace
}  // namespace inoculum
