#include "core/model/transformer_config.h"

#include <algorithm>

#include "core/base/error.h"

namespace inoculum {

void RopeScaling::fields(Fields& f) {
  f.value("type", type, "default | linear | dynamic | llama3 | yarn",
          one_of({"default", "linear", "dynamic", "llama3", "yarn"}));
  f.value("factor", factor, "how many times longer the context is than it was", at_least(0));
  f.value("original_max_position_embeddings", original_max_position_embeddings,
          "what it was; llama3 and yarn", at_least(0));
  f.value("low_freq_factor", low_freq_factor, "of llama3", at_least(0));
  f.value("high_freq_factor", high_freq_factor, "of llama3", at_least(0));
  f.value("beta_fast", beta_fast, "of yarn", at_least(0));
  f.value("beta_slow", beta_slow, "of yarn", at_least(0));
  f.value("attention_factor", attention_factor, "of yarn; 0: from the factor", at_least(0));
  f.value("truncate", truncate, "of yarn: whether the ramp begins and ends at whole dimensions");
}

void TransformerConfig::fields(Fields& f) {
  f.value("family", family, "whose names and config.json a checkpoint has");
  f.value("vocab_size", vocab_size, "rows of the embedding", at_least(1));
  f.value("hidden_size", hidden_size, "width of the residual stream", at_least(1));
  f.value("intermediate_size", intermediate_size, "width inside the MLP", at_least(1));
  f.value("num_hidden_layers", num_hidden_layers, "blocks", at_least(1));
  f.value("num_attention_heads", num_attention_heads, "query heads", at_least(1));
  f.value("num_key_value_heads", num_key_value_heads,
          "key and value heads; fewer than query heads groups the queries", at_least(1));
  f.value("head_dim", head_dim, "width of a head", at_least(2));
  f.value("max_position_embeddings", max_position_embeddings, "longest context in tokens",
          at_least(1));
  f.value("norm", norm, "rms | layer", one_of({"rms", "layer"}));
  f.value("norm_eps", norm_eps, "added to the variance in a norm", at_least(0));
  f.value("norm_plus_one", norm_plus_one, "a norm's weights are stored less 1");
  f.value("positions", positions, "rotary | learned", one_of({"rotary", "learned"}));
  f.value("rope_theta", rope_theta, "base of the rotary wavelengths", at_least(1));
  f.value("rotary_dim", rotary_dim, "dimensions of a head that are turned; 0: all", at_least(0));
  f.group("rope_scaling", rope_scaling, "how rotary positions are stretched to a longer context");
  f.value("rope_local_base_freq", rope_local_base_freq, "rope_theta of sliding layers; 0: the same",
          at_least(0));
  f.group("rope_local_scaling", rope_local_scaling,
          "rope_scaling of sliding layers with a base of their own");
  f.value("sliding_window", sliding_window,
          "tokens that a sliding layer looks back on, itself included; 0: all", at_least(0));
  f.value("layer_types", layer_types,
          "full_attention or sliding_attention for each layer; empty: all slide where there is a "
          "window");
  f.value("query_pre_attn_scalar", query_pre_attn_scalar,
          "scores are scaled by its inverse root; 0: head_dim", at_least(0));
  f.value("scale_attn_weights", scale_attn_weights, "whether scores are scaled at all");
  f.value("scale_attn_by_inverse_layer_idx", scale_attn_by_inverse_layer_idx,
          "and by 1 / the layer's number too");
  f.value("attn_logit_softcapping", attn_logit_softcapping, "bound of scores; 0: none",
          at_least(0));
  f.value("final_logit_softcapping", final_logit_softcapping, "bound of logits; 0: none",
          at_least(0));
  f.value("embedding_scale", embedding_scale, "embeddings are multiplied by this", at_least(0));
  f.value("hidden_act", hidden_act, "silu | gelu | gelu_tanh | relu",
          one_of({"silu", "gelu", "gelu_tanh", "relu"}));
  f.value("gated_mlp", gated_mlp, "down(act(gate x) * up x) rather than down(act(up x))");
  f.value("qk_norm", qk_norm, "an RMS norm on each head's query and key");
  f.value("qk_norm_all_heads", qk_norm_all_heads,
          "or one on all heads' queries at once, and one on their keys");
  f.value("input_norms", input_norms, "norms before attention and MLP");
  f.value("output_norms", output_norms, "norms behind attention and MLP");
  f.value("parallel_residual", parallel_residual, "attention and MLP side by side");
  f.value("fused_qkv", fused_qkv, "one projection to queries, keys and values");
  f.value("tie_word_embeddings", tie_word_embeddings, "the output head is the embedding");
  f.value("attention_bias", attention_bias, "biases on the query, key and value projections");
  f.value("attention_output_bias", attention_output_bias,
          "bias on the attention's output projection");
  f.value("mlp_bias", mlp_bias, "biases in the MLP");
  f.value("initializer_range", initializer_range, "standard deviation of initial weights",
          at_least(0));
}

void TransformerConfig::check() const {
  const auto fault = [](const char* field, const std::string& what) {
    throw Error(what, {.field = field});
  };
  for (const auto& [field, value] : {std::pair("vocab_size", vocab_size),
                                     {"hidden_size", hidden_size},
                                     {"intermediate_size", intermediate_size},
                                     {"num_hidden_layers", num_hidden_layers},
                                     {"num_attention_heads", num_attention_heads},
                                     {"num_key_value_heads", num_key_value_heads},
                                     {"head_dim", head_dim},
                                     {"max_position_embeddings", max_position_embeddings}})
    if (value < 1) fault(field, "must be at least 1, not " + std::to_string(value));
  if (num_attention_heads % num_key_value_heads != 0)
    fault("num_key_value_heads",
          "must divide num_attention_heads (" + std::to_string(num_attention_heads) + ")");
  if (positions == "rotary" && (head_dim % 2 != 0 || rotary_dim % 2 != 0))
    fault("head_dim", "must be even, for the rotary embedding turns pairs");
  if (rotary_dim < 0 || rotary_dim > head_dim)
    fault("rotary_dim", "must be from 0 to head_dim (" + std::to_string(head_dim) + ")");
  if (!layer_types.empty() && static_cast<int64_t>(layer_types.size()) != num_hidden_layers)
    fault("layer_types", "names " + std::to_string(layer_types.size()) + " layers, and there are " +
                             std::to_string(num_hidden_layers));
  if (sliding_window < 0)
    fault("sliding_window", "must be at least 0, not " + std::to_string(sliding_window));
  const auto slides = [](const std::string& type) { return type == "sliding_attention"; };
  if (sliding_window == 0 && std::any_of(layer_types.begin(), layer_types.end(), slides))
    fault("layer_types", "names sliding_attention, and there is no sliding_window");
  if (positions == "rotary" && rope_theta < 1) fault("rope_theta", "must be at least 1");
  if (rope_local_base_freq != 0 && rope_local_base_freq < 1)
    fault("rope_local_base_freq", "must be at least 1");
  if (rope_scaling.factor <= 0) fault("rope_scaling.factor", "must be above 0");
  if (rope_local_scaling.factor <= 0) fault("rope_local_scaling.factor", "must be above 0");
  if (norm_eps < 0) fault("norm_eps", "must be at least 0");
}

}  // namespace inoculum
