#include "core/model/kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "core/model/linear.h"
#include "core/model/parallel.h"
#include "core/model/vectors.h"

namespace inoculum {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// ---- loops

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
  FOR_EACH_CPU double cross_entropy_one(const T* logits, int64_t label, T* gradient, float* row, \
                                        int64_t n) {                                             \
    return cross_entropy_row(logits, label, gradient, row, n);                                   \
  }
INSTANTIATE(float)
INSTANTIATE(Bf16)
#undef INSTANTIATE

// ---- tensors

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
    once();
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
    once();
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
    once();
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
    once();
    const auto saved = context->get_saved_variables();
    const auto times = [&](const Tensor& x) {
      return x.defined() ? x * gradients[0].to(x.scalar_type()) : Tensor();
    };
    return {times(saved[0]), times(saved[1]), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, bool plus_one) {
  if (plus_one) {
    const Tensor wide = widened(x);
    return (wide * at::rsqrt(wide.square().mean(-1, true) + eps) * (1 + widened(weight)))
        .to(x.scalar_type());
  }
  if (has_kernel(x, weight)) return RmsNorm::apply(x, weight, eps);
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
  return has_kernel(gate, up) ? SwiGlu::apply(gate, up) : at::silu(gate) * up;
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
    if (h.device().is_cpu()) linear_layer_into(z, h, weight);
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
