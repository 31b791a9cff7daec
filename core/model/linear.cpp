#include "core/model/linear.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

#include "core/model/parallel.h"
#include "core/model/vectors.h"

namespace inoculum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// ---- loops

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

// The products of a low-rank update, [rank, dim], with many rows, [row, dim], whose numbers a rank
// are `low`, [row, rank]. Four ranks at a time, as many sums as stay in registers, and whole
// vectors: rank is a multiple of four, dim of sixteen.
constexpr int64_t kRanks = 4;

// low = x wᵀ
template <class T>
INLINE void to_low(const T* x, const float* w, float* low, int64_t rows, int64_t dim,
                   int64_t rank) {
  for (int64_t first = 0; first < rank; first += kRanks, w += kRanks * dim)
    for (int64_t r = 0; r < rows; ++r) {
      Sixteen sums[kRanks] = {}, a, b;
      for (int64_t d = 0; d < dim; d += kVector) {
        read(x + r * dim + d, a);
#pragma GCC unroll 4
        for (int64_t k = 0; k < kRanks; ++k) {
          read(w + k * dim + d, b);
          sums[k] += a * b;
        }
      }
#pragma GCC unroll 4
      for (int64_t k = 0; k < kRanks; ++k) low[r * rank + first + k] = sum_of(sums[k]);
    }
}

// y += low w, rounded once
template <class T>
INLINE void add_from_low(const float* low, const float* w, T* y, int64_t rows, int64_t dim,
                         int64_t rank) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t d = 0; d < dim; d += kVector) {
      Sixteen a, b;
      read(y + r * dim + d, a);
      for (int64_t first = 0; first < rank; first += kRanks) {
#pragma GCC unroll 4
        for (int64_t k = first; k < first + kRanks; ++k) {
          read(w + k * dim + d, b);
          a += low[r * rank + k] * b;
        }
      }
      write(a, y + r * dim + d);
    }
}

// gradient = lowᵀ x, [rank, dim], of its columns first … last − 1.
template <class T>
INLINE void sum_outer(const float* low, const T* x, float* gradient, int64_t rows, int64_t dim,
                      int64_t rank, int64_t first, int64_t last) {
  for (int64_t of = 0; of < rank; of += kRanks)
    for (int64_t d = first; d < last; d += kVector) {
      Sixteen sums[kRanks] = {}, a;
      for (int64_t r = 0; r < rows; ++r) {
        read(x + r * dim + d, a);
#pragma GCC unroll 4
        for (int64_t k = 0; k < kRanks; ++k) sums[k] += low[r * rank + of + k] * a;
      }
      for (int64_t k = 0; k < kRanks; ++k) write(sums[k], gradient + (of + k) * dim + d);
    }
}

#define INSTANTIATE(T)                                                                             \
  FOR_EACH_CPU void spread_row(const T* row, int64_t dim, float* to) {                             \
    spread(row, dim, 1.0f, to);                                                                    \
  }                                                                                                \
  FOR_EACH_CPU void few_rows_of(const float* x, const T* w, const T* bias, T* y, int64_t rows,     \
                                int64_t in, int64_t out, int64_t first, int64_t last) {            \
    few_rows(x, w, bias, y, rows, in, out, first, last);                                           \
  }                                                                                                \
  FOR_EACH_CPU void rows_to_low(const T* x, const float* w, float* low, int64_t rows, int64_t dim, \
                                int64_t rank) {                                                    \
    to_low(x, w, low, rows, dim, rank);                                                            \
  }                                                                                                \
  FOR_EACH_CPU void add_rows_from_low(const float* low, const float* w, T* y, int64_t rows,        \
                                      int64_t dim, int64_t rank) {                                 \
    add_from_low(low, w, y, rows, dim, rank);                                                      \
  }                                                                                                \
  FOR_EACH_CPU void sum_outer_rows(const float* low, const T* x, float* gradient, int64_t rows,    \
                                   int64_t dim, int64_t rank, int64_t first, int64_t last) {       \
    sum_outer(low, x, gradient, rows, dim, rank, first, last);                                     \
  }
INSTANTIATE(float)
INSTANTIATE(Bf16)
#undef INSTANTIATE

// ---- tensors

// How a low-rank update, [rank, dim], is multiplied. A library's call takes longer than so narrow a
// product; with more ranks the library is faster.
constexpr int64_t kNarrow = 8;

// x wᵀ: [row, dim] → [row, rank]
Tensor low_of(const Tensor& x, const Tensor& w, bool narrow) {
  if (!narrow) return at::mm(x, w.t());
  const int64_t rank = w.size(0), dim = w.size(1);
  Tensor low = at::empty({x.size(0), rank}, w.options());
  by_type(x, [&]<class T>(T) {
    parallel_ranges(x.size(0), rows_a_thread(rank * dim), [&](int64_t begin, int64_t end) {
      rows_to_low(data<T>(x) + begin * dim, data<float>(w), data<float>(low) + begin * rank,
                  end - begin, dim, rank);
    });
  });
  return low;
}

// y += low w. y: [row, dim]
void add_low(const Tensor& y, const Tensor& low, const Tensor& w, bool narrow) {
  if (!narrow) {
    Tensor(y).addmm_(low, w);
    return;
  }
  const int64_t rank = w.size(0), dim = w.size(1);
  by_type(y, [&]<class T>(T) {
    parallel_ranges(y.size(0), rows_a_thread(rank * dim), [&](int64_t begin, int64_t end) {
      add_rows_from_low(data<float>(low) + begin * rank, data<float>(w), data<T>(y) + begin * dim,
                        end - begin, dim, rank);
    });
  });
}

// lowᵀ x: [rank, dim], the gradient of w in either
Tensor low_gradient(const Tensor& low, const Tensor& x, bool narrow) {
  if (!narrow) return at::mm(low.t(), x);
  const int64_t rank = low.size(1), dim = x.size(1);
  Tensor gradient = at::empty({rank, dim}, low.options());
  by_type(x, [&]<class T>(T) {
    parallel_ranges(dim / kVector, 1, [&](int64_t begin, int64_t end) {
      sum_outer_rows(data<float>(low), data<T>(x), data<float>(gradient), x.size(0), dim, rank,
                     begin * kVector, end * kVector);
    });
  });
  return gradient;
}

struct LoraLinear : Function<LoraLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight,
                        const Tensor& a, const Tensor& b, double scale) {
    const Tensor x = input.contiguous();
    const LowRank update = low_rank(a, b, scale, x);
    const Tensor low = low_of(x, update.down, update.narrow);
    Tensor y = at::mm(x, weight.t());
    add_low(y, low, update.up, update.narrow);
    context->save_for_backward({x, weight, a, b, update.down, update.up, low});
    context->saved_data["scale"] = scale;
    context->saved_data["narrow"] = update.narrow;
    return y;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    once();
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &a = saved[2], &b = saved[3], &down = saved[4],
                 &up = saved[5], &low = saved[6], g = gradients[0].contiguous();
    const double scale = context->saved_data["scale"].toDouble();
    const bool narrow = context->saved_data["narrow"].toBool();
    const Tensor g_low = low_of(g, up, narrow);
    Tensor dx;
    if (context->needs_input_grad(0)) {
      dx = at::mm(g, weight);
      add_low(dx, g_low, down, narrow);
    }
    const auto own = [&](const Tensor& gradient, const Tensor& of) {  // without the ranks of zeros
      return gradient.narrow(0, 0, a.size(0)).to(of.scalar_type());
    };
    return {dx, Tensor(), own(low_gradient(g_low, x, narrow), a),
            own(low_gradient(low, g, narrow), b).t() * scale, Tensor()};
  }
};

constexpr int64_t kRowBlock = 512;  // rows of a block of a large product

// So few rows that reading the weight once is all there is to do: a library's call, which looks up
// and prepares the product, takes as long.
bool are_few(const Tensor& x, const Tensor& weight) {
  return has_kernel(x, weight) && weight.is_contiguous() && x.numel() > 0 &&
         x.size(0) <= (x.scalar_type() == at::kFloat ? 4 : 2);
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

}  // namespace

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

void linear_layer_into(const Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
  if (rows == 0) return;
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

Tensor linear_layer(const Tensor& x, const Tensor& weight, const Tensor& bias,
                    const PackedWeight& pack) {
  if (c10::GradMode::is_enabled() || !x.device().is_cpu())
    return at::linear(x, weight, bias.defined() ? std::optional<Tensor>(bias) : std::nullopt);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const Tensor rows = x.reshape({-1, weight.size(1)});
  const bool few = are_few(rows, weight);
  if (!few && !pack.blocks.empty()) return packed_linear(rows, pack, weight, bias).view(shape);
  const Tensor y = at::empty({rows.size(0), weight.size(0)}, x.options());
  if (few) few_rows_into(y, rows.contiguous(), weight, bias);
  else linear_layer_into(y, rows, weight, bias);
  return y.view(shape);
}

LowRank low_rank(const Tensor& a, const Tensor& b, double scale, const Tensor& x) {
  const at::NoGradGuard no_grad;
  const int64_t rank = a.size(0);
  const Tensor up = (b * scale).t();
  if (!has_kernel(x) || a.scalar_type() != at::kFloat || b.scalar_type() != at::kFloat ||
      rank > kNarrow || a.size(1) % kVector != 0 || b.size(0) % kVector != 0)
    return {a.to(x.scalar_type()), up.to(x.scalar_type()), false};
  const auto in_fours = [&](const Tensor& w) {
    const int64_t more = round_up(rank, kRanks) - rank;
    return (more == 0 ? w : at::constant_pad_nd(w, {0, 0, 0, more})).contiguous();
  };
  return {in_fours(a), in_fours(up), true};
}

void add_low_rank(const Tensor& y, const Tensor& x, const LowRank& update) {
  add_low(y, low_of(x, update.down, update.narrow), update.up, update.narrow);
}

Tensor lora_linear(const Tensor& x, const Tensor& weight, const Tensor& a, const Tensor& b,
                   double scale) {
  return LoraLinear::apply(x, weight, a, b, scale);
}

}  // namespace inoculum
