// config.json as it is published: what is read, what means nothing, what is told, what is refused.
#include "core/model/families.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

using Strings = std::vector<std::string>;

// A small Llama, with the changes.
Json llama(const Json& changes = Json::object()) {
  Json json = {{"model_type", "llama"},   {"vocab_size", 40},       {"hidden_size", 16},
               {"intermediate_size", 24}, {"num_hidden_layers", 2}, {"num_attention_heads", 4},
               {"rms_norm_eps", 1e-5},    {"rope_theta", 500000.0}};
  json.update(changes);
  return json;
}

Json of(const std::string& family, const Json& changes = Json::object()) {
  Json json = llama({{"model_type", family}});
  if (family == "gpt_neox") {
    json.erase("rms_norm_eps");
    json.erase("rope_theta");
    json["hidden_size"] = 32;
  }
  if (family == "gpt2") json = {{"model_type", family}, {"vocab_size", 40}};
  json.update(changes);
  return json;
}

std::string error_in(const Json& json) {
  return error_of([&] { transformer_config_from_json(json, "config.json"); });
}

TransformerConfig read(const Json& json) {
  INFO(error_in(json));
  return transformer_config_from_json(json, "config.json");
}

bool same(const Json& a, const Json& b) { return show(read(a)) == show(read(b)); }

Strings told(const Json& json) {
  ConfigReader reader(json, "config.json");
  TransformerConfig c;
  reader.need<std::string>("model_type");
  family(json.at("model_type").get<std::string>()).read(reader, c);
  return reader.finish();
}

// The keys of published files, with sizes made small.
const std::vector<std::pair<std::string, std::string>> kPublished = {
    {"SmolLM2",
     R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 18,
     "initializer_range": 0.04, "intermediate_size": 48, "is_llama_config": true,
     "max_position_embeddings": 8192, "mlp_bias": false, "model_type": "llama",
     "num_attention_heads": 9, "num_hidden_layers": 3, "num_key_value_heads": 3, "pad_token_id": 2,
     "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
     "rope_theta": 100000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
     "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}},
     "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 49})"},
    {"TinyLlama",
     R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1,
     "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 44, "max_position_embeddings": 2048, "model_type": "llama",
     "num_attention_heads": 8, "num_hidden_layers": 2, "num_key_value_heads": 1, "pretraining_tp":
     1, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0, "tie_word_embeddings":
     false, "torch_dtype": "bfloat16", "transformers_version": "4.35.0", "use_cache": true,
     "vocab_size": 32})"},
    {"Llama 2",
     R"({"_name_or_path": "somewhere", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
     "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 44, "max_length": 4096, "max_position_embeddings": 2048,
     "max_sequence_length": 2048, "model_type": "llama", "num_attention_heads": 8,
     "num_hidden_layers": 2, "num_key_value_heads": 8, "pad_token_id": 0, "pretraining_tp": 2,
     "rms_norm_eps": 1e-05, "rope_scaling": null, "tie_word_embeddings": false, "torch_dtype":
     "float16", "transformers_version": "4.31.0.dev0", "use_cache": true, "vocab_size": 32})"},
    {"Llama 3.2 of Unsloth",
     R"({"_name_or_path": "somewhere", "architectures": ["LlamaForCausalLM"], "attention_bias":
     false, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128009, "head_dim": 4,
     "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 44,
     "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
     "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "pad_token_id":
     128004, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0,
     "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
     "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype":
     "bfloat16", "transformers_version": "4.44.2", "unsloth_fixed": true, "unsloth_version":
     "2025.3.18", "use_cache": true, "vocab_size": 128})"},
    {"DeepSeek-R1-Distill-Llama",
     R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 16,
     "initializer_range": 0.02, "intermediate_size": 44, "max_position_embeddings": 131072,
     "mlp_bias": false, "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2,
     "num_key_value_heads": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling":
     {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 8192, "rope_type": "llama3"}, "rope_theta": 500000.0,
     "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.43.0.dev0",
     "use_cache": true, "vocab_size": 128})"},
    {"Mistral 7B v0.1",
     R"({"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
     "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 56,
     "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 4,
     "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
     "sliding_window": 4096, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
     "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32})"},
    {"Mistral 7B v0.3",
     R"({"architectures": ["MistralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
     "eos_token_id": 2, "head_dim": 4, "hidden_act": "silu", "hidden_size": 16, "initializer_range":
     0.02, "intermediate_size": 56, "max_position_embeddings": 32768, "model_type": "mistral",
     "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps":
     1e-05, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false,
     "torch_dtype": "bfloat16", "transformers_version": "4.42.0.dev0", "use_cache": true,
     "vocab_size": 32})"},
    {"Zephyr",
     R"({"_name_or_path": "somewhere", "architectures": ["MistralForCausalLM"], "bos_token_id": 1,
     "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 56, "max_position_embeddings": 32768, "model_type": "mistral",
     "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "pad_token_id": 2,
     "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings":
     false, "torch_dtype": "bfloat16", "transformers_version": "4.35.0", "use_cache": true,
     "use_flash_attention_2": true, "vocab_size": 32})"},
    {"Qwen2.5",
     R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
     "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 48, "max_position_embeddings": 32768, "max_window_layers": 21,
     "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads":
     2, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window":
     32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version":
     "4.43.1", "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size":
     151})"},
    {"Qwen2.5-Coder of Unsloth",
     R"({"_attn_implementation_autoset": true, "_name_or_path": "somewhere", "architectures":
     ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": null, "eos_token_id": 151645,
     "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 48,
     "layer_types": ["full_attention", "full_attention"], "max_position_embeddings": 32768,
     "max_window_layers": 70, "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers":
     2, "num_key_value_heads": 2, "pad_token_id": 151665, "quantization_config": null,
     "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": null,
     "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.52.4",
     "unsloth_fixed": true, "unsloth_version": "2025.6.1", "use_cache": true, "use_sliding_window":
     false, "vocab_size": 151})"},
    {"DeepSeek-R1-Distill-Qwen",
     R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
     "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 48, "max_position_embeddings": 131072, "max_window_layers": 21,
     "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads":
     2, "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096, "tie_word_embeddings":
     false, "torch_dtype": "bfloat16", "transformers_version": "4.44.0", "use_cache": true,
     "use_mrope": false, "use_sliding_window": false, "vocab_size": 151})"},
    {"Qwen3",
     R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 8, "hidden_act": "silu",
     "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 48,
     "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
     "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps":
     1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
     "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
     "use_cache": true, "use_sliding_window": false, "vocab_size": 151})"},
    {"Pythia",
     R"({"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
     "hidden_act": "gelu", "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 48,
     "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
     "num_attention_heads": 4, "num_hidden_layers": 2, "rotary_emb_base": 10000, "rotary_pct": 0.25,
     "tie_word_embeddings": false, "torch_dtype": "float16", "transformers_version": "4.24.0",
     "use_cache": true, "use_parallel_residual": true, "vocab_size": 50})"},
    {"a fine-tuned Pythia",
     R"({"_name_or_path": "somewhere", "architectures": ["GPTNeoXForCausalLM"], "attention_bias":
     true, "attention_dropout": 0.0, "bos_token_id": 0, "classifier_dropout": 0.1, "eos_token_id":
     0, "hidden_act": "gelu", "hidden_dropout": 0.0, "hidden_size": 32, "initializer_range": 0.02,
     "intermediate_size": 48, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048,
     "model_type": "gpt_neox", "num_attention_heads": 4, "num_hidden_layers": 2,
     "partial_rotary_factor": 0.25, "rope_scaling": null, "rope_theta": 10000, "rotary_emb_base":
     10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "torch_dtype": "float32",
     "transformers_version": "4.49.0", "use_cache": true, "use_parallel_residual": true,
     "vocab_size": 50})"},
    {"GPT-2",
     R"({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop":
     0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range":
     0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 16, "n_head":
     4, "n_layer": 2, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": null,
     "summary_first_dropout": 0.1, "summary_proj_to_labels": true, "summary_type": "cls_index",
     "summary_use_proj": true, "task_specific_params": {"text-generation": {"do_sample": true,
     "max_length": 50}}, "vocab_size": 50})"},
    {"DistilGPT2",
     R"({"_num_labels": 1, "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
     "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "id2label":
     {"0": "LABEL_0"}, "initializer_range": 0.02, "label2id": {"LABEL_0": 0}, "layer_norm_epsilon":
     1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 16, "n_head": 4, "n_layer": 2,
     "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": null, "summary_first_dropout":
     0.1, "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true,
     "vocab_size": 50})"},
    {"Gemma 2",
     R"({"architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid",
     "eos_token_id": [1, 107], "final_logit_softcapping": 30.0, "head_dim": 8, "hidden_act":
     "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 16,
     "initializer_range": 0.02, "intermediate_size": 48, "max_position_embeddings": 8192,
     "model_type": "gemma2", "num_attention_heads": 4, "num_hidden_layers": 2,
     "num_key_value_heads": 2, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps":
     1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "bfloat16",
     "transformers_version": "4.42.4", "use_cache": true, "vocab_size": 256})"},
    {"Gemma 3",
     R"({"architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid",
     "eos_token_id": [1, 106], "final_logit_softcapping": null, "head_dim": 8, "hidden_activation":
     "gelu_pytorch_tanh", "hidden_size": 16, "initializer_range": 0.02, "intermediate_size": 48,
     "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
     "num_hidden_layers": 7, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar":
     256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta":
     1000000, "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
     "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 256})"},
    {"a later Gemma 3",
     R"({"_sliding_window_pattern": 2, "architectures": ["Gemma3ForCausalLM"], "attention_bias":
     false, "attention_dropout": 0.0, "attn_logit_softcapping": null, "bos_token_id": 2, "dtype":
     "bfloat16", "eos_token_id": 1, "final_logit_softcapping": null, "head_dim": 8,
     "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 48, "layer_types": ["sliding_attention", "full_attention"],
     "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
     "num_hidden_layers": 2, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar":
     256, "rms_norm_eps": 1e-06, "rope_parameters": {"full_attention": {"factor": 8.0, "rope_theta":
     1000000.0, "rope_type": "linear"}, "sliding_attention": {"rope_theta": 10000.0, "rope_type":
     "default"}}, "sliding_window": 512, "transformers_version": "5.0.0",
     "use_bidirectional_attention": false, "use_cache": true, "vocab_size": 256})"},
    {"OLMo 2",
     R"({"architectures": ["Olmo2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "eos_token_id": 100257, "hidden_act": "silu", "hidden_size": 16, "initializer_range": 0.02,
     "intermediate_size": 44, "max_position_embeddings": 4096, "model_type": "olmo2",
     "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 4, "pad_token_id":
     100277, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 500000,
     "tie_word_embeddings": false, "torch_dtype": "float32", "transformers_version": "4.47.0",
     "use_cache": true, "vocab_size": 100})"},
    {"OLMo 3",
     R"({"architectures": ["Olmo3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
     "dtype": "bfloat16", "eos_token_id": 100257, "hidden_act": "silu", "hidden_size": 16,
     "initializer_range": 0.02, "intermediate_size": 44, "layer_types": ["sliding_attention",
     "sliding_attention", "sliding_attention", "full_attention"], "max_position_embeddings": 65536,
     "model_type": "olmo3", "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads":
     4, "pad_token_id": 100277, "rms_norm_eps": 1e-06, "rope_scaling": {"attention_factor":
     1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
     "original_max_position_embeddings": 8192, "rope_type": "yarn"}, "rope_theta": 500000,
     "sliding_window": 4096, "tie_word_embeddings": false, "transformers_version": "4.57.0",
     "use_cache": true, "vocab_size": 100})"},
};

TEST_CASE("config.json as it is published is read, and nothing of it is unknown", "[config_json]") {
  for (const auto& [name, text] : kPublished) {
    INFO(name);
    const Json json = Json::parse(text);
    const TransformerConfig c = read(json);
    CHECK(told(json) == Strings());
    // What the families write is read as the same.
    Json again = {{"model_type", c.family},
                  {"vocab_size", c.vocab_size},
                  {"tie_word_embeddings", c.tie_word_embeddings},
                  {"initializer_range", c.initializer_range}};
    family(c.family).write(c, again);
    CHECK(show(read(again)) == show(c));
    CHECK(told(again) == Strings());
    // Any field that this family's defaults fill may be null, but where null says that there is
    // none.
    for (const auto& [key, value] : json.items()) {
      Json without = json, null = json;
      without.erase(key);
      null[key] = nullptr;
      INFO(key);
      if (key != "sliding_window" && key.find("softcapping") == std::string::npos)
        CHECK(error_in(without) == error_in(null));
    }
  }
  const auto published = [](const std::string& name) {
    for (const auto& [each, text] : kPublished)
      if (each == name) return read(Json::parse(text));
    throw std::runtime_error(name);
  };
  CHECK(published("Mistral 7B v0.1").sliding_window == 4096);
  CHECK(published("Mistral 7B v0.3").sliding_window == 0);
  CHECK(published("Qwen2.5").sliding_window == 0);
  CHECK(published("Pythia").rotary_dim == 2);
  CHECK(published("a fine-tuned Pythia").rotary_dim == 2);
  CHECK(published("Llama 3.2 of Unsloth").rope_scaling.type == "llama3");
  const TransformerConfig gemma = published("Gemma 3"), later = published("a later Gemma 3"),
                          olmo = published("OLMo 3");
  CHECK(gemma.layer_types ==
        Strings({"sliding_attention", "sliding_attention", "sliding_attention", "sliding_attention",
                 "sliding_attention", "full_attention", "sliding_attention"}));
  CHECK((gemma.rope_theta == 1e6 && gemma.rope_local_base_freq == 1e4));
  CHECK((later.rope_scaling.type == "linear" && later.rope_local_scaling.type == "default"));
  CHECK((olmo.rope_scaling.type == "yarn" && olmo.rope_local_scaling.type == "default"));
  CHECK(olmo.rope_local_base_freq == 500000);
}

TEST_CASE("what changes no output is passed over, told where its meaning is unknown",
          "[config_json]") {
  const Json plain = llama();
  const auto silent = [&](const Json& more) {
    INFO(more.dump());
    CHECK(same(llama(more), plain));
    CHECK(told(llama(more)) == Strings());
  };
  const auto is_told = [&](const Json& more) {
    INFO(more.dump());
    CHECK(same(llama(more), plain));
    CHECK(told(llama(more)) == Strings{more.begin().key()});
  };
  // Null, false and empty.
  for (const Json& nothing : {Json(), Json(false), Json(""), Json::array(), Json::object()})
    for (const std::string key :
         {"x", "rope_interleaved", "num_local_experts", "quantization_config", "rope_scaling",
          "logits_scaling", "rope_parameters"})
      silent({{key, nothing}});
  silent({{"rope_parameters",
           {{"rope_theta", nullptr}, {"rope_type", nullptr}, {"factor", nullptr}}}});
  silent({{"num_key_value_heads", nullptr}, {"head_dim", nullptr}, {"hidden_act", nullptr}});
  // Off.
  silent({{"num_experts", 0},
          {"attn_logit_softcapping", 0.0},
          {"residual_multiplier", 1.0},
          {"logits_scaling", 1}});
  // Transformers' own, generation, dropout, tools.
  silent({{"is_decoder", true},
          {"torchscript", true},
          {"_num_labels", 2},
          {"num_labels", 2},
          {"prefix", "a"},
          {"chunk_size_feed_forward", 4},
          {"problem_type", "regression"},
          {"tokenizer_class", "LlamaTokenizer"},
          {"decoder_start_token_id", 3},
          {"sep_token_id", 3},
          {"output_hidden_states", true}});
  silent({{"do_sample", true},
          {"temperature", 0.6},
          {"top_p", 0.9},
          {"max_length", 4096},
          {"num_beams", 4},
          {"repetition_penalty", 1.1},
          {"bad_words_ids", {{1}}},
          {"encoder_no_repeat_ngram_size", 3}});
  silent({{"attention_probs_dropout_prob", 0.1},
          {"attn_pdrop", 0.1},
          {"residual_dropout", 0.1},
          {"layerdrop", 0.1}});
  silent({{"_flash_attn_2_enabled", true},
          {"_attn_implementation_internal", "sdpa"},
          {"use_flash_attention_2", true},
          {"expected_cache_config", {{"rope", true}}},
          {"unsloth_version", "2025.1"},
          {"pretraining_tp", 4},
          {"attn_implementation", "eager"},
          {"max_window_layers", 28},
          {"model_max_length", 4096}});
  silent(
      {{"torch_dtype", "float16"}, {"dtype", "bfloat16"}});  // weights say themselves what they are
  silent({{"max_position_embeddings", 2048.0}, {"num_hidden_layers", 2.0}});
  // Unknown, and nothing in it that could change outputs.
  is_told({{"x", 3}});
  is_told({{"training_run", "of a Monday, with attention"}});
  is_told({{"pipeline_tag", "text-generation"}});
  is_told({{"auto_map", {{"AutoModelForCausalLM", "modeling_x.XForCausalLM"}}}});
  is_told({{"mergekit", {{"method", "slerp"}, {"t", {0.5, 0.5}}}}});
}

TEST_CASE("two names of one thing must agree", "[config_json]") {
  CHECK(same(llama({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 500000}}}}),
             llama()));
  const Json linear = {{"type", "linear"}, {"factor", 2}};
  CHECK(same(llama({{"rope_scaling", linear},
                    {"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}}}}),
             llama({{"rope_scaling", linear}})));
  CHECK(same(of("gpt2", {{"n_embd", 24}, {"hidden_size", 24}}), of("gpt2", {{"n_embd", 24}})));
  CHECK(same(of("gpt2", {{"hidden_size", 24}}), of("gpt2", {{"n_embd", 24}})));
  const auto disagree = [](const Json& json, const std::string& name) {
    INFO(json.dump());
    CHECK(contains(error_in(json), name));
    CHECK(contains(error_in(json), "two names of one thing"));
  };
  disagree(llama({{"rope_parameters", {{"rope_theta", 10000}}}}), "rope_parameters.rope_theta");
  disagree(llama({{"rope_scaling", linear},
                  {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4}}}}),
           "rope_parameters.factor");
  disagree(llama({{"rope_scaling", linear}, {"rope_parameters", {{"rope_type", "default"}}}}),
           "rope_type");
  disagree(of("gpt_neox", {{"rotary_pct", 0.5}, {"partial_rotary_factor", 1.0}}),
           "partial_rotary_factor");
  disagree(of("gpt_neox", {{"rotary_emb_base", 10000}, {"rope_theta", 20000}}), "rope_theta");
  disagree(of("gpt2", {{"n_head", 4}, {"num_attention_heads", 2}}), "num_attention_heads");
  disagree(of("gemma3_text", {{"rope_local_base_freq", 1e4},
                              {"rope_parameters", {{"sliding_attention", {{"rope_theta", 1e5}}}}}}),
           "rope_parameters.sliding_attention.rope_theta");
  CHECK(
      contains(error_in(of("gemma3_text", {{"sliding_window_pattern", 3},
                                           {"layer_types", {"full_attention", "full_attention"}}})),
               "sliding_window_pattern"));
  // Some have it beside the scaling.
  const Json yarn = {{"type", "yarn"}, {"factor", 4}};
  CHECK(read(llama({{"rope_scaling", yarn}, {"original_max_position_embeddings", 64}}))
            .rope_scaling.original_max_position_embeddings == 64);
}

TEST_CASE("what could change outputs is refused by name", "[config_json]") {
  const auto refused = [](const Json& json, const std::string& name) {
    INFO(json.dump());
    CHECK(contains(error_in(json), "config.json: " + name + ": "));
  };
  for (const Json& more :
       {Json{{"rope_interleaved", true}},
        {{"quantization_config", {{"quant_method", "gptq"}, {"bits", 4}}}},
        {{"num_local_experts", 8}},
        {{"sliding_window", 4096}},
        {{"attn_logit_softcapping", 50.0}},
        {{"use_qk_norm", true}},
        {{"residual_multiplier", 0.22}},
        {{"logits_scaling", 8}},
        {{"attention_multiplier", 0}},
        {{"hidden_activation", "gelu"}},
        {{"ffn_activation", "swiglu"}},
        {{"act_fn", "relu"}},
        {{"position_embedding_type", "alibi"}},
        {{"lm_head_bias", true}},
        {{"use_bidirectional_attention", true}},
        {{"is_causal", false}},
        {{"is_encoder_decoder", true}},
        {{"add_cross_attention", true}},
        {{"pruned_heads", {{"0", {1}}}}},
        {{"per_layer_config", {{"0", {{"hidden_size", 8}}}}}},
        {{"vision_config", {{"hidden_size", 8}}}},
        {{"load_in_4bit", true}},
        {{"no_rope_layers", {1, 1, 1, 0}}},
        {{"extra", {{"inner", {{"rope_type", "longrope"}}}}}},
        {{"extra", Json::array({{{"sliding_window", 7}}})}},
        {{"kind", "moe"}},
        {{"nonlinearity", "relu"}},
        {{"partial_rotary_factor", 0.5}},
        {{"layer_types", {"full_attention", "sliding_attention"}}},
        {{"layer_types", {"full_attention", "linear_attention"}}},
        {{"layer_types", {"full_attention"}}, {"num_hidden_layers", 1}, {"mlp_type", "moe"}}})
    refused(llama(more), more.size() == 1 ? more.begin().key() : "mlp_type");
  // Inside what is known.
  refused(llama({{"rope_scaling", {{"type", "linear"}, {"factor", 2}, {"mrope_section", {1, 1}}}}}),
          "rope_scaling.mrope_section");
  refused(llama({{"rope_scaling", {{"type", "linear"}}}}), "rope_scaling.factor");
  refused(llama({{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}), "rope_scaling.factor");
  refused(llama({{"rope_scaling", {{"factor", 8}}}}), "rope_scaling");
  refused(llama({{"rope_scaling", {{"type", "su"}, {"factor", 8}}}}), "rope_scaling");
  refused(llama({{"rope_scaling", "yarn"}}), "rope_scaling");
  refused(of("qwen3", {{"layer_types", {"sliding_attention", "full_attention"}}}), "layer_types");
  refused(of("gemma3_text", {{"attn_logit_softcapping", 50}}), "attn_logit_softcapping");
  refused(of("gemma3_text", {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 8}}}}),
          "rope_parameters.rope_type");
  refused(of("olmo3",
             {{"rope_parameters",
               {{"full_attention", {{"rope_type", "yarn"}, {"factor", 8}, {"truncate", false}}}}}}),
          "rope_parameters.full_attention.truncate");
  refused(of("gpt_neox", {{"rotary_pct", 0.0}}), "rotary_pct");
  // Sizes that are none.
  for (const Json& size : {Json(0), Json(-4), Json(0.5), Json("4"), Json(true), Json(1e300)})
    refused(llama({{"num_attention_heads", size}}), "num_attention_heads");
  refused(llama({{"rope_theta", 0}}), "rope_theta");
  refused(llama({{"rope_theta", true}}), "rope_theta");
  refused(of("mistral", {{"sliding_window", -1}}), "sliding_window");
  refused(of("gpt2", {{"n_head", 0}}), "n_head");
  CHECK(contains(error_in({{"model_type", "gemma3"}}), "Gemma3ForCausalLM"));
  CHECK(contains(error_in(Json::array()), "must be a JSON object"));
}

}  // namespace
}  // namespace inoculum
