#include "core/model/attention.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/model/device.h"
#include "core/model/linear.h"
#include "core/model/parallel.h"
#include "core/model/vectors.h"

namespace inoculum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// ---- loops

// e^(score − the largest) of `count` scores, in place, and the sum. Whole vectors throughout: what
// stands behind the last score, up to a whole vector, is overwritten and adds nothing.
INLINE float exponentials(float* scores, int64_t count) {
  const int64_t whole = round_up(count, kVector);
  float top = -INFINITY, sum = 0;
  std::fill(scores + count, scores + whole, -INFINITY);
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < whole; ++i) top = top > scores[i] ? top : scores[i];
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < whole; ++i) {
    scores[i] = fast_exp(scores[i] - top);
    sum += scores[i];
  }
  return sum;
}

// Row `first + r` of a [time, time] score matrix: p = softmax(scale · s) over the columns 0 … row,
// 0 beyond.
template <class T>
INLINE void causal_softmax_forward(const T* s, T* p, float* row, int64_t first, int64_t rows,
                                   int64_t time, float scale) {
  for (int64_t r = 0; r < rows; ++r, s += time, p += time) {
    const int64_t n = (first + r) % time + 1;
    const int64_t loaded = std::min(round_up(n, kVector), time);  // whole vectors, where there are
#pragma omp simd
    for (int64_t i = 0; i < loaded; ++i) row[i] = scale * load(s[i]);
    const float inverse = 1.0f / exponentials(row, n);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(p[i], row[i] * inverse);
    std::fill(p + n, p + time, T{});
  }
}

// ds = scale · p · (dp − Σ p·dp)
template <class T>
INLINE void causal_softmax_backward(const T* p, const T* dp, T* ds, int64_t first, int64_t rows,
                                    int64_t time, float scale) {
  for (int64_t r = 0; r < rows; ++r, p += time, dp += time, ds += time) {
    // p is 0 behind the last score, so that a whole number of vectors gives the same.
    const int64_t n = std::min(round_up((first + r) % time + 1, kVector), time);
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < n; ++i) dot += load(p[i]) * load(dp[i]);
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(ds[i], scale * load(p[i]) * (load(dp[i]) - dot));
    std::fill(ds + n, ds + time, T{});
  }
}

// A cache of many rows is too large to be near, and each head's part too short to be foreseen.
template <class T>
INLINE void prefetch(const T* row, int64_t dim) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t d = 0; d < dim; d += line) __builtin_prefetch(row + d);
}

// What attend takes of `scratch`.
INLINE int64_t scratch_of_one(int64_t count, int64_t dim) {
  return round_up(dim, kVector) + round_up(count, kVector);
}

// One query over `count` cached keys and values: y = Σ softmax(scale · q·k) v. next_keys: those
// that the next call will read. kWide: of how many columns, a multiple of 16, values are summed at
// a time.
template <int64_t kWide, class T>
INLINE void attend(const T* q, const T* keys, const T* values, const T* next_keys, T* y,
                   float* scratch, int64_t count, int64_t dim, float scale) {
  const int64_t whole = dim / 16 * 16;  // columns in vectors
  float *query = scratch, *weights = query + round_up(dim, kVector);
  Eight a, b;
  spread(q, dim, scale, query);
  for (int64_t begin = 0; begin < count; begin += 8) {
    eight_dots(query, keys, begin, count, dim, a);
    std::memcpy(weights + begin, &a, sizeof(a));
    for (int64_t i = begin; i < std::min(begin + 8, count); ++i) prefetch(values + i * dim, dim);
  }

  const float inverse = 1.0f / exponentials(weights, count);
  for (int64_t begin = 0; begin < whole; begin += kWide) {
    Eight even[kWide / 16] = {}, odd[kWide / 16] = {};
    for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 4
      for (int64_t j = 0; j < kWide / 16; ++j) {
        split(values + i * dim + begin + 16 * j, a, b);
        even[j] += weights[i] * a;
        odd[j] += weights[i] * b;
      }
      if (begin == 0) prefetch(next_keys + i * dim, dim);
    }
    for (int64_t j = 0; j < kWide / 16; ++j)
      join(even[j] * inverse, odd[j] * inverse, y + begin + 16 * j);
  }
  for (int64_t d = whole; d < dim; ++d) {
    float sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += weights[i] * load(values[i * dim + d]);
    store(y[d], sum * inverse);
  }
}

// scale · q·k of `count` keys, and whatever stands in the rest of their last block. blocks: [block,
// dim, kVector], the keys of kVector tokens in each.
INLINE void dots(const float* q, const float* blocks, int64_t count, int64_t dim, float scale,
                 float* to) {
  for (int64_t begin = 0; begin < count; begin += kVector, blocks += dim * kVector) {
    float sum[kVector] = {};
    for (int64_t d = 0; d < dim; ++d)
#pragma omp simd
      for (int64_t i = 0; i < kVector; ++i) sum[i] += q[d] * blocks[d * kVector + i];
#pragma omp simd
    for (int64_t i = 0; i < kVector; ++i) to[begin + i] = scale * sum[i];
  }
}

// sum += Σ weight · value of `count` rows. values: [count, width], width a multiple of kVector.
INLINE void add_weighted(const float* weights, const float* values, int64_t count, int64_t width,
                         float* sum) {
  for (int64_t begin = 0; begin < width; begin += kVector) {
    const float* value = values + begin;
    float even[kVector] = {}, odd[kVector] = {};  // two, as each sum waits for its last addition
    int64_t i = 0;
    for (; i + 1 < count; i += 2, value += 2 * width)
#pragma omp simd
      for (int64_t d = 0; d < kVector; ++d) {
        even[d] += weights[i] * value[d];
        odd[d] += weights[i + 1] * value[width + d];
      }
    if (i < count)
#pragma omp simd
      for (int64_t d = 0; d < kVector; ++d) even[d] += weights[i] * value[d];
#pragma omp simd
    for (int64_t d = 0; d < kVector; ++d) sum[begin + d] += even[d] + odd[d];
  }
}

// What attend_behind takes of `scratch`.
INLINE int64_t scratch_behind(int64_t tokens, int64_t parts, int64_t dim) {
  const int64_t width = round_up(dim, kVector);
  return (tokens + parts * kVector) * dim + tokens * width + tokens + 2 * kVector + 2 * width;
}

// One head of a prompt and of the texts behind it, end to end: `ends` of each of these parts. A
// token's query, keys and values lie q_step and k_step from the last one's. Many queries read the
// same keys: so these are turned first, [block, dim, kVector], each part beginning a block, and no
// sum runs across a vector.
template <class T>
INLINE void attend_behind(const T* q, const T* k, const T* v, T* y, int64_t q_step, int64_t k_step,
                          const int64_t* ends, int64_t parts, float* scratch, int64_t dim,
                          float scale) {
  const int64_t tokens = ends[parts - 1], width = round_up(dim, kVector);
  float *keys = scratch, *values = keys + (tokens + parts * kVector) * dim,
        *query = values + tokens * width, *sum = query + width, *weights = sum + width;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t d = 0; d < dim; ++d) values[t * width + d] = load(v[t * k_step + d]);
  float* own_keys = keys;  // of the part
  for (int64_t part = 0, begin = 0; part < parts; begin = ends[part++]) {
    for (int64_t t = begin; t < ends[part]; ++t)
      for (int64_t d = 0; d < dim; ++d)
        own_keys[((t - begin) / kVector * dim + d) * kVector + (t - begin) % kVector] =
            load(k[t * k_step + d]);
    const int64_t before = part == 0 ? 0 : ends[0];
    for (int64_t t = begin; t < ends[part]; ++t) {
      for (int64_t d = 0; d < dim; ++d) query[d] = load(q[t * q_step + d]);
      const int64_t own = t - begin + 1;
      dots(query, keys, before, dim, scale, weights);
      dots(query, own_keys, own, dim, scale, weights + before);
      const float inverse = 1.0f / exponentials(weights, before + own);
      std::fill_n(sum, width, 0.0f);
      add_weighted(weights, values, before, width, sum);
      add_weighted(weights + before, values + begin * width, own, width, sum);
#pragma omp simd
      for (int64_t d = 0; d < dim; ++d) store(y[t * q_step + d], sum[d] * inverse);
    }
    own_keys += round_up(ends[part] - begin, kVector) * dim;
  }
}

#define INSTANTIATE(T)                                                                          \
  FOR_EACH_CPU void causal_softmax_forward_rows(const T* s, T* p, float* row, int64_t first,    \
                                                int64_t rows, int64_t time, float scale) {      \
    causal_softmax_forward(s, p, row, first, rows, time, scale);                                \
  }                                                                                             \
  FOR_EACH_CPU void causal_softmax_backward_rows(const T* p, const T* dp, T* ds, int64_t first, \
                                                 int64_t rows, int64_t time, float scale) {     \
    causal_softmax_backward(p, dp, ds, first, rows, time, scale);                               \
  }                                                                                             \
  FOR_EACH_CPU void attend_one(const T* q, const T* keys, const T* values, const T* next_keys,  \
                               T* y, float* scratch, int64_t count, int64_t dim, float scale) { \
    /* A width that the compiler knows keeps the sums in registers. */                          \
    if (dim == 32) attend<32>(q, keys, values, next_keys, y, scratch, count, 32, scale);        \
    else if (dim == 64) attend<64>(q, keys, values, next_keys, y, scratch, count, 64, scale);   \
    else if (dim == 128) attend<64>(q, keys, values, next_keys, y, scratch, count, 128, scale); \
    else attend<16>(q, keys, values, next_keys, y, scratch, count, dim, scale);                 \
  }                                                                                             \
  FOR_EACH_CPU void attend_texts(const T* q, const T* k, const T* v, T* y, int64_t q_step,      \
                                 int64_t k_step, const int64_t* ends, int64_t parts,            \
                                 float* scratch, int64_t dim, float scale) {                    \
    if (dim == 32) attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, 32, scale);  \
    else if (dim == 64)                                                                         \
      attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, 64, scale);               \
    else if (dim == 128)                                                                        \
      attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, 128, scale);              \
    else attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, dim, scale);           \
  }
INSTANTIATE(float)
INSTANTIATE(Bf16)
#undef INSTANTIATE

// ---- tensors

// Softmax of causally masked scores: [batch · head, time, time] → the same shape.
struct CausalSoftmax : Function<CausalSoftmax> {
  static Tensor forward(AutogradContext* context, const Tensor& scores, double scale) {
    const Tensor s = scores.contiguous();
    const int64_t time = s.size(-1), rows = s.numel() / time;
    Tensor p = at::empty_like(s);
    by_type(s, [&]<class T>(T) {
      parallel_ranges(rows, rows_a_thread(time), [&](int64_t begin, int64_t end) {
        std::vector<float> row(static_cast<size_t>(round_up(time, kVector)));
        causal_softmax_forward_rows(data<T>(s) + begin * time, data<T>(p) + begin * time,
                                    row.data(), begin, end - begin, time,
                                    static_cast<float>(scale));
      });
    });
    context->save_for_backward({p});
    context->saved_data["scale"] = scale;
    return p;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    once();
    const Tensor p = context->get_saved_variables()[0];
    const Tensor dp = gradients[0].contiguous();
    const auto scale = static_cast<float>(context->saved_data["scale"].toDouble());
    const int64_t time = p.size(-1), rows = p.numel() / time;
    Tensor ds = at::empty_like(p);
    by_type(p, [&]<class T>(T) {
      parallel_ranges(rows, rows_a_thread(time), [&](int64_t begin, int64_t end) {
        causal_softmax_backward_rows(data<T>(p) + begin * time, data<T>(dp) + begin * time,
                                     data<T>(ds) + begin * time, begin, end - begin, time, scale);
      });
    });
    return {ds, Tensor()};
  }
};

// Rows of x by an index, and their gradients by the inverse one, where rows of x that no entry of
// the index means are named in `unused`.
struct Rearrange : Function<Rearrange> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& index,
                        const Tensor& inverse, const Tensor& unused) {
    context->save_for_backward({inverse, unused});
    return x.index_select(0, index);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    once();
    const auto saved = context->get_saved_variables();
    Tensor dx = gradients[0].index_select(0, saved[0]);
    if (saved[1].numel() > 0) dx.index_fill_(0, saved[1], 0);
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

// Which keys a token sees, by how far behind it they lie.
Tensor visible(const Tensor& distance, const AttentionRule& rule) {
  return rule.window > 0 ? (distance >= 0).logical_and(distance < rule.window) : distance >= 0;
}

// By the formula, for rules that the fused kernels don't know. q: [batch, head, query, head_dim];
// visible: bool [..., query, key].
Tensor composed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& visible,
                          const AttentionRule& rule) {
  if (rule.softcap == 0)
    return at::scaled_dot_product_attention(q, k, v, visible, 0.0, false, rule.scale);
  const Tensor scores =
      rule.softcap * at::tanh(at::matmul(q, k.transpose(-2, -1)) * (rule.scale / rule.softcap));
  return at::matmul(at::softmax(widened(scores).masked_fill(visible.logical_not(), -INFINITY), -1)
                        .to(q.scalar_type()),
                    v);
}

}  // namespace

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionRule& rule) {
  const int64_t batch = q.size(0), time = q.size(1), heads = q.size(2), dim = q.size(3),
                groups = heads / k.size(2);
  // → [batch, head, time, head_dim]; a key/value head is repeated for each query head of its group
  const auto by_head = [&](const Tensor& x, int64_t repeat) {
    const Tensor t = x.transpose(1, 2);
    return repeat == 1 ? t : t.repeat_interleave(repeat, 1);
  };
  const Tensor queries = by_head(q, 1), keys = by_head(k, groups), values = by_head(v, groups);
  if (rule.softcap > 0 || (rule.window > 0 && rule.window < time))
    return composed_attention(
               queries, keys, values,
               visible(at::arange(time, q.device()).unsqueeze(1) - at::arange(time, q.device()),
                       rule),
               rule)
        .transpose(1, 2);
  // The score matrix of a long text would not fit a cache: there the streaming kernel is the better
  // one.
  if (!has_kernel(q) || time > 512)
    return at::scaled_dot_product_attention(queries, keys, values, {}, 0.0, true, rule.scale)
        .transpose(1, 2);
  const auto flat = [&](const Tensor& x) { return x.reshape({batch * heads, time, dim}); };
  const Tensor scores =
      at::bmm(flat(queries), flat(keys).transpose(1, 2));  // [batch · head, time, time]
  const Tensor weights = CausalSoftmax::apply(scores, rule.scale);
  return at::bmm(weights, flat(values)).view({batch, heads, time, dim}).transpose(1, 2);
}

// Texts are padded at their ends, where no token of theirs looks, to a multiple of 16, for few
// shapes (see round_up).
TextGroups::TextGroups(const std::vector<int64_t>& lengths, at::Device device) {
  constexpr int64_t kMultiple = 16;
  struct Text {
    int64_t start, length;
  };
  std::map<int64_t, std::vector<Text>> by_length;
  int64_t total = 0;
  for (const int64_t length : lengths) {
    by_length[round_up(length, kMultiple)].push_back({total, length});
    total += length;
  }
  std::vector<int64_t> there, back(static_cast<size_t>(total)), unused;
  for (const auto& [padded, texts] : by_length) {
    for (const Text& text : texts)
      for (int64_t t = 0; t < padded; ++t) {
        const auto place = static_cast<int64_t>(there.size());
        if (t < text.length) back[static_cast<size_t>(text.start + t)] = place;
        else unused.push_back(place);
        there.push_back(t < text.length ? text.start + t : 0);
      }
    padded_lengths.push_back(padded);
    sizes.push_back(padded * static_cast<int64_t>(texts.size()));
  }
  to_groups = to_device(at::tensor(there, at::kLong), device);
  to_row = to_device(at::tensor(back, at::kLong), device);
  padding = to_device(at::tensor(unused, at::kLong), device);
}

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionRule& rule, const TextGroups& groups) {
  const auto grouped = [&](const Tensor& x) {
    // The padding's gradients are dropped: no token of the row takes them.
    return Rearrange::apply(x.squeeze(0), groups.to_groups, groups.to_row,
                            at::empty({0}, at::kLong))
        .split_with_sizes(groups.sizes);
  };
  const auto queries = grouped(q), keys = grouped(k), values = grouped(v);
  std::vector<Tensor> attended;
  for (size_t i = 0; i < groups.sizes.size(); ++i) {
    const auto texts = [&](const Tensor& x) {
      return x.view({-1, groups.padded_lengths[i], x.size(1), x.size(2)});
    };  // [text, time, head, head_dim]
    attended.push_back(causal_attention(texts(queries[i]), texts(keys[i]), texts(values[i]), rule)
                           .reshape({-1, q.size(2), q.size(3)}));
  }
  return Rearrange::apply(at::cat(attended), groups.to_row, groups.to_groups, groups.padding)
      .unsqueeze(0);
}

void write_cache(const Tensor& cache, const Tensor& x, const Tensor& positions) {
  const int64_t rows = x.size(0), time = x.size(1), heads = x.size(2), dim = x.size(3);
  if (!has_kernel(x)) {
    const Tensor row = at::arange(rows, positions.options()).view({rows, 1}).expand({rows, time});
    // Advanced indices around a slice put the indexed dimensions first: [row, time, head,
    // head_dim].
    Tensor(cache).index_put_({row, at::indexing::Slice(), positions}, x);
    return;
  }
  const Tensor from = x.contiguous(), place = positions.contiguous();
  by_type(x, [&]<class T>(T) {
    // By whole rows: the padding of a row, at its end, all goes to one place.
    parallel_ranges(rows, rows_a_thread(time * heads * dim), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * time; i < end * time; ++i) {
        T* to =
            data<T>(cache) + i / time * cache.stride(0) + data<int64_t>(place)[i] * cache.stride(2);
        for (int64_t head = 0; head < heads; ++head)
          std::copy_n(data<T>(from) + (i * heads + head) * dim, dim, to + head * cache.stride(1));
      }
    });
  });
}

void copy_cache(const Tensor& from, const std::vector<int64_t>& their_rows, const Tensor& to,
                const std::vector<int64_t>& rows, int64_t length) {
  if (!to.is_cpu()) {
    const auto on_device = [&](const std::vector<int64_t>& x) {
      return to_device(at::tensor(x, at::kLong), to.device());
    };
    Tensor(to)
        .narrow(2, 0, length)
        .index_copy_(0, on_device(rows),
                     from.narrow(2, 0, length).index_select(0, on_device(their_rows)));
    return;
  }
  const int64_t heads = to.size(1), size = to.element_size();
  const auto bytes = static_cast<size_t>(length * to.size(3) * size);
  const auto part = [&](const Tensor& side, int64_t row, int64_t head) {
    return static_cast<char*>(side.data_ptr()) +
           (row * side.stride(0) + head * side.stride(1)) * size;
  };
  parallel_ranges(std::ssize(rows), 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      for (int64_t head = 0; head < heads; ++head)
        std::memcpy(part(to, rows[i], head), part(from, their_rows[i], head), bytes);
  });
}

Tensor cached_attention(const Tensor& q, const Tensor& keys, const Tensor& values,
                        const Tensor& positions, const AttentionRule& rule) {
  const int64_t rows = q.size(0), time = q.size(1), heads = q.size(2), dim = q.size(3),
                seen = keys.size(2), groups = heads / keys.size(1);
  if (!has_kernel(q, keys, values) || rule.softcap > 0) {
    const Tensor distance = positions.view({rows, 1, time, 1}) -
                            at::arange(seen, positions.options()).view({1, 1, 1, seen});
    const auto by_head = [&](const Tensor& side) {
      return groups == 1 ? side : side.repeat_interleave(groups, 1);
    };
    return composed_attention(q.transpose(1, 2), by_head(keys), by_head(values),
                              visible(distance, rule), rule)
        .transpose(1, 2);
  }
  const Tensor query = q.contiguous(), place = positions.contiguous();
  Tensor y = at::empty_like(query);
  const auto scale = static_cast<float>(rule.scale);
  by_type(q, [&]<class T>(T) {
    parallel_ranges(rows * time * heads, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(static_cast<size_t>(scratch_of_one(seen, dim)));
      for (int64_t i = begin; i < end; ++i) {
        const auto part = [&](const Tensor& side, int64_t of) {
          return data<T>(side) + of / heads / time * side.stride(0) +
                 of % heads / groups * side.stride(1);
        };
        const int64_t last = data<int64_t>(place)[i / heads],
                      first = rule.window > 0 ? std::max<int64_t>(0, last + 1 - rule.window) : 0;
        attend_one(data<T>(query) + i * dim, part(keys, i) + first * dim,
                   part(values, i) + first * dim, part(keys, std::min(i + 1, end - 1)),
                   data<T>(y) + i * dim, scratch.data(), last + 1 - first, dim, scale);
      }
    });
  });
  return y;
}

namespace {

int64_t longest_of(const PromptedTexts& group) {
  return group.prompt + (group.texts.empty() ? 0 : *std::ranges::max_element(group.texts));
}

// By the formula: every text of a group at once, padded, to the prompt and to itself.
void attend_composed(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule,
                     const PromptedTexts& group, int64_t begin, const Tensor& y) {
  const auto of_prompt = [&](const Tensor& x) { return x.narrow(1, begin, group.prompt); };
  y.narrow(0, begin, group.prompt)
      .copy_(causal_attention(of_prompt(q), of_prompt(k), of_prompt(v), rule)[0]);
  const int64_t texts = std::ssize(group.texts), prompt = group.prompt,
                longest = longest_of(group) - prompt;
  if (longest == 0) return;
  std::vector<int64_t> padded, places, tokens;  // places: of the tokens among the padded
  int64_t next = begin + prompt;
  for (int64_t text = 0; text < texts; ++text)
    for (int64_t t = 0; t < longest; ++t) {
      const bool is_token = t < group.texts[static_cast<size_t>(text)];
      if (is_token) {
        places.push_back(std::ssize(padded));
        tokens.push_back(next);
      }
      padded.push_back(is_token ? next++ : begin);
    }
  const auto device = q.device();
  const Tensor from = to_device(at::tensor(padded, at::kLong), device);
  const int64_t groups = q.size(2) / k.size(2);
  const auto own = [&](const Tensor& x) {  // [text, head, time, head_dim]
    return x[0].index_select(0, from).view({texts, longest, x.size(2), x.size(3)}).transpose(1, 2);
  };
  const auto all = [&](const Tensor& x) {  // of the prompt too, by query head
    const Tensor before =
        of_prompt(x).transpose(1, 2).expand({texts, x.size(2), prompt, x.size(3)});
    const Tensor both = at::cat({before, own(x)}, 2);
    return groups == 1 ? both : both.repeat_interleave(groups, 1);
  };
  const Tensor place = at::arange(prompt + longest, device),
               distance = place.narrow(0, prompt, longest).unsqueeze(1) - place;
  const Tensor mixed = composed_attention(own(q), all(k), all(v), visible(distance, rule), rule)
                           .transpose(1, 2)
                           .flatten(0, 1);
  Tensor(y).index_copy_(0, to_device(at::tensor(tokens, at::kLong), device),
                        mixed.index_select(0, to_device(at::tensor(places, at::kLong), device)));
}

}  // namespace

Tensor prompted_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                          const AttentionRule& rule, const std::vector<PromptedTexts>& groups) {
  Tensor y = at::empty(q.sizes(), q.options());
  std::vector<std::vector<int64_t>> ends;  // of each group's parts, from where it begins
  std::vector<int64_t> begins;
  int64_t used = 0, longest = 0;
  for (const PromptedTexts& group : groups) {
    longest = std::max(longest, longest_of(group));
    begins.push_back(used);
    auto& parts = ends.emplace_back(std::vector{group.prompt});
    for (const int64_t text : group.texts) parts.push_back(parts.back() + text);
    used += parts.back();
  }
  y.narrow(1, used, q.size(1) - used).zero_();
  if (!has_kernel(q) || rule.softcap > 0 || (rule.window > 0 && rule.window < longest)) {
    for (size_t i = 0; i < groups.size(); ++i)
      attend_composed(q, k, v, rule, groups[i], begins[i], y[0]);
    return y;
  }
  const int64_t heads = q.size(2), dim = q.size(3), repeat = heads / k.size(2);
  const Tensor queries = q.contiguous(), keys = k.contiguous(), values = v.contiguous();
  by_type(q, [&]<class T>(T) {
    parallel_ranges(std::ssize(groups) * heads, 1, [&](int64_t first, int64_t last) {
      std::vector<float> scratch;
      for (int64_t i = first; i < last; ++i) {
        const auto group = static_cast<size_t>(i / heads);
        const int64_t head = i % heads, parts = std::ssize(ends[group]), k_step = k.size(2) * dim;
        const auto needed = static_cast<size_t>(scratch_behind(ends[group].back(), parts, dim));
        scratch.resize(std::max(scratch.size(), needed));
        const int64_t of_query = begins[group] * heads * dim + head * dim,
                      of_key = begins[group] * k_step + head / repeat * dim;
        attend_texts(data<T>(queries) + of_query, data<T>(keys) + of_key, data<T>(values) + of_key,
                     data<T>(y) + of_query, heads * dim, k_step, ends[group].data(), parts,
                     scratch.data(), dim, static_cast<float>(rule.scale));
      }
    });
  });
  return y;
}

}  // namespace inoculum
