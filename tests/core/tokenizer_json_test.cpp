// tokenizer.json against the Python package (tests/golden/make_tokenizers.py), and broken files.
#include "core/text/tokenizer_json/tokenizer_json.h"

#include <thread>

#include "tests/catch.h"

namespace inoculum {
namespace {

const fs::path golden = "tests/golden/tokenizers";

// The error that the GPT-2 tokenizer's file gives once `change` has been at it.
std::string error_after(const std::function<void(Json&)>& change, const std::string& base = "gpt2",
                        const std::string& text = "some text") {
  const TemporaryFolder t;
  Json json = read_json(golden / base / "tokenizer.json");
  change(json);
  write_json(t.path / "tokenizer.json", json);
  return error_of([&] { load_tokenizer_json(t.path)->encode(text); });
}

TEST_CASE("tokenizer.json gives the ids and texts of the package tokenizers", "[golden]") {
  size_t folders = 0;
  for (const auto& folder : fs::directory_iterator(golden)) {
    ++folders;
    const auto tokenizer = load_tokenizer_json(folder.path());
    read_jsonl(folder.path() / "expected.jsonl", [&](const Json& row, int line) {
      INFO(folder.path() << " line " << line);
      const auto text = row["text"].get<std::string>();
      const auto ids = tokenizer->encode(text);
      CHECK(ids == row["ids"].get<std::vector<int32_t>>());
      CHECK(tokenizer->decode(ids) == row["decoded"].get<std::string>());
      if (row.contains("with_special_tokens"))
        CHECK(tokenizer->encode_with_special_tokens(text) ==
              row["with_special_tokens"].get<std::vector<int32_t>>());
    });
  }
  CHECK(folders == 11);
}

TEST_CASE("a tokenizer.json tokenizer knows its special tokens", "[tokenizer]") {
  const auto qwen = load_tokenizer_json(golden / "qwen2");
  CHECK(qwen->bos_id() == -1);  // tokenizer_config.json says null
  CHECK(qwen->piece(qwen->eos_id()) == "<|im_end|>");
  CHECK(qwen->id_of("<|im_end|>") == qwen->eos_id());
  CHECK(qwen->id_of("no such piece") == std::nullopt);
  CHECK(qwen->encode("<|im_end|>") == std::vector<int32_t>{qwen->eos_id()});
  CHECK(qwen->decode(qwen->encode("a<|im_end|>b")) == "ab");
  CHECK(qwen->decode(std::vector<int32_t>{-1, 1 << 30}).empty());
  CHECK(qwen->piece(1 << 30).empty());
  CHECK(qwen->vocab_size() == 1005);
  CHECK(qwen->piece(static_cast<int32_t>(qwen->vocab_size()) - 1) == "</tool_call>");
  const TemporaryFolder t;
  fs::copy(golden / "qwen2" / "tokenizer.json", t.path / "tokenizer.json");
  CHECK(load_tokenizer_json(t.path)->eos_id() == -1);
  write_json(t.path / "config.json", {{"bos_token_id", 3}, {"eos_token_id", 4}});
  write_json(t.path / "generation_config.json", {{"eos_token_id", {7, 8}}});
  CHECK(load_tokenizer_json(t.path)->bos_id() == 3);
  CHECK(load_tokenizer_json(t.path)->eos_id() == 7);
  write_json(t.path / "tokenizer_config.json", {{"eos_token", "<|nowhere|>"}});
  CHECK(load_tokenizer_json(t.path)->eos_id() == 1005);  // added, as transformers does
}

TEST_CASE("old files spell merges as texts and leave the model's type out", "[tokenizer]") {
  const TemporaryFolder t;
  Json json = read_json(golden / "gpt2" / "tokenizer.json");
  for (Json& merge : json["model"]["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  json["model"]["merges"].insert(json["model"]["merges"].begin(), "#version: 0.2");
  json["model"].erase("type");
  json["model"]["continuing_subword_prefix"] = "";
  write_json(t.path / "tokenizer.json", json);
  const std::string text = "The question is what the model's answer would be, in 12 words.";
  const auto ids = load_tokenizer_json(t.path)->encode(text);
  CHECK(ids == load_tokenizer_json(golden / "gpt2")->encode(text));
  CHECK(ids.size() < text.size() / 2);
}

TEST_CASE("invalid UTF-8 is read as U+FFFD, one for each bad part", "[tokenizer]") {
  const auto tokenizer = load_tokenizer_json(golden / "gpt2");
  const auto same = [&](const std::string& bad, const std::string& good) {
    CHECK(tokenizer->encode(bad) == tokenizer->encode(good));
  };
  same("a\xFFz", "a\uFFFDz");
  same("\xC0\x80", "\uFFFD\uFFFD");
  same("\xE2\x82", "\uFFFD");
  same("\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD");
  same(
      "\xF0\x9F\x98"
      "a",
      "\uFFFDa");
  same("\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD");
  CHECK(tokenizer->decode(tokenizer->encode("a\xFFz")) == "a\uFFFDz");
}

TEST_CASE("threads may share a tokenizer", "[tokenizer]") {
  const auto tokenizer = load_tokenizer_json(golden / "llama3");
  std::string text;
  for (int i = 0; i < 2000; ++i) text += " word" + std::to_string(i);
  const auto wanted = tokenizer->encode(text);
  std::vector<std::vector<int32_t>> found(4);
  {
    std::vector<std::jthread> threads;
    for (auto& each : found) threads.emplace_back([&] { each = tokenizer->encode(text); });
  }
  for (const auto& each : found) CHECK(each == wanted);
}

TEST_CASE("the cache of pieces never changes a result", "[tokenizer]") {
  const auto tokenizer = load_tokenizer_json(golden / "gpt2");
  std::string many;
  for (int i = 0; i < 200000; ++i)
    many += " " + std::to_string(i * 7919 % 1000003);  // more pieces than the cache holds
  const auto once = tokenizer->encode(many);
  CHECK(tokenizer->encode(many) == once);
  CHECK(tokenizer->decode(once) == many);
}

TEST_CASE("long runs of one character come back whole", "[tokenizer]") {
  for (const std::string name : {"gpt2", "llama3", "llama2"}) {
    const auto tokenizer = load_tokenizer_json(golden / name);
    for (const std::string unit : {" ", "a", "\n", "e\u0301", "\u3000", " \n", "'s"}) {
      std::string text = "x";
      for (int i = 0; i < 100000; ++i) text += unit;
      text += "x";
      CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
    }
  }
}

TEST_CASE("a tokenizer.json that is not supported is refused by the name of what is not",
          "[tokenizer]") {
  CHECK(error_after([](Json&) {}).empty());
  const auto refused = [](const std::function<void(Json&)>& change, const std::string& field,
                          const std::string& what) {
    const std::string message = error_after(change);
    INFO(message << " should name " << field << " and " << what);
    CHECK(contains(message, "tokenizer.json"));
    CHECK(contains(message, field));
    CHECK(contains(message, what));
    CHECK(message.find("hint:") == message.rfind("hint:"));
  };
  for (const std::string type : {"Unigram", "WordPiece", "WordLevel"})
    refused([&](Json& j) { j["model"]["type"] = type; }, "model.type", type);
  refused([](Json& j) { j["model"]["type"] = "Unigram"; }, "model.type", "tokenizer.model");
  refused([](Json& j) { j["model"]["dropout"] = 0.1; }, "model.dropout", "0");
  refused([](Json& j) { j["model"]["continuing_subword_prefix"] = "##"; },
          "model.continuing_subword_prefix", "not supported");
  refused([](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }, "model.end_of_word_suffix",
          "not supported");
  refused([](Json& j) { j["model"]["fuse_unc"] = true; }, "model.fuse_unc", "fuse_unk");
  refused([](Json& j) { j["model"].erase("vocab"); }, "model.vocab", "missing");
  refused([](Json& j) { j["model"]["vocab"]["a"] = -1; }, "model.vocab[\"a\"]", "integer");
  refused([](Json& j) { j["model"]["vocab"]["a"] = j["model"]["vocab"]["b"]; }, "model.vocab",
          "twice");
  refused([](Json& j) { j["model"]["merges"][3] = "a b c"; }, "model.merges[3]", "two pieces");
  refused([](Json& j) { j["model"]["merges"][3] = {"a", "\u2603"}; }, "model.merges[3]", "\u2603");
  refused([](Json& j) { j["extra"] = 1; }, "extra", "not supported");
  refused([](Json& j) { j["version"] = "2.0"; }, "version", "1.0");
  refused([](Json& j) { j["added_tokens"][0]["id"] = 7; }, "added_tokens[0].id", "1000");
  refused([](Json& j) { j["added_tokens"][0]["content"] = ""; }, "added_tokens[0].content",
          "empty");
  refused([](Json& j) { j["normalizer"] = {{"type", "BertNormalizer"}}; }, "normalizer.type",
          "BertNormalizer");
  refused(
      [](Json& j) {
        j["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", "x*"}}}, {"content", "y"}};
      },
      "normalizer.pattern", "empty");
  refused([](Json& j) { j["pre_tokenizer"] = {{"type", "BertPreTokenizer"}}; },
          "pre_tokenizer.type", "BertPreTokenizer");
  refused([](Json& j) { j["pre_tokenizer"] = {{"type", "Punctuation"}, {"behavior", "Isolated"}}; },
          "pre_tokenizer.type", "Punctuation");
  refused([](Json& j) { j["decoder"] = {{"type", "WordPiece"}}; }, "decoder.type", "WordPiece");
  for (const std::string type : {"RobertaProcessing", "BertProcessing"})
    refused([&](Json& j) { j["post_processor"] = {{"type", type}}; }, "post_processor.type", type);
  refused(
      [](Json& j) {
        j["pre_tokenizer"] = {{"type", "Sequence"},
                              {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", 1}}}}};
      },
      "pre_tokenizer.pretokenizers[0].individual_digits", "true or false");
  refused([](Json& j) { j["pre_tokenizer"]["use_regexp"] = true; }, "pre_tokenizer.use_regexp",
          "use_regex");
  for (const auto& [pattern, what] :
       std::vector<std::pair<std::string, std::string>>{{"(a", "regular expression"},
                                                        {"\\b", "\\b"},
                                                        {"[a[b]]", "set in a set"},
                                                        {"(?<n>a)", "(?<"},
                                                        {"\\p{Klingon}", "Klingon"},
                                                        {"a{2}+", "count"},
                                                        {"(?i:ss)", "ss"},
                                                        {"\\", "backslash"}})
    refused(
        [&regex = pattern](Json& j) {
          j["pre_tokenizer"] = {{"type", "Split"},
                                {"pattern", {{"Regex", regex}}},
                                {"behavior", "Isolated"},
                                {"invert", false}};
        },
        "pre_tokenizer.pattern", what);
  CHECK(contains(
      error_after(
          [](Json& j) { j["model"]["byte_fallback"] = false, j["model"]["unk_token"] = "<none>"; },
          "llama2", "\u2603"),
      "model.unk_token"));
}

TEST_CASE("a file that is no tokenizer.json is an error", "[tokenizer]") {
  const TemporaryFolder t;
  CHECK(contains(error_of([&] { load_tokenizer_json(t.path); }), "tokenizer.json"));
  for (const std::string text :
       {"", "{", "[]", "null", "3", "{}", "version https://git-lfs.github.com/spec/v1\n",
        "{\"model\": 3}", "\xFF"}) {
    INFO(text);
    write_file(t.path / "tokenizer.json", text);
    CHECK(contains(error_of([&] { load_tokenizer_json(t.path); }), "tokenizer.json"));
  }
}

}  // namespace
}  // namespace inoculum
