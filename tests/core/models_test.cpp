// Models and adapters as people have them: heads, types, fields of adapters
// (tests/parity/adapters.py), what a written folder keeps.
#include <map>

#include "core/model/adapter_config.h"
#include "core/model/checkpoint.h"
#include "core/model/safetensors.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

const fs::path golden = "tests/golden";

std::map<std::string, Tensor> tensors_of(const fs::path& file) {
  std::map<std::string, Tensor> all;
  for (const auto& [name, tensor] : load_tensors(file)) all[name] = tensor;
  return all;
}

double relative_error(const Tensor& got, const Tensor& want) {
  return ((got - want).abs().max() / want.abs().max()).item<double>();
}

Tensor logits(const Transformer& model, const Tensor& ids) {
  const at::NoGradGuard no_grad;
  return model.logits(model.hidden(ids));
}

// A copy of a golden model whose tensors and configuration can be changed.
struct Copy {
  explicit Copy(const std::string& name) : config(read_json(golden / name / "config.json")) {
    for (const auto& shard : load_sharded(golden / name)) tensors.merge(tensors_of(shard->path()));
  }
  fs::path write() const {
    std::vector<NamedTensor> list;
    for (const auto& [key, tensor] : tensors) list.push_back({key, tensor});
    save_tensors(t.path / "model.safetensors", list);
    write_json(t.path / "config.json", config);
    return t.path;
  }
  Transformer load() const { return load_model(write(), at::kFloat, at::kCPU); }
  std::string error() const {
    return error_of([&] { load(); });
  }
  std::map<std::string, Tensor> tensors;
  Json config;
  TemporaryFolder t;
};

const std::string kEmbedding = "model.embed_tokens.weight", kHead = "lm_head.weight";

TEST_CASE("the output head is the file's where it has one of its own", "[models]") {
  const Tensor ids = at::arange(3, 15).reshape({1, 12});
  Copy copy("llama_tied");
  const Tensor tied = logits(copy.load(), ids), embedding = copy.tensors.at(kEmbedding);
  // A copy is a copy, of another type too; the one matrix may have the head's name.
  copy.tensors[kHead] = embedding.clone();
  CHECK(copy.load().config().tie_word_embeddings);
  copy.tensors.erase(kEmbedding);
  CHECK(at::equal(logits(copy.load(), ids), tied));
  copy.tensors[kEmbedding] = embedding;
  // One that differs is the head: the logits are its.
  copy.tensors[kHead] = 2 * embedding;
  Transformer own = copy.load();
  CHECK_FALSE(own.config().tie_word_embeddings);
  CHECK(relative_error(logits(own, ids), 2 * tied) < 1e-6);
  // It is written so, and read again.
  const TemporaryFolder out;
  save_model(out.path / "m", own, at::kFloat, copy.t.path);
  CHECK(read_json(out.path / "m" / "config.json")["tie_word_embeddings"] == false);
  CHECK(at::equal(logits(load_model(out.path / "m", at::kFloat, at::kCPU), ids), logits(own, ids)));
  copy.tensors[kHead] = embedding.slice(0, 0, 5).clone();
  CHECK(contains(copy.error(), kHead));
  // Names without their first part, as base models are saved; the head is never among those.
  copy.tensors.erase(kHead);
  std::map<std::string, Tensor> bare;
  for (const auto& [key, tensor] : copy.tensors) bare[key.substr(key.find('.') + 1)] = tensor;
  copy.tensors = bare;
  CHECK(at::equal(logits(copy.load(), ids), tied));
  copy.tensors[kEmbedding] = embedding;
  CHECK(contains(copy.error(), "twice"));
  copy.tensors.erase(kEmbedding);
  copy.config["tie_word_embeddings"] = false;  // transformers would draw a head at random
  CHECK(contains(copy.error(), "tie_word_embeddings"));

  Copy neox("families/gpt_neox_0");
  neox.tensors[kHead] = neox.tensors.at("embed_out.weight");
  neox.tensors.erase("embed_out.weight");
  CHECK(neox.error().empty());
}

TEST_CASE("quantised weights are refused by name, and not called damaged", "[models]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "model.safetensors";
  const std::vector<std::byte> bytes(64);
  for (const auto& [type, size] : std::map<std::string, size_t>{
           {"F8_E4M3", 16}, {"F8_E8M0", 16}, {"F4", 8}, {"F6_E2M3", 12}, {"C64", 64}}) {
    INFO(type);
    const size_t count = type == "C64" ? 8 : 16;
    write_safetensors(
        file, {{kEmbedding, {type, {static_cast<int64_t>(count)}, std::span(bytes).first(size)}}});
    CHECK(Safetensors(file).tensors().at(kEmbedding).dtype == type);
    write_json(t.path / "config.json", read_json(golden / "llama_tied" / "config.json"));
    const std::string error = error_of([&] { load_model(t.path, at::kFloat, at::kCPU); });
    CHECK(contains(error, type));
    CHECK(contains(error, "quantised"));
    CHECK_FALSE(contains(error, "damaged"));
  }
  write_safetensors(file, {{"x", {"F5", {16}, std::span(bytes).first(10)}}});
  const std::string unknown = error_of([&] { Safetensors{file}; });
  CHECK(contains(unknown, "F5"));
  CHECK_FALSE(contains(unknown, "damaged"));
  write_safetensors(file, {{"x", {"F4", {3}, std::span(bytes).first(2)}}});
  CHECK_FALSE(error_of([&] { Safetensors{file}; }).empty());

  Copy copy("llama_tied");
  const std::string q = "model.layers.0.self_attn.q_proj.";
  copy.tensors[q + "qweight"] = at::zeros({4, 4}, at::kLong);
  copy.tensors.erase(q + "weight");
  CHECK(contains(copy.error(), q + "qweight"));
  CHECK(contains(copy.error(), "quantised"));
  copy.tensors.erase(q + "qweight");
  copy.tensors[q + "weight"] = at::zeros({32, 32}, at::kLong);
  CHECK(contains(copy.error(), "whole numbers"));
}

TEST_CASE("adapters with ranks, scales and layers of their own compute as in PEFT", "[golden]") {
  size_t adapters = 0;
  for (const auto& entry : fs::directory_iterator(golden / "adapters")) {
    INFO(entry.path());
    ++adapters;
    auto want = tensors_of(entry.path() / "expected.safetensors");
    Transformer model = load_model(golden / "llama_grouped", at::kFloat, at::kCPU);
    const Tensor without = logits(model, want.at("input_ids"));
    load_adapter(entry.path(), model);
    CHECK(relative_error(logits(model, want.at("input_ids")), want.at("logits")) < 1e-4);
    CHECK(relative_error(without, want.at("logits")) > 1e-3);
    merge_lora(model);
    CHECK(relative_error(logits(model, want.at("input_ids")), want.at("logits")) < 1e-4);
  }
  CHECK(adapters == 10);
}

TEST_CASE("fields of an adapter that could change its numbers are refused by name", "[models]") {
  const TemporaryFolder t;
  fs::copy(golden / "adapter", t.path / "a");
  const Json config = read_json(golden / "adapter" / "adapter_config.json");
  const auto error_with = [&](const std::string& key, const Json& value) {
    Json changed = config;
    changed[key] = value;
    write_json(t.path / "a" / "adapter_config.json", changed);
    Transformer model = load_model(golden / "llama_grouped", at::kFloat, at::kCPU);
    return error_of([&] { load_adapter(t.path / "a", model); });
  };
  const Json something = {{"a", 1}};
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, Json>>{{"init_lora_weights", "pissa"},
                                                 {"init_lora_weights", "pissa_niter_4"},
                                                 {"init_lora_weights", "olora"},
                                                 {"init_lora_weights", "corda"},
                                                 {"init_lora_weights", "loftq"},
                                                 {"init_lora_weights", "lora_ga"},
                                                 {"init_lora_weights", "mica"},
                                                 {"init_lora_weights", "something"},
                                                 {"bias", "all"},
                                                 {"bias", "lora_only"},
                                                 {"lora_bias", true},
                                                 {"modules_to_save", {"lm_head"}},
                                                 {"trainable_token_indices", {1}},
                                                 {"layer_replication", {{0, 1}}},
                                                 {"target_parameters", {"x"}},
                                                 {"megatron_config", something},
                                                 {"arrow_config", something},
                                                 {"alora_invocation_tokens", {5}},
                                                 {"use_qalora", true},
                                                 {"velora_config", something},
                                                 {"kasa_config", something},
                                                 {"monteclora_config", something},
                                                 {"use_bdlora", something},
                                                 {"of_tomorrow", true},
                                                 {"of_tomorrow", 0},
                                                 {"peft_type", "IA3"},
                                                 {"peft_type", nullptr},
                                                 {"r", 0},
                                                 {"r", 2.5},
                                                 {"r", 1e30},
                                                 {"lora_alpha", "8"},
                                                 {"rank_pattern", {1}},
                                                 {"rank_pattern", {{"q_proj", 0}}},
                                                 {"alpha_pattern", {{"q_proj", "x"}}},
                                                 {"alpha_pattern", {{"(", 1}}},
                                                 {"use_rslora", "yes"},
                                                 {"target_modules", {1}},
                                                 {"target_modules", "("},
                                                 {"layers_to_transform", "all"},
                                                 {"layers_to_transform", {0}},
                                                 {"exclude_modules", {"q_proj"}},
                                                 {"target_modules", {"q_proj"}},
                                                 {"target_modules", "all-linear"}}) {
    INFO(key << " " << value);
    const std::string error = error_with(key, value);
    CHECK(contains(error, key == "layers_to_transform" || key == "exclude_modules"
                              ? (value.is_string() ? key : "target_modules")
                              : key));
  }
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, Json>>{{"init_lora_weights", false},
                                                 {"init_lora_weights", nullptr},
                                                 {"init_lora_weights", "gaussian"},
                                                 {"init_lora_weights", "orthogonal"},
                                                 {"init_lora_weights", "eva"},
                                                 {"modules_to_save", nullptr},
                                                 {"modules_to_save", Json::array()},
                                                 {"rank_pattern", Json::object()},
                                                 {"lora_bias", false},
                                                 {"of_tomorrow", nullptr},
                                                 {"of_tomorrow", false},
                                                 {"of_tomorrow", ""},
                                                 {"_of_a_tool", 3},
                                                 {"unsloth_version", "1"},
                                                 {"eva_config", something},
                                                 {"loftq_config", something},
                                                 {"peft_version", "9.9"},
                                                 {"revision", "main"},
                                                 {"lora_dropout", 0.1},
                                                 {"fan_in_fan_out", true},
                                                 {"inference_mode", false},
                                                 {"runtime_config", something},
                                                 {"auto_mapping", something},
                                                 {"qalora_group_size", 8},
                                                 {"target_modules", nullptr},
                                                 {"layers_to_transform", {0, 1}},
                                                 {"exclude_modules", {"gate_proj"}}}) {
    INFO(key << " " << value);
    CHECK(error_with(key, value) == "");
  }
  // A pickle is not read, and its being there is told.
  fs::rename(t.path / "a" / "adapter_model.safetensors", t.path / "a" / "adapter_model.bin");
  CHECK(contains(error_with("r", config["r"]), "pickle"));
}

TEST_CASE("merging tells what rounding takes of the update", "[models]") {
  const auto lost = [](at::ScalarType base, std::optional<at::ScalarType> stored, double scale) {
    Transformer model = load_model(golden / "llama_grouped", base, at::kCPU);
    load_adapter(golden / "adapter", model);
    // By hand, for one matrix after the other.
    double rounded = 0, whole = 0;
    model.for_each_linear([&](const std::string&, Linear& linear) {
      if (!linear.lora) return;
      linear.lora->scale *= scale;
      const Tensor update = linear.lora->b.mm(linear.lora->a).to(at::kDouble) * linear.lora->scale;
      const Tensor exact = linear.weight.to(at::kDouble) + update;
      rounded +=
          (exact.to(stored.value_or(base)).to(at::kDouble) - exact).square().sum().item<double>();
      whole += update.square().sum().item<double>();
    });
    const double told = merge_lora(model, stored);
    CHECK(told == Approx(std::sqrt(rounded / whole)).epsilon(0.01).margin(1e-5));
    return told;
  };
  CHECK(lost(at::kFloat, std::nullopt, 1) < 1e-5);
  CHECK(lost(at::kFloat, at::kBFloat16, 1) > 1e-4);
  CHECK(lost(at::kBFloat16, std::nullopt, 1e-3) >
        0.5);  // an update below the weights' rounding is lost
  CHECK(merge_lora(*std::make_unique<Transformer>(
            load_model(golden / "llama_grouped", at::kFloat, at::kCPU))) == 0);
}

TEST_CASE("a written model keeps what its base's folder says", "[models]") {
  Copy copy("llama_tied");
  const fs::path base = copy.t.path;
  copy.config.update({{"eos_token_id", {2, 7}},
                      {"pad_token_id", 5},
                      {"unsloth_version", "1"},
                      {"bos_token_id", nullptr},
                      {"dtype", "float32"}});
  copy.write();
  const std::map<std::string, std::string> files = {
      {"generation_config.json", "{\"eos_token_id\": [2,7],\"top_p\":0.9 }"},
      {"tokenizer.json", read_file(golden / "tokenizers" / "qwen2" / "tokenizer.json")},
      {"tokenizer_config.json", "{ \"eos_token\":\"<|im_end|>\"}\n"},
      {"special_tokens_map.json", "{}"},
      {"added_tokens.json", "{ }"},
      {"vocab.json", "{}"},
      {"merges.txt", "a b\n"},
      {"chat_template.jinja", "{{ messages }}\n"},
      {"chat_template.json", "{\"chat_template\": \"x\"}"},
      {"additional_chat_templates/tool_use.jinja", "{{ tools }}"},
      {"LICENSE.txt", "free"}};
  for (const auto& [name, content] : files) write_file(base / name, content);
  for (const std::string name :
       {"pytorch_model.bin", "README.md", "training_args.bin", "model.safetensors.index.json"})
    write_file(base / name, "{}");
  // By links, as the hub's cache has it.
  const fs::path cache = base / "cache", snapshot = base / "snapshot";
  fs::create_directories(cache), fs::create_directories(snapshot / "additional_chat_templates");
  for (const auto& [name, content] : files) fs::create_symlink(base / name, snapshot / name);
  for (const std::string name : {"config.json", "model.safetensors"})
    fs::create_symlink(base / name, snapshot / name);
  for (const fs::path& from : {base, snapshot}) {
    Transformer model = load_model(from, at::kBFloat16, at::kCPU);
    const TemporaryFolder t;
    const fs::path out = t.path / "out";
    save_model(out, model, at::kBFloat16, from);
    for (const auto& [name, content] : files) {
      INFO(name);
      REQUIRE(fs::exists(out / name));
      CHECK_FALSE(fs::is_symlink(out / name));
      CHECK(read_file(out / name) == content);
    }
    size_t count = 0;
    for (const auto& each : fs::recursive_directory_iterator(out)) count += each.is_regular_file();
    CHECK(count == files.size() + 2);  // and the configuration and the weights
    Json want = copy.config;
    want["dtype"] = "bfloat16";
    CHECK(read_json(out / "config.json") == want);
  }
  // A new model has its tokenizer's ids, null where there is none.
  const TemporaryFolder t;
  fs::copy(base / "tokenizer.json", t.path / "tokenizer.json");
  Transformer model = load_model(base, at::kFloat, at::kCPU);
  save_model(t.path / "new", model, at::kFloat, t.path);
  for (const std::string file : {"config.json", "generation_config.json"})
    for (const std::string key : {"bos_token_id", "eos_token_id"})
      CHECK(read_json(t.path / "new" / file).at(key).is_null());
}

TEST_CASE("a token beyond the model's rows is refused where it is used", "[models]") {
  const Transformer model = load_model(golden / "llama_tied", at::kFloat,
                                       at::kCPU);  // fewer rows than any tokenizer here has pieces
  const auto tokenizer = load_tokenizer(golden / "tokenizers" / "qwen2");
  CHECK(contains(error_of([&] { check_vocabulary(model, *tokenizer); }), "1000 pieces"));
  const auto rows = static_cast<int32_t>(model.config().vocab_size);
  CHECK(error_of([&] { check_ids(model, *tokenizer, std::vector<int32_t>{0, rows - 1}); }).empty());
  CHECK(contains(error_of([&] { check_ids(model, *tokenizer, std::vector<int32_t>{1002}); }),
                 "<|im_end|>"));
}

}  // namespace
}  // namespace inoculum
