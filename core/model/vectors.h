// What our own loops over numbers are made of: element types, vectors, and what chooses the
// compiled instance. For the sources of kernels alone, each of which is compiled for speed
// (CMakeLists.txt).
//
// A loop is generic in the type. INSTANTIATE of its file makes one function of it a type, compiled
// for each generation of processors.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "core/model/torch.h"

namespace inoculum {

// Each kernel is compiled for three generations of x86 and the machine's own is taken at run time.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif
#define INLINE inline __attribute__((always_inline))

// bfloat16 by its bits: the compiler vectorises integer moves, not c10::BFloat16.
using Bf16 = uint16_t;

INLINE float load(float x) { return x; }
INLINE float load(Bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }
INLINE void store(float& to, float x) { to = x; }
// To nearest, ties to even. What is no number stays none, as a processor makes it (the high bits).
INLINE void store(Bf16& to, float x) {
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

// Sixteen numbers as floats in their own order: one register of AVX-512, two of AVX2.
using Sixteen = float __attribute__((vector_size(64)));
using SixteenWords = uint32_t __attribute__((vector_size(64)));
using SixteenHalves = uint16_t __attribute__((vector_size(32)));

INLINE void read(const float* from, Sixteen& to) { std::memcpy(&to, from, sizeof(to)); }
INLINE void read(const Bf16* from, Sixteen& to) {
  SixteenHalves halves;
  std::memcpy(&halves, from, sizeof(halves));
  const SixteenWords words = __builtin_convertvector(halves, SixteenWords) << 16;
  std::memcpy(&to, &words, sizeof(to));
}
INLINE void write(const Sixteen& from, float* to) { std::memcpy(to, &from, sizeof(from)); }
INLINE void write(const Sixteen& from, Bf16* to) {  // rounded as `store` does
  SixteenWords words;
  std::memcpy(&words, &from, sizeof(words));
  words = (words + 0x7FFF + ((words >> 16) & 1)) >> 16;
  const SixteenHalves halves = __builtin_convertvector(words, SixteenHalves);
  std::memcpy(to, &halves, sizeof(halves));
}
INLINE float sum_of(const Sixteen& x) {
  float parts[kVector];
  std::memcpy(parts, &x, sizeof(parts));
  for (int64_t width = kVector / 2; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) parts[i] += parts[i + width];
  return parts[0];
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

template <class T>
T* data(const Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

// Whether our own loops take x, and the others beside it.
template <class... More>
bool has_kernel(const Tensor& x, const More&... more) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
         (... && (more.is_cpu() && more.scalar_type() == x.scalar_type()));
}

// Calls `body` with a value of the kernel's element type.
template <class Body>
void by_type(const Tensor& x, Body&& body) {
  if (x.scalar_type() == at::kFloat) body(float{});
  else body(Bf16{});
}

// Each backward of ours begins with it: gradients of gradients would be wrong without a word.
inline void once() {
  TORCH_CHECK(!c10::GradMode::is_enabled(), "this operation has no second derivative");
}

// Sums and exponentials of the composed formulas: in float at least.
inline Tensor widened(const Tensor& x) {
  return x.to(at::promoteTypes(x.scalar_type(), at::kFloat));
}

// The fewest rows that are worth a thread.
inline int64_t rows_a_thread(int64_t columns) {
  return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, columns));
}

}  // namespace inoculum
