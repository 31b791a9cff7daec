#include "core/model/draw.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include "core/base/error.h"
#include "core/model/device.h"
#include "core/model/parallel.h"
#include "core/model/torch.h"

namespace inoculum {
namespace {

Error not_finite() {
  return Error("the model's probabilities are not finite", {},
               "use a wider type (dtype: fp32), and see whether its weights are whole");
}

// Draws a token by its weight: a probability, or where greedy a logit, of which the largest is
// taken. Nucleus: the smallest set that holds top_p of the probability (Holtzman et al. 2020), of
// that of the top_k likeliest where both are set, as in Transformers and vLLM.
int32_t draw_one(const SamplingConfig& config, const float* weights, int64_t vocabulary,
                 Random& random) {
  if (config.greedy()) {
    const float* const end = weights + vocabulary;
    if (std::any_of(weights, end, [](float x) { return std::isnan(x); })) throw not_finite();
    return static_cast<int32_t>(std::max_element(weights, end) - weights);
  }
  // Sums of blocks, so that the walk below skips most tokens.
  constexpr int64_t block = 64;
  std::vector<double> sums(static_cast<size_t>((vocabulary + block - 1) / block));
  for (int64_t i = 0; i < vocabulary; i += block) {
    double sum = 0;
    const int64_t end = std::min(i + block, vocabulary);
#pragma omp simd reduction(+ : sum)
    for (int64_t k = i; k < end; ++k) sum += static_cast<double>(weights[k]);
    sums[static_cast<size_t>(i / block)] = sum;
  }
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  if (!std::isfinite(total)) throw not_finite();
  if (config.top_p >= 1 && config.top_k == 0) {
    double left = random.uniform() * total;
    int64_t i = 0;
    for (size_t b = 0; b + 1 < sums.size() && left >= sums[b]; ++b, i += block) left -= sums[b];
    for (; i < vocabulary; ++i)
      if ((left -= static_cast<double>(weights[i])) < 0) return static_cast<int32_t>(i);
    return static_cast<int32_t>(vocabulary - 1);
  }
  std::vector<int32_t> order(static_cast<size_t>(vocabulary));
  std::iota(order.begin(), order.end(), 0);
  // The likeliest first, of equals the first; no further than is asked, as sorting a large
  // vocabulary takes longer than many a model.
  size_t sorted = 0;
  const auto sort_first = [&](size_t count) {
    if (count <= sorted) return;
    const auto begin = order.begin() + static_cast<int64_t>(sorted);
    sorted = std::min(std::max({count, 8 * sorted, size_t{64}}), order.size());
    std::partial_sort(begin, order.begin() + static_cast<int64_t>(sorted), order.end(),
                      [&](int32_t a, int32_t b) {
                        return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
                      });
  };
  size_t most = order.size();
  double whole = total;
  if (config.top_k > 0 && config.top_k < vocabulary) {
    sort_first(most = static_cast<size_t>(config.top_k));
    whole = 0;
    for (size_t i = 0; i < most; ++i) whole += static_cast<double>(weights[order[i]]);
  }
  std::vector<double> kept;
  for (double mass = 0; kept.size() < most && (kept.empty() || mass < config.top_p * whole);) {
    sort_first(kept.size() + 1);
    kept.push_back(static_cast<double>(weights[order[kept.size()]]));
    mass += kept.back();
  }
  return order[random.weighted(kept)];
}

// The same on a GPU, for draws by one setting: int32 [draw] there, −1 for what is not finite.
Tensor draw_there(const SamplingConfig& config, const Tensor& weights,
                  const std::vector<Draw>& draws) {
  const auto count = static_cast<int64_t>(draws.size());
  const int64_t vocabulary = weights.size(1);
  const Tensor rows = at::empty({count}, at::kLong), uniform = at::empty({count, 1}, at::kDouble);
  for (int64_t i = 0; i < count; ++i) {
    const Draw& each = draws[static_cast<size_t>(i)];
    rows.data_ptr<int64_t>()[i] = each.row;
    uniform.data_ptr<double>()[i] = config.greedy() ? 0 : each.random->uniform();
  }
  Tensor mass = weights.index_select(0, to_device(rows, weights.device())), likeliest, ids;
  if (config.greedy()) {
    ids = at::where(mass.amax(-1).isnan(), -1, mass.argmax(-1));
  } else {
    if (config.top_p < 1 || config.top_k > 0) {
      std::tie(mass, likeliest) = mass.sort(/*stable=*/true, -1, /*descending=*/true);
      if (config.top_k > 0) mass = mass.narrow(1, 0, std::min(config.top_k, vocabulary));
      const Tensor sums = mass.cumsum(1, at::kDouble), before = sums - mass;
      const Tensor enough = config.top_p * sums.narrow(1, sums.size(1) - 1, 1);
      mass = mass.masked_fill((before >= enough).logical_and(before > 0), 0);
    }
    const Tensor sums = mass.cumsum(1, at::kDouble);
    const Tensor whole = sums.narrow(1, sums.size(1) - 1, 1);
    ids = at::searchsorted(sums, to_device(uniform, weights.device()) * whole, /*out_int32=*/false,
                           /*right=*/true)
              .clamp_max(sums.size(1) - 1);
    if (likeliest.defined()) ids = likeliest.gather(1, ids);
    ids = at::where(whole.isfinite(), ids, -1);
  }
  return ids.flatten().to(at::kInt);
}

}  // namespace

void SamplingConfig::fields(Fields& f) {
  f.value("temperature", temperature,
          "1 samples from the model's own distribution, 0 takes the likeliest token", at_least(0));
  f.value(
      "top_p", top_p,
      "sample from the smallest set of tokens with this probability (of top_k's, where it is set)",
      between(0, 1));
  f.value("top_k", top_k, "sample from the k likeliest tokens; 0: all", at_least(0));
  f.value("max_new_tokens", max_new_tokens, "longest completion", at_least(1));
  f.value("stop", stop, "a completion ends before any of these strings");
  f.value("rows", rows, "samples generated side by side", at_least(1));
}

Tensor weights_of(const Tensor& logits, std::span<const SamplingConfig* const> configs) {
  const double first = configs[0]->temperature;
  if (std::ranges::all_of(configs, [&](const auto* each) { return each->temperature == first; })) {
    if (configs[0]->greedy()) return logits.contiguous();
    return at::softmax(first == 1 ? logits : logits / first, -1).contiguous();
  }
  const Tensor divisor = at::ones({logits.size(0), 1}, at::kFloat);
  std::vector<int64_t> likeliest;  // the rows at temperature 0
  for (size_t row = 0; row < configs.size(); ++row) {
    if (configs[row]->greedy()) likeliest.push_back(static_cast<int64_t>(row));
    else divisor.data_ptr<float>()[row] = static_cast<float>(configs[row]->temperature);
  }
  Tensor weights = at::softmax(logits / to_device(divisor, logits.device()), -1).contiguous();
  for (const int64_t row : likeliest) weights[row].copy_(logits[row]);
  return weights;
}

std::vector<int32_t> draw(const Tensor& weights, const std::vector<Draw>& draws) {
  std::vector<int32_t> drawn(draws.size());
  if (weights.is_cpu()) {
    const int64_t vocabulary = weights.size(1);
    const float* const all = weights.const_data_ptr<float>();
    const auto count = static_cast<int64_t>(draws.size());
    parallel_ranges(count, 8, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        drawn[i] = draw_one(*draws[i].config, all + draws[i].row * vocabulary, vocabulary,
                            *draws[i].random);
    });
    return drawn;
  }
  std::map<std::tuple<double, double, int64_t>, std::vector<size_t>> alike;  // by their settings
  for (size_t i = 0; i < draws.size(); ++i) {
    const SamplingConfig& config = *draws[i].config;
    alike[{config.temperature, config.top_p, config.top_k}].push_back(i);
  }
  std::vector<Tensor> parts;
  for (const auto& [settings, members] : alike) {
    std::vector<Draw> part;
    for (const size_t i : members) part.push_back(draws[i]);
    parts.push_back(draw_there(*part[0].config, weights, part));
  }
  if (draws.empty()) return drawn;
  const Tensor host = at::cat(parts).cpu();
  const auto* id = host.const_data_ptr<int32_t>();
  for (const auto& [settings, members] : alike)
    for (const size_t i : members)
      if ((drawn[i] = *id++) < 0) throw not_finite();
  return drawn;
}

std::vector<TokenLogprob> logprobs_of(const Tensor& logits,
                                      const std::vector<LogprobRequest>& asked) {
  const auto indices = [&](const std::vector<int64_t>& all) {
    return to_device(at::tensor(all), logits.device());
  };
  std::vector<int64_t> rows, ids;
  std::map<int64_t, std::vector<int64_t>> alike;  // by how many of the likeliest
  for (const LogprobRequest& each : asked) {
    alike[std::min(each.top, logits.size(1))].push_back(std::ssize(rows));
    rows.push_back(each.row);
    ids.push_back(each.id);
  }
  if (asked.empty()) return {};
  const Tensor all = at::log_softmax(logits.index_select(0, indices(rows)), -1);
  // What comes over in one copy: a vocabulary's numbers are exact in float64.
  std::vector<Tensor> parts = {all.gather(1, indices(ids).unsqueeze(1)).to(at::kDouble).flatten()};
  for (const auto& [top, members] : alike) {
    const auto [values, places] = all.index_select(0, indices(members)).topk(top, -1);
    parts.push_back(values.to(at::kDouble).flatten());
    parts.push_back(places.to(at::kDouble).flatten());
  }
  const Tensor host = at::cat(parts).cpu();
  const double* at = host.const_data_ptr<double>();
  std::vector<TokenLogprob> found;
  for (const LogprobRequest& each : asked) found.push_back({.id = each.id, .logprob = *at++});
  for (const auto& [top, members] : alike) {
    const double* place = at + top * std::ssize(members);
    for (const int64_t i : members)
      for (int64_t k = 0; k < top; ++k)
        found[static_cast<size_t>(i)].top.emplace_back(static_cast<int32_t>(*place++), *at++);
    at = place;
  }
  return found;
}

}  // namespace inoculum
