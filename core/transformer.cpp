#include "core/transformer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/kernels.h"

namespace inoculum {

void TransformerConfig::fields(Fields& f) {
  f.value("vocab_size", vocab_size, "rows of the embedding", at_least(1));
  f.value("hidden_size", hidden_size, "width of the residual stream", at_least(1));
  f.value("intermediate_size", intermediate_size, "width inside the MLP", at_least(1));
  f.value("num_hidden_layers", num_hidden_layers, "blocks", at_least(1));
  f.value("num_attention_heads", num_attention_heads, "query heads", at_least(1));
  f.value("num_key_value_heads", num_key_value_heads, "key and value heads; fewer than query heads groups the queries", at_least(1));
  f.value("head_dim", head_dim, "width of a head", at_least(2));
  f.value("max_position_embeddings", max_position_embeddings, "longest context in tokens", at_least(1));
  f.value("norm", norm, "rms | layer", one_of({"rms", "layer"}));
  f.value("norm_eps", norm_eps, "added to the variance in a norm", at_least(0));
  f.value("rope_theta", rope_theta, "base of the rotary wavelengths", at_least(1));
  f.value("hidden_act", hidden_act, "silu | gelu | gelu_tanh | relu", one_of({"silu", "gelu", "gelu_tanh", "relu"}));
  f.value("gated_mlp", gated_mlp, "down(act(gate x) * up x) rather than down(act(up x))");
  f.value("tie_word_embeddings", tie_word_embeddings, "the output head is the embedding");
  f.value("attention_bias", attention_bias, "biases on the query, key and value projections");
  f.value("attention_output_bias", attention_output_bias, "bias on the attention's output projection");
  f.value("mlp_bias", mlp_bias, "biases in the MLP");
  f.value("initializer_range", initializer_range, "standard deviation of initial weights", at_least(0));
}

void TransformerConfig::check() const {
  const auto fault = [](const char* field, const std::string& what) { throw Error(what, {.field = field}); };
  if (num_attention_heads % num_key_value_heads != 0)
    fault("num_key_value_heads", "must divide num_attention_heads (" + std::to_string(num_attention_heads) + ")");
  if (head_dim % 2 != 0) fault("head_dim", "must be even, for the rotary embedding turns pairs");
}

int64_t TransformerConfig::parameter_count() const {
  int64_t count = 0;
  Transformer shape(*this);
  shape.for_each_parameter([&](const std::string&, Tensor& t) { count += t.numel(); });
  return count;
}

Tensor Linear::operator()(const Tensor& x) const {
  if (!lora) return at::linear(x, weight, bias.defined() ? std::optional<Tensor>(bias) : std::nullopt);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return lora_linear(x.reshape({-1, x.size(-1)}), weight, bias, lora->a, lora->b, lora->scale).view(shape);
}

KeyValueCache::KeyValueCache(const TransformerConfig& config, int64_t rows, int64_t cap, at::TensorOptions options)
    : capacity(cap) {
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    for (auto* side : {&keys, &values})
      side->push_back(at::zeros({rows, config.num_key_value_heads, capacity, config.head_dim}, options));
}

Transformer::Transformer(TransformerConfig config) : config_(std::move(config)) {
  config_.check();
  const auto& c = config_;
  const auto matrix = [](int64_t out, int64_t in) { return at::empty({out, in}, at::kFloat); };
  const auto linear = [&](int64_t out, int64_t in, bool bias) {
    return Linear{matrix(out, in), bias ? at::zeros({out}) : Tensor(), std::nullopt};
  };
  const auto norm = [&] {
    return Norm{at::ones({c.hidden_size}), c.norm == "layer" ? at::zeros({c.hidden_size}) : Tensor()};
  };
  embedding = matrix(c.vocab_size, c.hidden_size);
  const int64_t query = c.num_attention_heads * c.head_dim, key = c.num_key_value_heads * c.head_dim;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    Layer layer;
    layer.input_norm = norm();
    layer.post_attention_norm = norm();
    layer.q = linear(query, c.hidden_size, c.attention_bias);
    layer.k = linear(key, c.hidden_size, c.attention_bias);
    layer.v = linear(key, c.hidden_size, c.attention_bias);
    layer.o = linear(c.hidden_size, query, c.attention_output_bias);
    if (c.gated_mlp) layer.gate = linear(c.intermediate_size, c.hidden_size, c.mlp_bias);
    layer.up = linear(c.intermediate_size, c.hidden_size, c.mlp_bias);
    layer.down = linear(c.hidden_size, c.intermediate_size, c.mlp_bias);
    layers.push_back(std::move(layer));
  }
  final_norm = norm();
  if (!c.tie_word_embeddings) head = linear(c.vocab_size, c.hidden_size, false);
  make_rotary_tables(at::kCPU);
}

Transformer::Transformer(TransformerConfig config, Random random) : Transformer(std::move(config)) {
  for_each_parameter([&](const std::string& name, Tensor& parameter) {
    if (parameter.dim() != 2) return;  // norms start at one, biases at zero
    Random stream = random.fork(name);
    auto* values = parameter.data_ptr<float>();
    for (int64_t i = 0; i < parameter.numel(); ++i)
      values[i] = static_cast<float>(config_.initializer_range * stream.normal());
  });
}

void Transformer::make_rotary_tables(at::Device device) {
  const int64_t half = config_.head_dim / 2;
  const Tensor exponent = at::arange(0, half, at::kFloat) * 2 / static_cast<double>(config_.head_dim);
  const Tensor frequency = at::reciprocal(at::pow(at::scalar_tensor(config_.rope_theta, at::kFloat), exponent));
  const Tensor angle = at::arange(config_.max_position_embeddings, at::kFloat).unsqueeze(1) * frequency;
  cosine_ = angle.cos().to(device);
  sine_ = angle.sin().to(device);
}

void Transformer::to(at::Device device, at::ScalarType dtype) {
  for_each_parameter([&](const std::string&, Tensor& parameter) {
    parameter = parameter.detach().to(at::TensorOptions(device).dtype(dtype));
  });
  make_rotary_tables(device);
}

Tensor Transformer::norm(const Norm& norm, const Tensor& x) const {
  if (config_.norm == "layer") return at::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, config_.norm_eps);
  return rms_norm(x, norm.weight, config_.norm_eps);
}

Tensor Transformer::mlp(const Layer& layer, const Tensor& x) const {
  if (config_.gated_mlp && config_.hidden_act == "silu") return layer.down(swiglu(layer.gate(x), layer.up(x)));
  const auto activate = [&](const Tensor& t) {
    if (config_.hidden_act == "silu") return at::silu(t);
    if (config_.hidden_act == "relu") return at::relu(t);
    return at::gelu(t, config_.hidden_act == "gelu" ? "none" : "tanh");
  };
  return layer.down(config_.gated_mlp ? activate(layer.gate(x)) * layer.up(x) : activate(layer.up(x)));
}

Tensor Transformer::hidden(const Tensor& input_ids, const std::vector<int64_t>& lengths) const {
  const int64_t batch = input_ids.size(0), time = input_ids.size(1);
  const int64_t longest = lengths.empty() ? time : *std::max_element(lengths.begin(), lengths.end());
  if (longest > config_.max_position_embeddings)
    throw Error("a text of " + std::to_string(longest) + " tokens is longer than the model's context of " +
                std::to_string(config_.max_position_embeddings));
  Tensor positions = at::arange(longest, input_ids.options());
  std::optional<TextGroups> groups;
  if (!lengths.empty()) {
    groups.emplace(lengths, input_ids.device());
    std::vector<Tensor> each;
    for (const int64_t length : lengths) each.push_back(positions.narrow(0, 0, length));
    positions = at::cat(each);
  }
  positions = positions.expand({batch, time});
  Tensor x = at::embedding(embedding, input_ids);  // [batch, time, hidden]
  for (const Layer& layer : layers) {
    const Tensor h = norm(layer.input_norm, x);
    const auto heads = [&](const Tensor& t) { return t.view({batch, time, -1, config_.head_dim}); };
    const Tensor q = rotary(heads(layer.q(h)), cosine_, sine_, positions);
    const Tensor k = rotary(heads(layer.k(h)), cosine_, sine_, positions);
    const Tensor v = heads(layer.v(h));
    const Tensor attended = groups ? causal_attention(q, k, v, *groups) : causal_attention(q, k, v);  // [batch, time, head, head_dim]
    x = x + layer.o(attended.reshape({batch, time, -1}));
    x = x + mlp(layer, norm(layer.post_attention_norm, x));
  }
  return norm(final_norm, x);
}

Tensor Transformer::hidden(const Tensor& input_ids, const Tensor& positions, KeyValueCache& cache) const {
  const int64_t batch = input_ids.size(0), time = input_ids.size(1);
  const Tensor where = positions.clamp_min(0);
  const int64_t seen = where.max().item<int64_t>() + 1;  // no slot in use is longer than this
  // Padding is written to the last place of the slot, which is never looked at (the sampler leaves it free).
  const Tensor place = at::where(positions < 0, cache.capacity - 1, positions);
  const auto past = [&](const Tensor& side) { return side.narrow(0, 0, batch).narrow(2, 0, seen); };
  Tensor x = at::embedding(embedding, input_ids);
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    const Tensor h = norm(layer.input_norm, x);
    const auto heads = [&](const Tensor& t) { return t.view({batch, time, -1, config_.head_dim}); };
    const Tensor q = rotary(heads(layer.q(h)), cosine_, sine_, where);
    const Tensor k = rotary(heads(layer.k(h)), cosine_, sine_, where);
    write_cache(cache.keys[i], k, place);
    write_cache(cache.values[i], heads(layer.v(h)), place);
    const Tensor attended = cached_attention(q, past(cache.keys[i]), past(cache.values[i]), where);
    x = x + layer.o(attended.reshape({batch, time, -1}));
    x = x + mlp(layer, norm(layer.post_attention_norm, x));
  }
  return norm(final_norm, x);
}

Tensor Transformer::logits(const Tensor& hidden) const {
  return config_.tie_word_embeddings ? at::linear(hidden, embedding) : head(hidden);
}

void Transformer::for_each_linear(const std::function<void(const std::string&, Linear&)>& visit) {
  for (size_t i = 0; i < layers.size(); ++i) {
    Layer& layer = layers[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    visit(prefix + "self_attn.q_proj", layer.q);
    visit(prefix + "self_attn.k_proj", layer.k);
    visit(prefix + "self_attn.v_proj", layer.v);
    visit(prefix + "self_attn.o_proj", layer.o);
    if (config_.gated_mlp) visit(prefix + "mlp.gate_proj", layer.gate);
    visit(prefix + "mlp.up_proj", layer.up);
    visit(prefix + "mlp.down_proj", layer.down);
  }
}

void Transformer::for_each_parameter(const std::function<void(const std::string&, Tensor&)>& visit) {
  const auto linear = [&](const std::string& path, Linear& l) {
    visit(path + ".weight", l.weight);
    if (l.bias.defined()) visit(path + ".bias", l.bias);
  };
  const auto norm = [&](const std::string& path, Norm& n) {
    visit(path + ".weight", n.weight);
    if (n.bias.defined()) visit(path + ".bias", n.bias);
  };
  visit("model.embed_tokens.weight", embedding);
  for_each_linear(linear);
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    norm(prefix + "input_layernorm", layers[i].input_norm);
    norm(prefix + "post_attention_layernorm", layers[i].post_attention_norm);
  }
  norm("model.norm", final_norm);
  if (!config_.tie_word_embeddings) linear("lm_head", head);
}

}  // namespace inoculum
