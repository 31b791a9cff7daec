// Gemma 3's text models: Gemma 2 without caps on scores, with norms on queries and keys, five
// layers that look back a window for each that looks back on all, and another rotary base in those
// five.
#include "core/model/families.h"

namespace inoculum {
namespace {

ParameterNames names() {
  ParameterNames names = gemma_names();
  names.q_norm = "self_attn.q_norm";
  names.k_norm = "self_attn.k_norm";
  return names;
}

}  // namespace

const Family kGemma3 = {
    .model_type = "gemma3_text",
    .architecture = "Gemma3ForCausalLM",
    .names = names(),
    .read =
        [](ConfigReader& json, TransformerConfig& c) {
          read_gemma(json, c, 131072);
          c.final_logit_softcapping = json.get("final_logit_softcapping", 0.0);
          // One in so many layers looks back on all.
          const int64_t pattern = json.size("sliding_window_pattern", 6);
          std::vector<std::string> types;
          for (int64_t i = 1; i <= c.num_hidden_layers; ++i)
            types.push_back(i % pattern == 0 ? "full_attention" : "sliding_attention");
          if (!c.layer_types.empty() && c.layer_types != types &&
              json.has("sliding_window_pattern"))
            throw Error("disagrees with layer_types", json.where("sliding_window_pattern"));
          if (c.layer_types.empty()) c.layer_types = std::move(types);
          json.rope_by_layer_type(c, 1e6, {"rope_local_base_freq"}, 1e4);
          c.qk_norm = true;
        },
    .write =
        [](const TransformerConfig& c, Json& json) {
          kGemma2.write(c, json);
          json["rope_local_base_freq"] = c.rope_local_base_freq;
        }};

}  // namespace inoculum
