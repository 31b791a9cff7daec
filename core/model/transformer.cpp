#include "core/model/transformer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/base/error.h"
#include "core/model/device.h"
#include "core/model/families.h"
#include "core/model/kernels.h"
#include "core/model/recompute.h"

namespace inoculum {

int64_t TransformerConfig::parameter_count() const {
  int64_t count = 0;
  Transformer shape(*this);
  shape.for_each_parameter([&](const std::string&, Tensor& t) { count += t.numel(); });
  return count;
}

Tensor Linear::operator()(const Tensor& x) const {
  if (!lora) return linear_layer(x, weight, bias, pack);
  const Tensor rows = x.reshape({-1, x.size(-1)}).contiguous();
  Tensor y, gain;
  if (lora->ready && !c10::GradMode::is_enabled()) {
    y = linear_layer(rows, weight, {}, pack);
    add_low_rank(y, rows, lora->ready->update);
    gain = lora->ready->gain;
  } else {
    y = lora_linear(rows, weight, lora->a, lora->b, lora->scale);
    gain = lora->gain(weight);
  }
  if (gain.defined()) y = y * gain;
  if (bias.defined()) y = y + bias;
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  return y.view(shape);
}

Tensor LoraWeights::row_lengths(const Tensor& weight) const {
  const at::NoGradGuard no_grad;
  return at::addmm(weight.to(at::kFloat), b, a, 1, scale).norm(2, {1});
}

Tensor LoraWeights::gain(const Tensor& weight) const {
  return magnitude.defined() ? (magnitude / row_lengths(weight)).to(weight.scalar_type())
                             : Tensor();
}

KeyValueCache::KeyValueCache(const TransformerConfig& config, int64_t rows, int64_t cap,
                             at::TensorOptions options)
    : capacity(cap) {
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    for (auto* side : {&keys, &values})
      side->push_back(
          at::zeros({rows, config.num_key_value_heads, capacity, config.head_dim}, options));
}

KeyValueCache KeyValueCache::rows(int64_t begin, int64_t count) const {
  KeyValueCache view = *this;
  for (auto* side : {&view.keys, &view.values})
    for (Tensor& layer : *side) layer = layer.narrow(0, begin, count);
  return view;
}

void KeyValueCache::copy(const KeyValueCache& from, const std::vector<int64_t>& their_rows,
                         const std::vector<int64_t>& rows, int64_t length) {
  for (const auto side : {&KeyValueCache::keys, &KeyValueCache::values})
    for (size_t layer = 0; layer < keys.size(); ++layer)
      copy_cache((from.*side)[layer], their_rows, (this->*side)[layer], rows, length);
}

PaddedTexts::PaddedTexts(int64_t texts, int64_t time)
    : ids(at::zeros({texts, time}, at::kLong)), positions(at::full({texts, time}, -1, at::kLong)) {}

void PaddedTexts::put(int64_t row, std::span<const int32_t> tokens, int64_t first) {
  const int64_t begin = row * ids.size(1);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>() + begin);
  int64_t* const position = positions.data_ptr<int64_t>() + begin;
  std::iota(position, position + tokens.size(), first);
}

Transformer::Transformer(TransformerConfig config) : config_(std::move(config)) {
  check_model(config_);
  const auto& c = config_;
  const auto matrix = [](int64_t out, int64_t in) { return at::empty({out, in}, at::kFloat); };
  const auto linear = [&](int64_t out, int64_t in, bool bias) {
    return Linear{matrix(out, in), bias ? at::zeros({out}) : Tensor(), std::nullopt};
  };
  const auto norm = [&](int64_t size, bool bias) {
    return Norm{c.norm_plus_one ? at::zeros({size}) : at::ones({size}),
                bias ? at::zeros({size}) : Tensor()};
  };
  const bool norm_bias = c.norm == "layer";
  embedding = matrix(c.vocab_size, c.hidden_size);
  if (c.positions == "learned")
    position_embedding = matrix(c.max_position_embeddings, c.hidden_size);
  const int64_t query = c.num_attention_heads * c.head_dim,
                key = c.num_key_value_heads * c.head_dim;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    Layer layer;
    if (c.input_norms) {
      layer.attention_norm = norm(c.hidden_size, norm_bias);
      layer.mlp_norm = norm(c.hidden_size, norm_bias);
    }
    if (c.output_norms) {
      layer.attention_output_norm = norm(c.hidden_size, norm_bias);
      layer.mlp_output_norm = norm(c.hidden_size, norm_bias);
    }
    if (c.qk_norm) {
      layer.q_norm = norm(c.qk_norm_all_heads ? query : c.head_dim, false);
      layer.k_norm = norm(c.qk_norm_all_heads ? key : c.head_dim, false);
    }
    if (c.fused_qkv) {
      layer.qkv = linear(query + 2 * key, c.hidden_size, c.attention_bias);
    } else {
      layer.q = linear(query, c.hidden_size, c.attention_bias);
      layer.k = linear(key, c.hidden_size, c.attention_bias);
      layer.v = linear(key, c.hidden_size, c.attention_bias);
    }
    layer.o = linear(c.hidden_size, query, c.attention_output_bias);
    if (c.gated_mlp) layer.gate = linear(c.intermediate_size, c.hidden_size, c.mlp_bias);
    layer.up = linear(c.intermediate_size, c.hidden_size, c.mlp_bias);
    layer.down = linear(c.hidden_size, c.intermediate_size, c.mlp_bias);
    layers.push_back(std::move(layer));
  }
  final_norm = norm(c.hidden_size, norm_bias);
  if (!c.tie_word_embeddings) head = linear(c.vocab_size, c.hidden_size, false);
  if (c.positions != "rotary") return;
  rotary_ = rotary_of(c.rope_theta, c.rope_scaling);
  if (c.rope_local_base_freq > 0)
    local_rotary_ = rotary_of(c.rope_local_base_freq, c.rope_local_scaling);
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

// Frequencies in float32, step by step as transformers computes them: at far positions their
// rounding shows.
Transformer::Rotary Transformer::rotary_of(double theta, const RopeScaling& s) const {
  const int64_t dim = config_.rotary_dim > 0 ? config_.rotary_dim : config_.head_dim;
  const Tensor exponent = at::arange(0, dim / 2, at::kFloat) * 2 / static_cast<double>(dim);
  const Tensor wavelength = at::pow(at::scalar_tensor(theta, at::kFloat), exponent);  // over 2π
  Tensor frequency = at::reciprocal(wavelength);
  double magnitude = 1;
  const double original = static_cast<double>(s.original_max_position_embeddings);
  if (s.type == "linear") frequency = frequency / s.factor;
  if (s.type == "llama3") {
    const Tensor length = 2 * M_PI / frequency;
    const double longest = original / s.low_freq_factor, shortest = original / s.high_freq_factor;
    const Tensor share =
        (original / length - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
    const Tensor between = (1 - share) * frequency / s.factor + share * frequency;
    frequency = at::where(length > longest, frequency / s.factor,
                          at::where(length < shortest, frequency, between));
  }
  if (s.type == "yarn") {
    const auto dimension_of = [&](double turns) {
      return static_cast<double>(dim) * std::log(original / (turns * 2 * M_PI)) /
             (2 * std::log(theta));
    };
    double low = dimension_of(s.beta_fast), high = dimension_of(s.beta_slow);
    if (s.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, static_cast<double>(dim - 1));
    if (low == high) high += 0.001;
    const Tensor kept = 1 - ((at::arange(dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
    frequency = at::reciprocal(s.factor * wavelength) * (1 - kept) + frequency * kept;
    magnitude = s.attention_factor > 0 ? s.attention_factor
                : s.factor <= 1        ? 1
                                       : 0.1 * std::log(s.factor) + 1;
  }
  return {frequency, magnitude};
}

void Transformer::to(at::Device device, at::ScalarType dtype) {
  for_each_parameter([&](const std::string&, Tensor& parameter) {
    parameter = parameter.detach().to(at::TensorOptions(device).dtype(dtype));
  });
  for_each_linear([&](const std::string&, Linear& linear) {
    linear.pack = {};
    if (!linear.lora) return;
    linear.lora->ready.reset();
    for (Tensor* each : {&linear.lora->a, &linear.lora->b, &linear.lora->magnitude})
      if (each->defined()) *each = each->to(device);
  });
  packed_output_ = {};
  for (Rotary* each : {&rotary_, &local_rotary_})
    if (each->frequency.defined()) each->frequency = each->frequency.to(device);
}

Tensor Transformer::norm(const Norm& norm, const Tensor& x) const {
  if (!norm.weight.defined()) return x;
  if (config_.norm == "layer")
    return at::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, config_.norm_eps);
  return rms_norm(x, norm.weight, config_.norm_eps, config_.norm_plus_one);
}

Tensor Transformer::mlp(const Layer& layer, const Tensor& x) const {
  if (config_.gated_mlp && config_.hidden_act == "silu")
    return layer.down(swiglu(layer.gate(x), layer.up(x)));
  const auto activate = [&](const Tensor& t) {
    if (config_.hidden_act == "silu") return at::silu(t);
    if (config_.hidden_act == "relu") return at::relu(t);
    return at::gelu(t, config_.hidden_act == "gelu" ? "none" : "tanh");
  };
  return layer.down(config_.gated_mlp ? activate(layer.gate(x)) * layer.up(x)
                                      : activate(layer.up(x)));
}

// What all blocks of one forward pass share.
struct Transformer::Pass {
  int64_t batch, time;
  Tensor token;          // int64 [batch, time]: the places below
  Angles global, local;  // of those places; local: of sliding layers, where theirs are others
  Attend attend;
  Tensor kept;  // the places whose states are asked for, or undefined: all
};

// Of each token's place. A table of all places that the configuration allows would take gigabytes
// where texts may be a million tokens long.
Transformer::Angles Transformer::angles(const Rotary& rotary, const Tensor& positions) {
  if (!rotary.frequency.defined()) return {};
  const Tensor angle = positions.to(at::kFloat).reshape({-1, 1}) * rotary.frequency;
  return {angle.cos() * rotary.magnitude, angle.sin() * rotary.magnitude};
}

Tensor Transformer::block(size_t i, const Tensor& x, const Pass& pass) const {
  const TransformerConfig& c = config_;
  const Layer& layer = layers[i];
  // A norm sees rows as wide as it is: one head, or all.
  const auto heads = [&](const Tensor& t, const Norm& each) {  // → [batch, time, head, head_dim]
    const int64_t width = each.weight.defined() ? each.weight.size(0) : c.head_dim;
    return norm(each, t.contiguous().view({pass.batch, pass.time, -1, width}))
        .view({pass.batch, pass.time, -1, c.head_dim});
  };
  const auto rotated = [&](const Tensor& t) {
    const auto& [cosine, sine] =
        pass.local.cosine.defined() && slides(i) ? pass.local : pass.global;
    if (!cosine.defined()) return t;
    if (c.rotary_dim == 0) return rotary(t, cosine, sine, pass.token);
    const auto parts = t.split_with_sizes({c.rotary_dim, c.head_dim - c.rotary_dim}, -1);
    return at::cat({rotary(parts[0], cosine, sine, pass.token), parts[1]}, -1);
  };
  const int64_t query = c.num_attention_heads * c.head_dim,
                key = c.num_key_value_heads * c.head_dim;
  const Tensor h = norm(layer.attention_norm, x);
  const std::vector<Tensor> qkv = c.fused_qkv
                                      ? layer.qkv(h).split_with_sizes({query, key, key}, -1)
                                      : std::vector<Tensor>{layer.q(h), layer.k(h), layer.v(h)};
  const Tensor q = heads(qkv[0], layer.q_norm), k = heads(qkv[1], layer.k_norm),
               v = heads(qkv[2], {});
  const auto asked_for = [&](const Tensor& t) {  // nothing looks at the others behind this block
    const bool all = !pass.kept.defined() || i + 1 < layers.size();
    return all ? t : t.flatten(0, 1).index_select(0, pass.kept).unsqueeze(0);
  };
  const Tensor mixed =
      asked_for(pass.attend(i, rotated(q), rotated(k), v).reshape({pass.batch, pass.time, -1}));
  const Tensor before = asked_for(x);
  const Tensor after = before + norm(layer.attention_output_norm, layer.o(mixed));
  // In parallel both are given x.
  const Tensor inner = mlp(layer, norm(layer.mlp_norm, c.parallel_residual ? before : after));
  return after + norm(layer.mlp_output_norm, inner);
}

Tensor Transformer::blocks(const Tensor& input_ids, const Tensor& positions, const Tensor& kept,
                           Attend attend) const {
  const int64_t batch = input_ids.size(0), time = input_ids.size(1);
  Tensor x = at::embedding(embedding, input_ids);  // [batch, time, hidden]
  if (config_.embedding_scale != 1) x = x * at::scalar_tensor(config_.embedding_scale, x.options());
  if (position_embedding.defined()) x = x + at::embedding(position_embedding, positions);
  const auto pass = std::make_shared<const Pass>(
      Pass{batch, time, at::arange(batch * time, positions.options()).view({batch, time}),
           angles(rotary_, positions), angles(local_rotary_, positions), std::move(attend), kept});
  for (size_t i = 0; i < layers.size(); ++i) {
    if (recompute && c10::GradMode::is_enabled())
      x = recomputed([this, i, pass](const Tensor& t) { return block(i, t, *pass); }, x);
    else x = block(i, x, *pass);
  }
  return norm(final_norm, x);
}

AttentionRule Transformer::attention_rule(size_t layer) const {
  const TransformerConfig& c = config_;
  AttentionRule rule;
  rule.scale = c.scale_attn_weights
                   ? 1 / std::sqrt(c.query_pre_attn_scalar > 0 ? c.query_pre_attn_scalar
                                                               : static_cast<double>(c.head_dim))
                   : 1;
  if (c.scale_attn_by_inverse_layer_idx) rule.scale /= static_cast<double>(layer + 1);
  rule.softcap = c.attn_logit_softcapping;
  if (slides(layer)) rule.window = c.sliding_window;
  return rule;
}

bool Transformer::slides(size_t layer) const {
  if (config_.layer_types.empty()) return config_.sliding_window > 0;
  return config_.layer_types[layer] == "sliding_attention";
}

Tensor Transformer::hidden(const Tensor& input_ids, const std::vector<int64_t>& lengths,
                           const Tensor& kept) const {
  const int64_t batch = input_ids.size(0), time = input_ids.size(1);
  const int64_t longest =
      lengths.empty() ? time : *std::max_element(lengths.begin(), lengths.end());
  if (longest > config_.max_position_embeddings)
    throw Error("a text of " + std::to_string(longest) +
                " tokens is longer than the model's context of " +
                std::to_string(config_.max_position_embeddings));
  const auto blocks_of = [this, &kept](const Tensor& ids, const Tensor& positions,
                                       const std::shared_ptr<const TextGroups>& groups) {
    return blocks(ids, positions, kept,
                  [this, groups](size_t i, const Tensor& q, const Tensor& k, const Tensor& v) {
                    return groups ? causal_attention(q, k, v, attention_rule(i), *groups)
                                  : causal_attention(q, k, v, attention_rule(i));
                  });
  };
  const Tensor positions = at::arange(longest, input_ids.options());
  if (lengths.empty()) return blocks_of(input_ids, positions.expand({batch, time}), nullptr);
  // What the row lacks to one of few sizes is one more text, which nobody looks at.
  const int64_t more = input_ids.is_cpu() ? round_up(time, kTokenMultiple) - time : 0;
  std::vector<int64_t> padded = lengths;
  if (more > 0) padded.push_back(more);
  std::vector<Tensor> each;
  for (const int64_t length : lengths) each.push_back(positions.narrow(0, 0, length));
  if (more > 0) each.push_back(at::zeros({more}, positions.options()));
  const Tensor states =
      blocks_of(at::constant_pad_nd(input_ids, {0, more}), at::cat(each).unsqueeze(0),
                std::make_shared<TextGroups>(padded, input_ids.device()));
  return kept.defined() ? states : states.narrow(1, 0, time);
}

Tensor Transformer::hidden(const Tensor& input_ids, const Tensor& positions, KeyValueCache& cache,
                           const Tensor& kept) const {
  const int64_t batch = input_ids.size(0);
  const at::Device device = embedding.device();
  const Tensor tokens = positions.clamp_min(0);
  const int64_t seen = tokens.max().item<int64_t>() + 1;  // no slot in use is longer than this
  // Padding is written to the last place of the slot, which is never looked at (the sampler leaves
  // it free).
  const Tensor places = at::where(positions < 0, cache.capacity - 1, positions);
  const Tensor where = to_device(tokens, device), place = to_device(places, device);
  const auto past = [&](const Tensor& side) { return side.narrow(0, 0, batch).narrow(2, 0, seen); };
  const Tensor ids = to_device(input_ids, device);
  const Tensor asked = kept.defined() ? to_device(kept, device) : Tensor();
  return blocks(ids, where, asked,
                [&](size_t i, const Tensor& q, const Tensor& k, const Tensor& v) {
                  write_cache(cache.keys[i], k, place);
                  write_cache(cache.values[i], v, place);
                  return cached_attention(q, past(cache.keys[i]), past(cache.values[i]), where,
                                          attention_rule(i));
                });
}

Tensor Transformer::hidden_behind(const Tensor& input_ids, const std::vector<PromptedTexts>& groups,
                                  const Tensor& kept) const {
  std::vector<int64_t> positions;
  const auto count = [&](int64_t begin, int64_t tokens) {
    for (int64_t t = begin; t < begin + tokens; ++t) positions.push_back(t);
  };
  for (const PromptedTexts& group : groups) {
    count(0, group.prompt);
    for (const int64_t text : group.texts) count(group.prompt, text);
  }
  // What is left of the row is nobody's.
  const int64_t time = round_up(input_ids.size(1), kTokenMultiple);
  positions.resize(static_cast<size_t>(time));
  const at::Device device = embedding.device();
  return blocks(to_device(at::constant_pad_nd(input_ids, {0, time - input_ids.size(1)}), device),
                to_device(at::tensor(positions, at::kLong), device).unsqueeze(0),
                to_device(kept, device),
                [&](size_t i, const Tensor& q, const Tensor& k, const Tensor& v) {
                  return prompted_attention(q, k, v, attention_rule(i), groups);
                });
}

Tensor Transformer::logits(const Tensor& hidden) const {
  const Tensor logits = linear_layer(hidden, output_weight(), {}, packed_output_);
  return config_.final_logit_softcapping > 0
             ? config_.final_logit_softcapping * at::tanh(logits / config_.final_logit_softcapping)
             : logits;
}

Tensor Transformer::loss_sum(const Tensor& hidden, const Tensor& labels) const {
  return linear_cross_entropy_sum(hidden, output_weight(), labels, config_.final_logit_softcapping);
}

Tensor Transformer::losses(const Tensor& hidden, const Tensor& labels) const {
  return linear_cross_entropy(hidden, output_weight(), labels, config_.final_logit_softcapping);
}

void Transformer::pack() {
  for_each_linear([](const std::string&, Linear& linear) { linear.pack = packed(linear.weight); });
  packed_output_ = packed(output_weight());
}

void Transformer::for_each_linear(const std::function<void(const std::string&, Linear&)>& visit) {
  const ParameterNames& names = family(config_.family).names;
  for (size_t i = 0; i < layers.size(); ++i) {
    Layer& layer = layers[i];
    for (const auto& [module, linear] : {std::pair(&names.qkv, &layer.qkv),
                                         {&names.q, &layer.q},
                                         {&names.k, &layer.k},
                                         {&names.v, &layer.v},
                                         {&names.o, &layer.o},
                                         {&names.gate, &layer.gate},
                                         {&names.up, &layer.up},
                                         {&names.down, &layer.down}})
      if (linear->weight.defined()) visit(names.in_layer(i, *module), *linear);
  }
}

void Transformer::for_each_parameter(
    const std::function<void(const std::string&, Tensor&)>& visit) {
  const ParameterNames& names = family(config_.family).names;
  const auto linear = [&](const std::string& path, Linear& l) {
    visit(path + ".weight", l.weight);
    if (l.bias.defined()) visit(path + ".bias", l.bias);
  };
  const auto norm = [&](const std::string& path, Norm& n) {
    visit(path + ".weight", n.weight);
    if (n.bias.defined()) visit(path + ".bias", n.bias);
  };
  visit(names.embedding + ".weight", embedding);
  if (position_embedding.defined()) visit(names.position_embedding + ".weight", position_embedding);
  for_each_linear(linear);
  for (size_t i = 0; i < layers.size(); ++i) {
    Layer& layer = layers[i];
    for (const auto& [module, each] : {std::pair(&names.attention_norm, &layer.attention_norm),
                                       {&names.mlp_norm, &layer.mlp_norm},
                                       {&names.attention_output_norm, &layer.attention_output_norm},
                                       {&names.mlp_output_norm, &layer.mlp_output_norm},
                                       {&names.q_norm, &layer.q_norm},
                                       {&names.k_norm, &layer.k_norm}})
      if (each->weight.defined()) norm(names.in_layer(i, *module), *each);
  }
  norm(names.final_norm, final_norm);
  if (!config_.tie_word_embeddings) linear(names.head, head);
}

}  // namespace inoculum
