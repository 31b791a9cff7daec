#include "core/model/kernels.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>

#include "core/model/device.h"
#include "core/model/parallel.h"

namespace inoculum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Each kernel is compiled for three generations of x86 and the machine's own is taken at run time.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif
#define INLINE inline __attribute__((always_inline))

using Bf16 =
    uint16_t;  // bfloat16 by its bits: the compiler vectorises integer moves, not c10::BFloat16

INLINE float load(float x) { return x; }
INLINE float load(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }
INLINE void store(float& to, float x) { to = x; }
INLINE void store(Bf16& to, float x) {  // round to nearest, ties to even
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  to = static_cast<Bf16>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// e^x for −64 ≤ x ≤ 64 (beyond, as at the end) by 2^n · p(r), |r| ≤ ln 2 / 2, relative error below
// 2e-7: the Cephes polynomial. Nothing in it keeps the compiler from taking sixteen at a time.
// It ends at 64, where e^−x is nothing beside 1 in float, and not at 87: what is next computed with
// so small a number would be denormal, which takes an Intel processor a hundred cycles, and GCC
// computes it for every element, in case the end is reached.
INLINE float fast_exp(float x) {
  constexpr float to_whole = 12582912.0f;  // 1.5 · 2^23: adding it leaves no bits behind the point
  float clamped = x < -64.0f ? -64.0f : x;
  clamped = clamped > 64.0f ? 64.0f : clamped;
  const float n = (clamped * 1.44269504f + to_whole) - to_whole;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

constexpr int64_t kVector = 16;  // floats, at most

// ---- loops over rows, generic in the type, then one compiled instance a type

template <class T>
INLINE void rms_norm_forward(const T* x, const T* w, T* y, float* inverse, int64_t rows, int64_t n,
                             float eps) {
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    float square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < n; ++i) square += load(x[i]) * load(x[i]);
    const float scale = 1.0f / std::sqrt(square / static_cast<float>(n) + eps);
    inverse[r] = scale;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) store(y[i], load(x[i]) * scale * load(w[i]));
  }
}

// dx = s·(w·g) − x·s³/n·Σ(w·g·x);  dw += g·x·s
template <class T>
INLINE void rms_norm_backward(const T* x, const T* w, const T* g, const float* inverse, T* dx,
                              float* dw, int64_t rows, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += n, g += n, dx += n) {
    const float s = inverse[r];
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t i = 0; i < n; ++i) dot += load(w[i]) * load(g[i]) * load(x[i]);
    const float back = s * s * s / static_cast<float>(n) * dot;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      store(dx[i], s * load(w[i]) * load(g[i]) - back * load(x[i]));
      dw[i] += load(g[i]) * load(x[i]) * s;
    }
  }
}

// sign = +1 forward, −1 backward (a rotation's transpose is its inverse).
template <class T>
INLINE void rotate(const T* x, const float* cosine, const float* sine, const int64_t* positions,
                   T* y, int64_t tokens, int64_t heads, int64_t half, float sign) {
  for (int64_t t = 0; t < tokens; ++t) {
    const float* c = cosine + positions[t] * half;
    const float* s = sine + positions[t] * half;
    for (int64_t h = 0; h < heads; ++h, x += 2 * half, y += 2 * half) {
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        const float a = load(x[i]), b = load(x[i + half]);
        store(y[i], a * c[i] - sign * b * s[i]);
        store(y[i + half], b * c[i] + sign * a * s[i]);
      }
    }
  }
}

template <class T>
INLINE void swiglu_forward(const T* gate, const T* up, T* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = load(gate[i]);
    const float sigmoid = 1.0f / (1.0f + fast_exp(-g));
    store(y[i], g * sigmoid * load(up[i]));
  }
}

template <class T>
INLINE void swiglu_backward(const T* gate, const T* up, const T* dy, T* dgate, T* dup, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = load(gate[i]), d = load(dy[i]);
    const float sigmoid = 1.0f / (1.0f + fast_exp(-g));
    store(dup[i], d * g * sigmoid);
    store(dgate[i], d * load(up[i]) * sigmoid * (1.0f + g * (1.0f - sigmoid)));
  }
}

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

// Eight floats: one register of AVX2, two of SSE. They go by reference, as a processor's
// instructions decide how a function would return them.
using Eight = float __attribute__((vector_size(32)));

// Sixteen numbers as two vectors: of float the first eight and the last, of bfloat16 those in even
// places and those in odd ones, which takes a shift and a mask and no shuffle.
INLINE void split(const float* from, Eight& a, Eight& b) {
  std::memcpy(&a, from, sizeof(a));
  std::memcpy(&b, from + 8, sizeof(b));
}
INLINE void split(const Bf16* from, Eight& a, Eight& b) {
  using Words = uint32_t __attribute__((vector_size(32)));
  Words pairs;
  std::memcpy(&pairs, from, sizeof(pairs));
  const Words even = pairs << 16, odd = pairs & 0xFFFF0000;
  std::memcpy(&a, &even, sizeof(a));
  std::memcpy(&b, &odd, sizeof(b));
}
INLINE void join(const Eight& a, const Eight& b, float* to) {
  std::memcpy(to, &a, sizeof(a));
  std::memcpy(to + 8, &b, sizeof(b));
}
INLINE void join(const Eight& a, const Eight& b, Bf16* to) {
  for (int64_t i = 0; i < 8; ++i) {
    store(to[2 * i], a[i]);
    store(to[2 * i + 1], b[i]);
  }
}

// The sum over the lanes of each of eight vectors: three times the halves of two vectors, or of
// their parts, are added into one.
INLINE void sum_lanes(Eight* v, Eight& sums) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    v[i] = __builtin_shufflevector(v[i], v[i + 4], 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(v[i], v[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    v[i] = __builtin_shufflevector(v[i], v[i + 2], 0, 1, 8, 9, 4, 5, 12, 13) +
           __builtin_shufflevector(v[i], v[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  sums = __builtin_shufflevector(v[0], v[1], 0, 8, 2, 10, 4, 12, 6, 14) +
         __builtin_shufflevector(v[0], v[1], 1, 9, 3, 11, 5, 13, 7, 15);
}

// A cache of many rows is too large to be near, and each head's part too short to be foreseen.
template <class T>
INLINE void prefetch(const T* row, int64_t dim) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t d = 0; d < dim; d += line) __builtin_prefetch(row + d);
}

// A row as floats in the order in which `split` gives them.
template <class T>
INLINE void spread(const T* row, int64_t dim, float scale, float* to) {
  const int64_t whole = dim / 16 * 16;  // columns in vectors
  Eight a, b;
  for (int64_t d = 0; d < whole; d += 16) {
    split(row + d, a, b);
    join(a * scale, b * scale, to + d);
  }
  for (int64_t d = whole; d < dim; ++d) to[d] = load(row[d]) * scale;
}

// The dot products of a spread row with eight of `rows`, [count, dim], from `begin` on. Where there
// are fewer, the last one is taken again.
template <class T>
INLINE void eight_dots(const float* row, const T* rows, int64_t begin, int64_t count, int64_t dim,
                       Eight& dots) {
  const int64_t whole = dim / 16 * 16;  // columns in vectors
  Eight sums[8];
#pragma GCC unroll 8
  for (int64_t i = 0; i < 8; ++i) {
    const T* other = rows + std::min(begin + i, count - 1) * dim;
    Eight first = {}, second = {}, a, b, c, d;
    for (int64_t at = 0; at < whole; at += 16) {
      split(other + at, a, b);
      split(row + at, c, d);
      first += a * c;
      second += b * d;
    }
    sums[i] = first + second;
    for (int64_t at = whole; at < dim; ++at) sums[i][0] += load(other[at]) * row[at];
  }
  sum_lanes(sums, dots);
}

// y = x wᵀ + bias of a few rows, for the outputs first … last − 1. x: [row, in], spread; w: [out,
// in]; bias: [out] or null; y: [row, out].
template <class T>
INLINE void few_rows(const float* x, const T* w, const T* bias, T* y, int64_t rows, int64_t in,
                     int64_t out, int64_t first, int64_t last) {
  for (int64_t begin = first; begin < last; begin += 8)
    for (int64_t r = 0; r < rows; ++r) {
      Eight dots;
      eight_dots(x + r * in, w, begin, out, in, dots);
      for (int64_t o = begin; o < std::min(begin + 8, last); ++o)
        store(y[r * out + o], dots[o - begin] + (bias != nullptr ? load(bias[o]) : 0.0f));
    }
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

// Loss of one row; writes softmax − onehot, the gradient of that loss, over `gradient`.
template <class T>
INLINE double cross_entropy_row(const T* logits, int64_t label, T* gradient, float* row,
                                int64_t n) {
  float top = -INFINITY;
  double sum = 0;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < n; ++i) {
    row[i] = load(logits[i]);
    top = top > row[i] ? top : row[i];
  }
  const float target = row[label];
  // In float a sum over a large vocabulary would lose its small terms: blocks are summed in double.
  constexpr int64_t block = 256;
  for (int64_t begin = 0; begin < n; begin += block) {
    const int64_t end = std::min(begin + block, n);
    float part = 0;
#pragma omp simd reduction(+ : part)
    for (int64_t i = begin; i < end; ++i) {
      row[i] = fast_exp(row[i] - top);
      part += row[i];
    }
    sum += static_cast<double>(part);
  }
  const float inverse = 1.0f / static_cast<float>(sum);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) store(gradient[i], row[i] * inverse);
  store(gradient[label], row[label] * inverse - 1.0f);
  return std::log(sum) + static_cast<double>(top) - static_cast<double>(target);
}

#define INSTANTIATE(T)                                                                           \
  FOR_EACH_CPU void rms_norm_forward_rows(const T* x, const T* w, T* y, float* inverse,          \
                                          int64_t rows, int64_t n, float eps) {                  \
    rms_norm_forward(x, w, y, inverse, rows, n, eps);                                            \
  }                                                                                              \
  FOR_EACH_CPU void rms_norm_backward_rows(const T* x, const T* w, const T* g,                   \
                                           const float* inverse, T* dx, float* dw, int64_t rows, \
                                           int64_t n) {                                          \
    rms_norm_backward(x, w, g, inverse, dx, dw, rows, n);                                        \
  }                                                                                              \
  FOR_EACH_CPU void rotate_rows(const T* x, const float* c, const float* s,                      \
                                const int64_t* positions, T* y, int64_t tokens, int64_t heads,   \
                                int64_t half, float sign) {                                      \
    rotate(x, c, s, positions, y, tokens, heads, half, sign);                                    \
  }                                                                                              \
  FOR_EACH_CPU void swiglu_forward_rows(const T* gate, const T* up, T* y, int64_t n) {           \
    swiglu_forward(gate, up, y, n);                                                              \
  }                                                                                              \
  FOR_EACH_CPU void swiglu_backward_rows(const T* gate, const T* up, const T* dy, T* dgate,      \
                                         T* dup, int64_t n) {                                    \
    swiglu_backward(gate, up, dy, dgate, dup, n);                                                \
  }                                                                                              \
  FOR_EACH_CPU void causal_softmax_forward_rows(const T* s, T* p, float* row, int64_t first,     \
                                                int64_t rows, int64_t time, float scale) {       \
    causal_softmax_forward(s, p, row, first, rows, time, scale);                                 \
  }                                                                                              \
  FOR_EACH_CPU void causal_softmax_backward_rows(const T* p, const T* dp, T* ds, int64_t first,  \
                                                 int64_t rows, int64_t time, float scale) {      \
    causal_softmax_backward(p, dp, ds, first, rows, time, scale);                                \
  }                                                                                              \
  FOR_EACH_CPU void spread_row(const T* row, int64_t dim, float* to) {                           \
    spread(row, dim, 1.0f, to);                                                                  \
  }                                                                                              \
  FOR_EACH_CPU void few_rows_of(const float* x, const T* w, const T* bias, T* y, int64_t rows,   \
                                int64_t in, int64_t out, int64_t first, int64_t last) {          \
    few_rows(x, w, bias, y, rows, in, out, first, last);                                         \
  }                                                                                              \
  FOR_EACH_CPU void attend_one(const T* q, const T* keys, const T* values, const T* next_keys,   \
                               T* y, float* scratch, int64_t count, int64_t dim, float scale) {  \
    /* A width that the compiler knows keeps the sums in registers. */                           \
    if (dim == 32) attend<32>(q, keys, values, next_keys, y, scratch, count, 32, scale);         \
    else if (dim == 64) attend<64>(q, keys, values, next_keys, y, scratch, count, 64, scale);    \
    else if (dim == 128) attend<64>(q, keys, values, next_keys, y, scratch, count, 128, scale);  \
    else attend<16>(q, keys, values, next_keys, y, scratch, count, dim, scale);                  \
  }                                                                                              \
  FOR_EACH_CPU void attend_texts(const T* q, const T* k, const T* v, T* y, int64_t q_step,       \
                                 int64_t k_step, const int64_t* ends, int64_t parts,             \
                                 float* scratch, int64_t dim, float scale) {                     \
    if (dim == 32) attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, 32, scale);   \
    else if (dim == 64)                                                                          \
      attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, 64, scale);                \
    else if (dim == 128)                                                                         \
      attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, 128, scale);               \
    else attend_behind(q, k, v, y, q_step, k_step, ends, parts, scratch, dim, scale);            \
  }                                                                                              \
  FOR_EACH_CPU double cross_entropy_one(const T* logits, int64_t label, T* gradient, float* row, \
                                        int64_t n) {                                             \
    return cross_entropy_row(logits, label, gradient, row, n);                                   \
  }
INSTANTIATE(float)
INSTANTIATE(Bf16)
#undef INSTANTIATE

// ---- tensors

template <class T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

bool has_kernel(const Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

// Calls `body` with a value of the kernel's element type.
template <class Body>
void by_type(const Tensor& x, Body&& body) {
  if (x.scalar_type() == at::kFloat) body(float{});
  else body(Bf16{});
}

// Sums and exponentials of the composed formulas: in float at least.
Tensor widened(const Tensor& x) { return x.to(at::promoteTypes(x.scalar_type(), at::kFloat)); }

// The fewest rows that are worth a thread.
int64_t rows_a_thread(int64_t columns) {
  return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, columns));
}

struct RmsNorm : Function<RmsNorm> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight,
                        double eps) {
    const Tensor x = input.contiguous();
    const int64_t n = x.size(-1), rows = x.numel() / n;
    Tensor y = at::empty_like(x), inverse = at::empty({rows}, x.options().dtype(at::kFloat));
    by_type(x, [&]<class T>(T) {
      parallel_ranges(rows, rows_a_thread(n), [&](int64_t begin, int64_t end) {
        rms_norm_forward_rows(data<T>(x) + begin * n, data<T>(weight), data<T>(y) + begin * n,
                              data<float>(inverse) + begin, end - begin, n,
                              static_cast<float>(eps));
      });
    });
    context->save_for_backward({x, weight, inverse});
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &inverse = saved[2];
    const Tensor g = gradients[0].contiguous();
    const int64_t n = x.size(-1), rows = x.numel() / n;
    // The weight's gradient is summed over shares of rows, then over shares in order.
    constexpr int64_t shares = 8;
    Tensor dx = at::empty_like(x), dw = at::zeros({shares, n}, inverse.options());
    by_type(x, [&]<class T>(T) {
      parallel_ranges(shares, 1, [&](int64_t first, int64_t last) {
        for (int64_t share = first; share < last; ++share) {
          const int64_t begin = rows * share / shares, end = rows * (share + 1) / shares;
          rms_norm_backward_rows(data<T>(x) + begin * n, data<T>(weight), data<T>(g) + begin * n,
                                 data<float>(inverse) + begin, data<T>(dx) + begin * n,
                                 data<float>(dw) + share * n, end - begin, n);
        }
      });
    });
    return {dx, dw.sum(0).to(weight.scalar_type()), Tensor()};
  }
};

struct Rotary : Function<Rotary> {
  static Tensor apply_sign(const Tensor& input, const Tensor& cosine, const Tensor& sine,
                           const Tensor& positions, float sign) {
    const Tensor x = input.contiguous();
    const int64_t tokens = x.size(0) * x.size(1), heads = x.size(2), half = x.size(3) / 2;
    Tensor y = at::empty_like(x);
    by_type(x, [&]<class T>(T) {
      parallel_ranges(tokens, rows_a_thread(heads * half * 2), [&](int64_t begin, int64_t end) {
        const int64_t offset = begin * heads * half * 2;
        rotate_rows(data<T>(x) + offset, data<float>(cosine), data<float>(sine),
                    data<int64_t>(positions) + begin, data<T>(y) + offset, end - begin, heads, half,
                    sign);
      });
    });
    return y;
  }
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& cosine,
                        const Tensor& sine, const Tensor& positions) {
    context->save_for_backward({cosine, sine, positions});
    return apply_sign(x, cosine, sine, positions, 1.0f);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    return {apply_sign(gradients[0], saved[0], saved[1], saved[2], -1.0f), Tensor(), Tensor(),
            Tensor()};
  }
};

struct SwiGlu : Function<SwiGlu> {
  static Tensor forward(AutogradContext* context, const Tensor& gate_input,
                        const Tensor& up_input) {
    const Tensor gate = gate_input.contiguous(), up = up_input.contiguous();
    Tensor y = at::empty_like(gate);
    by_type(gate, [&]<class T>(T) {
      parallel_ranges(gate.numel(), 8192, [&](int64_t begin, int64_t end) {
        swiglu_forward_rows(data<T>(gate) + begin, data<T>(up) + begin, data<T>(y) + begin,
                            end - begin);
      });
    });
    context->save_for_backward({gate, up});
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1];
    const Tensor dy = gradients[0].contiguous();
    Tensor dgate = at::empty_like(gate), dup = at::empty_like(up);
    by_type(gate, [&]<class T>(T) {
      parallel_ranges(gate.numel(), 8192, [&](int64_t begin, int64_t end) {
        swiglu_backward_rows(data<T>(gate) + begin, data<T>(up) + begin, data<T>(dy) + begin,
                             data<T>(dgate) + begin, data<T>(dup) + begin, end - begin);
      });
    });
    return {dgate, dup};
  }
};

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
    const auto saved = context->get_saved_variables();
    Tensor dx = gradients[0].index_select(0, saved[0]);
    if (saved[1].numel() > 0) dx.index_fill_(0, saved[1], 0);
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

struct LoraLinear : Function<LoraLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const Tensor& a, const Tensor& b, double scale) {
    const Tensor low = at::mm(x, a.to(x.scalar_type()).t());  // [row, rank]
    Tensor y = at::mm(x, weight.t());
    y.addmm_(low, (b * scale).to(x.scalar_type()).t());
    context->save_for_backward({x, weight, a, b, low});
    context->saved_data["scale"] = scale;
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &low = saved[4],
                 &g = gradients[0];
    const double scale = context->saved_data["scale"].toDouble();
    const Tensor g_low = at::mm(g, (b * scale).to(g.scalar_type()));  // [row, rank]
    Tensor dx;
    if (context->needs_input_grad(0)) dx = at::mm(g, weight).addmm_(g_low, a.to(g.scalar_type()));
    return {dx, Tensor(), at::mm(g_low.t(), x).to(a.scalar_type()),
            at::mm(g.t(), low).to(b.scalar_type()) * scale, Tensor()};
  }
};

// Losses of the rows of z, [row] in double; z becomes their gradients.
Tensor cross_entropy_rows(Tensor& z, const Tensor& labels) {
  const int64_t n = z.size(-1), rows = labels.numel();
  if (!has_kernel(z)) {
    const Tensor log_p = at::log_softmax(widened(z), -1), kept = labels >= 0,
                 index = labels.clamp_min(0).unsqueeze(1);
    z = log_p.exp()
            .scatter_add(1, index, at::full_like(index, -1, log_p.options()))
            .mul_(kept.unsqueeze(1))
            .to(z.scalar_type());
    return -log_p.gather(1, index).squeeze(1).mul(kept).to(at::kDouble);
  }
  Tensor losses = at::zeros({rows}, at::kDouble);
  by_type(z, [&]<class T>(T) {
    parallel_ranges(rows, rows_a_thread(n), [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(n));
      for (int64_t r = begin; r < end; ++r) {
        const int64_t label = data<int64_t>(labels)[r];
        T* const values = data<T>(z) + r * n;
        if (label < 0) std::fill(values, values + n, T{});
        else data<double>(losses)[r] = cross_entropy_one(values, label, values, row.data(), n);
      }
    });
  });
  return losses;
}

constexpr int64_t kRowBlock = 512;  // rows of a block of a large product

// y = x Wᵀ + bias without a gradient, on the CPU. x: [row, in], y: [row, out]. Large products are
// cut into blocks.
void linear_layer_into(const Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
  const auto product = [&](Tensor to, const Tensor& from, int64_t begin, int64_t count) {
    const Tensor w = weight.narrow(0, begin, count).t();
    if (bias.defined()) at::addmm_out(to, bias.narrow(0, begin, count), from, w);
    else at::mm_out(to, from, w);
  };
  // Many rows: blocks of rows. Few: blocks of outputs, wide enough for a thread to have something
  // to do.
  if (rows * in * out < (1 << 24) && in * out < (1 << 20)) {
    product(y, x, 0, out);
  } else if (rows >= 2 * kRowBlock) {
    parallel((rows + kRowBlock - 1) / kRowBlock, [&](int64_t block) {
      const int64_t begin = block * kRowBlock, count = std::min(kRowBlock, rows - begin);
      product(y.narrow(0, begin, count), x.narrow(0, begin, count), 0, out);
    });
  } else {
    const int64_t wide = std::max<int64_t>(256, std::min((int64_t{1} << 23) / (rows * in),
                                                         (int64_t{1} << 19) / in)) /
                         64 * 64;
    parallel((out + wide - 1) / wide, [&](int64_t block) {
      const int64_t begin = block * wide, count = std::min(wide, out - begin);
      product(y.narrow(1, begin, count), x, begin, count);
    });
  }
}

// So few rows that reading the weight once is all there is to do: a library's call, which looks up
// and prepares the product, takes as long.
bool are_few(const Tensor& x) {
  return has_kernel(x) && x.size(0) <= (x.scalar_type() == at::kFloat ? 4 : 2);
}

// y = x Wᵀ + bias without a gradient. x: [row, in], y: [row, out].
void few_rows_into(const Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
  by_type(x, [&]<class T>(T) {
    std::vector<float> spread(static_cast<size_t>(rows * in));
    for (int64_t r = 0; r < rows; ++r) spread_row(data<T>(x) + r * in, in, spread.data() + r * in);
    const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / in / 8) * 8;
    parallel_ranges(out, grain, [&](int64_t first, int64_t last) {
      few_rows_of(spread.data(), data<T>(weight), bias.defined() ? data<T>(bias) : nullptr,
                  data<T>(y), rows, in, out, first, last);
    });
  });
}

// These two have no function of their own in LibTorch's headers.
Tensor packed_block(const Tensor& weight) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mkldnn::_reorder_linear_weight", "")
                             .typed<Tensor(const Tensor&, std::optional<c10::SymInt>)>();
  constexpr int64_t kRows = 64;  // the order is good for any number of rows
  return op.call(weight, kRows);
}

Tensor packed_product(const Tensor& x, const Tensor& block, const std::optional<Tensor>& bias) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
          .typed<Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&,
                        c10::string_view, c10::List<std::optional<at::Scalar>>,
                        std::optional<c10::string_view>)>();
  return op.call(x, block, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// y = x Wᵀ + bias. x: [row, in] → [row, out]
Tensor packed_linear(const Tensor& x, const PackedWeight& pack, const Tensor& weight,
                     const Tensor& bias) {
  const int64_t rows = x.size(0), out = weight.size(0);
  const auto outputs = static_cast<int64_t>(pack.blocks.size());
  const auto bias_of = [&](int64_t begin, int64_t count) {
    return bias.defined() ? std::optional(bias.narrow(0, begin, count)) : std::nullopt;
  };
  if (outputs == 1 && rows <= kRowBlock) return packed_product(x, pack.blocks[0], bias_of(0, out));
  const Tensor y = at::empty({rows, out}, x.options());
  const auto piece = [&](int64_t i) {
    const int64_t row = i / outputs * kRowBlock, height = std::min(kRowBlock, rows - row),
                  begin = i % outputs * pack.width, count = std::min(pack.width, out - begin);
    y.narrow(0, row, height)
        .narrow(1, begin, count)
        .copy_(packed_product(x.narrow(0, row, height),
                              pack.blocks[static_cast<size_t>(i % outputs)],
                              bias_of(begin, count)));
  };
  parallel((rows + kRowBlock - 1) / kRowBlock * outputs, piece);
  return y;
}

// use(begin, count) for so many rows at a time that their logits fit: [row, vocabulary] may not.
template <class Use>
void for_each_chunk(int64_t rows, int64_t vocabulary, Use&& use) {
  constexpr int64_t kLogits = 1 << 24;
  const int64_t chunk = std::max<int64_t>(64, kLogits / vocabulary);
  for (int64_t begin = 0; begin < rows; begin += chunk) use(begin, std::min(chunk, rows - begin));
}

// The gradients are made in forward, while the logits of a chunk are there.
struct LinearCrossEntropySum : Function<LinearCrossEntropySum> {
  static Tensor forward(AutogradContext* context, const Tensor& hidden, const Tensor& weight,
                        const Tensor& labels, double softcap) {
    std::vector<Tensor> losses, by_hidden;
    Tensor by_weight;
    for_each_chunk(hidden.size(0), weight.size(0), [&](int64_t begin, int64_t count) {
      const Tensor h = hidden.narrow(0, begin, count);
      Tensor z = at::linear(h, weight), slope;
      if (softcap > 0) {
        z.div_(softcap).tanh_();
        slope = 1 - z.square();
        z.mul_(softcap);
      }
      losses.push_back(cross_entropy_rows(z, labels.narrow(0, begin, count)));
      if (softcap > 0) z.mul_(slope);
      if (hidden.requires_grad()) by_hidden.push_back(z.mm(weight));
      if (!weight.requires_grad()) return;
      if (count == hidden.size(0)) by_weight = z.t().mm(h);
      else if (!by_weight.defined()) by_weight = widened(z.t().mm(h));
      else by_weight.add_(z.t().mm(h));
    });
    context->save_for_backward(
        {hidden.requires_grad() ? at::cat(by_hidden) : Tensor(),
         by_weight.defined() ? by_weight.to(weight.scalar_type()) : Tensor()});
    return at::cat(losses).sum().to(hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const auto times = [&](const Tensor& x) {
      return x.defined() ? x * gradients[0].to(x.scalar_type()) : Tensor();
    };
    return {times(saved[0]), times(saved[1]), Tensor(), Tensor()};
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

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, bool plus_one) {
  if (plus_one) {
    const Tensor wide = widened(x);
    return (wide * at::rsqrt(wide.square().mean(-1, true) + eps) * (1 + widened(weight)))
        .to(x.scalar_type());
  }
  if (has_kernel(x)) return RmsNorm::apply(x, weight, eps);
  const Tensor wide = widened(x);
  return (wide * at::rsqrt(wide.square().mean(-1, true) + eps)).to(x.scalar_type()) * weight;
}

Tensor rotary(const Tensor& x, const Tensor& cosine, const Tensor& sine, const Tensor& positions) {
  if (has_kernel(x)) return Rotary::apply(x, cosine, sine, positions.contiguous());
  const auto table = [&](const Tensor& t) {  // → [batch, time, 1, head_dim]
    const Tensor rows = t.index_select(0, positions.flatten()).view({x.size(0), x.size(1), 1, -1});
    return at::cat({rows, rows}, -1).to(x.scalar_type());
  };
  const auto halves = x.chunk(2, -1);
  return x * table(cosine) + at::cat({-halves[1], halves[0]}, -1) * table(sine);
}

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  return has_kernel(gate) ? SwiGlu::apply(gate, up) : at::silu(gate) * up;
}

PackedWeight packed(const Tensor& weight) {
  const at::NoGradGuard no_grad;
  // oneDNN refuses it by kind of processor and by settings of its own, so ask it.
  static const bool possible = [] {
    try {
      packed_block(at::zeros({64, 64}, at::kBFloat16));
      return true;
    } catch (const c10::Error&) {
      return false;
    }
  }();
  if (!possible || !weight.device().is_cpu() || weight.scalar_type() != at::kBFloat16) return {};
  // Wide enough to be worth a call, and narrow enough for threads to share them.
  const int64_t out = weight.size(0), in = weight.size(1),
                least = std::max((int64_t{1} << 17) / in, std::min<int64_t>(out / 16, 2048));
  PackedWeight pack{.width = std::max<int64_t>(256, least / 64 * 64)};
  for (int64_t begin = 0; begin < out; begin += pack.width)
    pack.blocks.push_back(
        packed_block(weight.narrow(0, begin, std::min(pack.width, out - begin)).contiguous()));
  return pack;
}

Tensor linear_layer(const Tensor& x, const Tensor& weight, const Tensor& bias,
                    const PackedWeight& pack) {
  if (c10::GradMode::is_enabled() || !x.device().is_cpu())
    return at::linear(x, weight, bias.defined() ? std::optional<Tensor>(bias) : std::nullopt);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const Tensor rows = x.reshape({-1, weight.size(1)});
  const bool few = are_few(rows) && weight.is_contiguous();
  if (!few && !pack.blocks.empty()) return packed_linear(rows, pack, weight, bias).view(shape);
  const Tensor y = at::empty({rows.size(0), weight.size(0)}, x.options());
  if (few) few_rows_into(y, rows.contiguous(), weight, bias);
  else linear_layer_into(y, rows, weight, bias);
  return y.view(shape);
}

Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& a, const Tensor& b,
                   double scale) {
  return LoraLinear::apply(x, weight, a, b, scale);
}

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
    parallel_ranges(rows * time, rows_a_thread(heads * dim), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
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
  if (!has_kernel(q) || rule.softcap > 0 || (rule.window > 0 && rule.window < seen)) {
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
        attend_one(data<T>(query) + i * dim, part(keys, i), part(values, i),
                   part(keys, std::min(i + 1, end - 1)), data<T>(y) + i * dim, scratch.data(),
                   data<int64_t>(place)[i / heads] + 1, dim, scale);
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

Tensor linear_cross_entropy_sum(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                                double softcap) {
  const int64_t rows = hidden.size(0),
                more = has_kernel(hidden) ? round_up(rows, kTokenMultiple) - rows : 0;
  if (more == 0) return LinearCrossEntropySum::apply(hidden, weight, labels.contiguous(), softcap);
  return LinearCrossEntropySum::apply(at::constant_pad_nd(hidden, {0, 0, 0, more}), weight,
                                      at::constant_pad_nd(labels, {0, more}, -100), softcap);
}

Tensor linear_cross_entropy(const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                            double softcap) {
  const at::NoGradGuard no_grad;
  const Tensor wanted = labels.contiguous();
  std::vector<Tensor> losses;
  Tensor logits;  // of a chunk: the first is the largest, and the others take its place
  for_each_chunk(hidden.size(0), weight.size(0), [&](int64_t begin, int64_t count) {
    const Tensor h = hidden.narrow(0, begin, count);
    if (!logits.defined()) logits = at::empty({count, weight.size(0)}, h.options());
    Tensor z = logits.narrow(0, 0, count);
    if (h.device().is_cpu()) linear_layer_into(z, h, weight, {});
    else at::mm_out(z, h, weight.t());
    if (softcap > 0) z.div_(softcap).tanh_().mul_(softcap);
    losses.push_back(cross_entropy_rows(z, wanted.narrow(0, begin, count)));
  });
  return at::cat(losses);
}

bool all_finite(const Tensor& x) {
  if (!x.is_contiguous() || !x.device().is_cpu() ||
      (x.element_size() != 2 && x.element_size() != 4))
    return x.isfinite().all().item<bool>();
  // An exponent of all ones is an infinity or no number.
  const auto scan = [&]<class Bits>(Bits exponent) {
    std::atomic<bool> fine = true;
    parallel_ranges(x.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      const auto* const bits = static_cast<const Bits*>(x.const_data_ptr());
      bool bad = false;
      for (int64_t i = begin; i < end; ++i) bad |= (bits[i] & exponent) == exponent;
      if (bad) fine = false;
    });
    return fine.load();
  };
  if (x.scalar_type() == at::kFloat) return scan(uint32_t{0x7F800000});
  return scan(static_cast<uint16_t>(x.scalar_type() == at::kHalf ? 0x7C00 : 0x7F80));
}

}  // namespace inoculum
