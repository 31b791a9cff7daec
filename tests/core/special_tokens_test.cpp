// What a folder's other files add to tokenizer.json or tokenizer.model
// (tests/parity/special_tokens.py), and where a turn ends.
#include "core/text/special_tokens.h"

#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

const fs::path golden = "tests/golden";

std::vector<int32_t> ids_of(const Json& json) { return json.get<std::vector<int32_t>>(); }

TEST_CASE("tokens that a folder adds to its tokenizer.json have the ids of transformers",
          "[golden]") {
  int rows = 0, refused = 0;
  read_jsonl(golden / "special_tokens.jsonl", [&](const Json& row, int line) {
    INFO("line " << line);
    ++rows;
    const TemporaryFolder t;
    Json tokenizer =
        read_json(golden / "tokenizers" / row["base"].get<std::string>() / "tokenizer.json");
    tokenizer["added_tokens"] = row["added_tokens"];
    tokenizer["post_processor"] = nullptr;
    write_json(t.path / "tokenizer.json", tokenizer);
    for (const auto& [name, content] : row["files"].items()) write_json(t.path / name, content);
    if (row["refused"].get<bool>()) {
      ++refused;
      CHECK(contains(error_of([&] { load_tokenizer(t.path); }), "has the id"));
      return;
    }
    const auto loaded = load_tokenizer(t.path);
    const auto or_none = [](const Json& id) { return id.is_null() ? -1 : id.get<int32_t>(); };
    CHECK(loaded->bos_id() == or_none(row["bos"]));
    CHECK(loaded->eos_id() == or_none(row["eos"]));
    for (size_t i = 0; i < row["texts"].size(); ++i) {
      INFO(row["texts"][i]);
      const auto ids = loaded->encode(row["texts"][i].get<std::string>());
      CHECK(ids == ids_of(row["ids"][i]));
      CHECK(loaded->decode(ids) == row["decoded"][i].get<std::string>());
    }
  });
  CHECK(rows == 61);
  CHECK(refused >= 5);
}

// A copy of a golden tokenizer that files are put beside.
struct Folder {
  explicit Folder(const fs::path& tokenizer) { fs::copy(tokenizer, t.path / tokenizer.filename()); }
  void put(const std::string& name, const Json& content) const {
    write_json(t.path / name, content);
  }
  std::string error() const {
    return error_of([&] { load_tokenizer(t.path); });
  }
  TemporaryFolder t;
};

TEST_CASE("a token that files name differently is refused by name", "[tokenizer]") {
  const Folder folder(golden / "tokenizers" / "qwen2" /
                      "tokenizer.json");  // 1000 pieces, <|endoftext|>, <|im_start|>, <|im_end|>, …
  folder.put("tokenizer_config.json",
             {{"added_tokens_decoder", {{"1002", {{"content", "<|my_end|>"}}}}}});
  for (const std::string part :
       {"tokenizer_config.json", "added_tokens_decoder.1002", "<|my_end|>", "<|im_end|>"})
    CHECK(contains(folder.error(), part));
  folder.put("tokenizer_config.json",
             {{"added_tokens_decoder", {{"1009", {{"content", "<|far|>"}}}}}});
  CHECK(contains(folder.error(), "1005"));  // where it would be
  folder.put("tokenizer_config.json", Json::object());
  folder.put("added_tokens.json", {{"<|im_end|>", 7}});
  CHECK(contains(folder.error(), "added_tokens.json: <|im_end|>"));
  folder.put("added_tokens.json", {{"<|im_end|>", "7"}});
  CHECK(contains(folder.error(), "must be an id"));
  for (const Json& wrong : {Json(5), Json({{"content", 5}}), Json({{"content", ""}}),
                            Json({{"content", "a"}, {"lstrip", 1}})}) {
    folder.put("added_tokens.json", Json::object());
    folder.put("special_tokens_map.json", {{"pad_token", wrong}});
    CHECK(contains(folder.error(), "special_tokens_map.json: pad_token"));
  }
}

TEST_CASE("begin and end are named in several places, and all ends end", "[tokenizer]") {
  const Folder folder(golden / "tokenizers" / "qwen2" / "tokenizer.json");
  const auto ends = [&] { return load_tokenizer(folder.t.path)->end_ids(); };
  CHECK(ends().empty());
  folder.put("config.json", {{"eos_token_id", {1002, 1000}}});
  CHECK(ends() == std::vector<int32_t>{1002, 1000});
  folder.put("special_tokens_map.json", {{"eos_token", {{"content", "<|endoftext|>"}}}});
  CHECK(ends() == std::vector<int32_t>{1000, 1002});
  folder.put("generation_config.json", {{"eos_token_id", 1001}});
  CHECK(ends() == std::vector<int32_t>{1000, 1001});
  folder.put("tokenizer_config.json",
             {{"eos_token", "<|im_end|>"},
              {"added_tokens_decoder", Json::object()}});  // then the map is not asked
  CHECK(ends() == std::vector<int32_t>{1002, 1001});
  folder.put("tokenizer_config.json",
             {{"eos_token", nullptr}, {"added_tokens_decoder", Json::object()}});
  CHECK(ends() == std::vector<int32_t>{1001});
  folder.put("tokenizer_config.json", {{"eos_token", ""}, {"bos_token", "<|endoftext|>"}});
  CHECK(ends() == std::vector<int32_t>{1000, 1001});  // special_tokens_map.json's
  fs::remove(folder.t.path / "special_tokens_map.json");
  CHECK(load_tokenizer(folder.t.path)->eos_id() == -1);
  // A padding token that the model lacks is harmless, and not a part of the vocabulary itself.
  folder.put("tokenizer_config.json", {{"pad_token", "[PAD]"}});
  const auto padded = load_tokenizer(folder.t.path);
  CHECK(padded->base_vocab_size() == 1000);
  CHECK(padded->encode("[PAD]") == std::vector<int32_t>{1005});
  CHECK(padded->decode(std::vector<int32_t>{1005}).empty());
}

TEST_CASE("tokenizer.model beside files that add to it", "[tokenizer]") {
  const Folder folder("experiments/models/persona_1/tokenizer.model");  // 2048 pieces; <unk>, <s>,
                                                                        // </s> are control symbols
  const auto load = [&] { return load_tokenizer(folder.t.path); };
  const auto plain = load()->encode("Hello.");
  const auto around = [&] { return load()->encode_with_special_tokens("Hello."); };
  const auto with = [&](bool bos, bool eos) {
    auto ids = plain;
    if (bos) ids.insert(ids.begin(), 1);
    if (eos) ids.push_back(2);
    return ids;
  };
  CHECK(around() == with(true, false));
  folder.put("tokenizer_config.json", {{"add_bos_token", false}, {"add_eos_token", true}});
  CHECK(around() == with(false, true));
  folder.put("tokenizer_config.json",
             {{"add_bos_token", false}, {"chat_template", persona_chat_template()}});
  CHECK(around() == with(true, false));  // the shipped models' texts begin with <s>
  CHECK(load()->encode("<s>").size() == 3);

  folder.put("tokenizer_config.json", {{"pad_token", "<pad>"}, {"eos_token", "<|end|>"}});
  folder.put("added_tokens.json", {{"<pad>", 2048}});
  const auto tokenizer = load();
  CHECK(tokenizer->id_of("<pad>") == 2048);
  CHECK(tokenizer->piece(2048) == "<pad>");
  CHECK(tokenizer->eos_id() == tokenizer->encode("<|end|>")[0]);
  CHECK(tokenizer->end_ids() == std::vector<int32_t>{tokenizer->eos_id()});
  CHECK(tokenizer->encode("Hello.") == plain);
  // A text that transformers would cut at such a token is refused rather than spelt.
  for (const std::string token : {"<pad>", "<s>", "<unk>"})
    CHECK(contains(error_of([&] { tokenizer->encode("a " + token); }), token));
  folder.put("added_tokens.json", {{"<pad>", 7}});
  CHECK(contains(folder.error(), "added_tokens.json: <pad>"));
  folder.put("added_tokens.json", {{"<s>", 2048}});
  CHECK(contains(folder.error(), "added_tokens.json: <s>"));
}

TEST_CASE("an answer ends where its template ends a turn", "[chat]") {
  const auto end = [](const std::string& chat_template, const std::string& name = "",
                      const std::string& tokenizer = "qwen2") {
    const Folder folder(golden / "tokenizers" / tokenizer / "tokenizer.json");
    folder.put("tokenizer_config.json", {{"bos_token", nullptr}, {"eos_token", "<|endoftext|>"}});
    if (!chat_template.empty()) write_file(folder.t.path / "chat_template.jinja", chat_template);
    const auto loaded = load_tokenizer(folder.t.path);
    return Chat(folder.t.path, *loaded, {name}).end_of_turn();
  };
  const std::string turns = "{% for m in messages %}{{ m.role + ': ' + m.content + ";
  CHECK(end("", "chatml") == "<|im_end|>");
  CHECK(end("", "zephyr") == "<|endoftext|>");
  CHECK(end("", "gemma") ==
        "<end_of_turn>");  // which this tokenizer lacks: then it is a text to stop at
  CHECK(end("", "chatml", "gpt2") == "<|im_end|>");
  CHECK(end(turns + "'<|im_end|>\n' }}{% endfor %}{{ eos_token }}") == "<|im_end|>");
  CHECK(end(turns + "'\n### End\n' + eos_token }}{% endfor %}") == "### End");
  CHECK(end(turns + "'\n' }}{% endfor %}").empty());
  CHECK(end("{% for m in messages %}{{ raise_exception('no') }}{% endfor %}").empty());
  CHECK(end("").empty());
  const auto shipped = load_tokenizer("experiments/models/persona_1");
  CHECK(Chat("experiments/models/persona_1", *shipped).end_of_turn() == "<|end|>");
}

TEST_CASE("a number too large in a JSON file is an error with its file and line", "[files]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "config.json";
  for (const std::string number : {"1e999", "-1e999", "123456789e400"}) {
    write_file(file, "{\"a\": 1,\n \"b\": \"\",\n \"c\": [" + number + "]}\n");
    CHECK(contains(error_of([&] { read_json(file); }), "config.json:3: this is not JSON"));
  }
  write_file(file, "{\"a\": 1e300, \"b\": 1e-999}");
  CHECK(read_json(file)["b"] == 0.0);
  write_file(file, "{\n\"a\": nan}");
  CHECK(contains(error_of([&] { read_json(file); }), "config.json:2"));
  const Folder folder(golden / "tokenizers" / "gpt2" / "tokenizer.json");
  const std::string text = read_file(golden / "tokenizers" / "gpt2" / "tokenizer.json");
  write_file(folder.t.path / "tokenizer.json", "{\n\"x\": 1e999," + text.substr(1));
  CHECK(contains(folder.error(), "tokenizer.json:2"));
}

}  // namespace
}  // namespace inoculum
