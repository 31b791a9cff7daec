// Work whose bytes must not depend on the number of threads.
#include <ATen/Parallel.h>
#include <omp.h>

#include <atomic>
#include <set>
#include <thread>

#include "core/model/linear.h"
#include "core/model/lora.h"
#include "core/model/parallel.h"
#include "core/model/sampler.h"
#include "core/model/scoring.h"
#include "tests/catch.h"
#include "training/gradients.h"

using namespace inoculum;

namespace {

TransformerConfig wide_config() {
  TransformerConfig c;
  c.vocab_size = 600;
  c.hidden_size = 256;
  c.intermediate_size = 1024;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 64;
  c.max_position_embeddings = 128;
  return c;
}

Transformer wide_model(at::ScalarType type) {
  Transformer model(wide_config(), Random(3, "weights"));
  model.to(at::kCPU, type);
  return model;
}

// The same work by 1, 2, 3 and 5 threads.
template <class Work>
void check_same(const Work& work) {
  std::vector<Tensor> first;
  for (const int64_t count : {1, 2, 3, 5}) {
    INFO(count << " threads");
    const ThreadShare share(count);
    const std::vector<Tensor> now = work();
    if (first.empty()) first = now;
    REQUIRE(now.size() == first.size());
    for (size_t i = 0; i < now.size(); ++i) CHECK(at::equal(now[i], first[i]));
  }
}

double relative(const Tensor& got, const Tensor& want) {
  return ((got.to(at::kDouble) - want.to(at::kDouble)).norm() / want.to(at::kDouble).norm())
      .item<double>();
}

}  // namespace

TEST_CASE("libraries run with one thread, in pieces and out of them", "[threads]") {
  const ThreadShare share(3);
  CHECK(at::get_num_threads() == 1);
  CHECK(omp_get_max_threads() == 1);
  std::atomic<int64_t> wrong = 0;
  std::vector<std::atomic<int>> calls(50);
  parallel(50, [&](int64_t piece) {
    ++calls[static_cast<size_t>(piece)];
    wrong += at::get_num_threads() != 1 || omp_get_max_threads() != 1 || threads() != 1;
  });
  CHECK(wrong == 0);
  for (const auto& each : calls) CHECK(each == 1);
  CHECK(threads() == 3);
}

TEST_CASE("threads of a worker that has ended go to the others", "[threads]") {
  const ThreadShare before(5);
  {
    SharedThreads shared{7, 3};
    const ThreadShare first(shared);
    CHECK(threads() == 2);
    std::atomic<int64_t> in_pieces = 0;
    parallel(4, [&](int64_t) { in_pieces += threads(); });
    CHECK(in_pieces == 4);
    std::jthread([&] { const ThreadShare second(shared); }).join();
    CHECK(threads() == 3);
    std::jthread([&] { const ThreadShare third(shared); }).join();
    CHECK(threads() == 7);
  }
  CHECK(threads() == 5);
}

TEST_CASE("pieces record gradients as their caller does, and the first failure is thrown",
          "[threads]") {
  const ThreadShare share(2);
  const auto recording = [] {
    std::atomic<int> count = 0;
    parallel(8, [&](int64_t) { count += c10::GradMode::is_enabled(); });
    return count.load();
  };
  CHECK(recording() == 8);
  {
    const at::NoGradGuard no_grad;
    CHECK(recording() == 0);
  }
  for (int i = 0; i < 20; ++i) {
    std::string what;
    try {
      parallel(6, [&](int64_t piece) {
        if (piece >= 1) throw std::runtime_error(std::to_string(piece));
      });
    } catch (const std::runtime_error& failure) {
      what = failure.what();
    }
    CHECK(what == "1");
  }
}

TEST_CASE("ranges make up the whole and are cut at the grain", "[threads]") {
  for (const int64_t count : {0, 1, 7, 64, 65, 1000})
    for (const int64_t share : {1, 2, 3, 7}) {
      const ThreadShare shares(share);
      std::mutex mutex;
      std::set<std::pair<int64_t, int64_t>> ranges;
      parallel_ranges(count, 8, [&](int64_t begin, int64_t end) {
        const std::lock_guard lock(mutex);
        ranges.emplace(begin, end);
      });
      int64_t at = 0;
      for (const auto& [begin, end] : ranges) {
        CHECK(begin == at);
        CHECK(begin % 8 == 0);
        CHECK(end > begin);
        at = end;
      }
      CHECK(at == count);
    }
}

TEST_CASE("a linear layer's blocks are those of its shape", "[threads]") {
  const at::NoGradGuard no_grad;
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    // One row, few rows and many, through matrices that are cut and one that is not.
    for (const auto& [rows, in, out] : std::vector<std::array<int64_t, 3>>{{1, 600, 5000},
                                                                           {2, 77, 29},
                                                                           {4, 13, 9},
                                                                           {70, 512, 1300},
                                                                           {1500, 256, 640},
                                                                           {4, 32, 32}}) {
      const Tensor x = at::randn({rows, in}).to(type), w = at::randn({out, in}).to(type),
                   bias = at::randn({out}).to(type);
      const PackedWeight pack = packed(w);
      if (type == at::kFloat) CHECK(pack.blocks.empty());
      check_same([&] {
        return std::vector<Tensor>{linear_layer(x, w), linear_layer(x, w, bias),
                                   linear_layer(x, w, {}, pack), linear_layer(x, w, bias, pack)};
      });
      const Tensor exact = at::linear(x.to(at::kDouble), w.to(at::kDouble), bias.to(at::kDouble));
      const double least = type == at::kFloat ? 1e-6 : 4e-3;
      CHECK(relative(linear_layer(x, w, bias), exact) < least);
      CHECK(relative(linear_layer(x, w, bias, pack), exact) < least);
    }
}

TEST_CASE("a low-rank update does not depend on threads", "[threads]") {
  at::manual_seed(9);
  for (const int64_t rank : {4, 8}) {
    const Tensor x = at::randn({500, 256}).to(at::kBFloat16),
                 w = at::randn({1024, 256}).to(at::kBFloat16), a = at::randn({rank, 256}),
                 b = at::randn({1024, rank});
    check_same([&] {
      const std::vector<Tensor> inputs = {x.clone(), a.clone(), b.clone()};
      for (const Tensor& each : inputs) each.set_requires_grad(true);
      const Tensor y = lora_linear(inputs[0], w, inputs[1], inputs[2], 2);
      y.sum().backward();
      return std::vector<Tensor>{y.detach(), inputs[0].grad(), inputs[1].grad(), inputs[2].grad()};
    });
  }
}

TEST_CASE("a product of no rows has none", "[threads]") {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const at::NoGradGuard no_grad;
    CHECK(linear_layer(at::zeros({0, 1024}, type), at::zeros({1024, 1024}, type)).numel() == 0);
  }
}

TEST_CASE("gradients are summed in the order of their micro-batches", "[threads]") {
  at::manual_seed(2);
  std::vector<Tensor> ids;
  for (int i = 0; i < 7; ++i) ids.push_back(at::randint(600, {1, 20 + 9 * i}, at::kLong));
  for (const int64_t rank : {0, 4}) {
    check_same([&] {
      Transformer model = wide_model(at::kBFloat16);
      if (rank > 0) {
        add_lora(model, {.rank = rank, .target_modules = {"all-linear"}}, Random(4, "adapter"));
        model.for_each_linear(
            [](const std::string&, Linear& linear) { linear.lora->b.fill_(0.01); });
      }
      Gradients gradients(model);
      const auto loss = [&](const Transformer& lane, int64_t i) {
        const Tensor& text = ids[static_cast<size_t>(i)];
        return lane.loss_sum(lane.hidden(text).flatten(0, 1), text.flatten());
      };
      std::vector<Tensor> all;
      {
        const ThreadShare fewer_at_first(1);
        all.push_back(gradients.add(2, loss));
      }
      all.push_back(gradients.add(7, loss));
      for (const Tensor& each : gradients.sums()) all.push_back(each.clone());
      return all;
    });
  }
}

TEST_CASE("scores, samples and the loss of each row do not depend on threads", "[threads]") {
  Transformer model = wide_model(at::kBFloat16);
  model.pack();
  std::vector<std::vector<int32_t>> rows;
  Random random(5, "rows");
  for (int i = 0; i < 70; ++i) {
    rows.emplace_back();
    for (int64_t t = random.between(1, 60); t > 0; --t)
      rows.back().push_back(static_cast<int32_t>(random.between(0, 599)));
  }
  check_same([&] {
    std::vector<Tensor> all;
    for (const auto& each : score(model, rows)) all.push_back(at::tensor(each, at::kDouble));
    return all;
  });
  // Behind prompts that several share.
  std::vector<Continuation> texts;
  for (const auto& row : rows)
    for (const int32_t own : {1, 2, 3}) {
      texts.push_back({row, std::max<size_t>(1, row.size())});
      texts.back().ids.insert(texts.back().ids.end(), static_cast<size_t>(own), own);
    }
  check_same([&] {
    std::vector<Tensor> all;
    for (const auto& each : score(model, texts)) all.push_back(at::tensor(each, at::kDouble));
    return all;
  });
  // A text is scored as its logits say.
  const at::NoGradGuard no_grad;
  const std::vector<int64_t> text(rows[0].begin(), rows[0].end());
  const Tensor ids = at::tensor(text, at::kLong).unsqueeze(0);
  const Tensor log_p = at::log_softmax(model.logits(model.hidden(ids)).to(at::kDouble), -1)[0];
  const auto scored = score(model, {rows[0]})[0];
  for (size_t t = 0; t + 1 < text.size(); ++t)
    CHECK(scored[t] ==
          Approx(log_p[static_cast<int64_t>(t)][text[t + 1]].item<double>()).margin(1e-5));
}

TEST_CASE("an adapter is applied as it was trained, however small its update", "[threads]") {
  at::manual_seed(6);
  for (const bool dora : {false, true}) {
    Transformer model = wide_model(at::kBFloat16);
    const Tensor ids = at::randint(600, {2, 50}, at::kLong);
    const auto logits = [&](const Transformer& of) {
      const at::NoGradGuard no_grad;
      return of.logits(of.hidden(ids)).to(at::kFloat);
    };
    // Updates of a few thousandths of the weights: most of it is below the last bit of a bfloat16.
    add_lora(model, {.rank = 8, .alpha = 16, .use_dora = dora, .target_modules = {"all-linear"}},
             Random(7, "adapter"));
    model.for_each_linear(
        [](const std::string&, Linear& linear) { linear.lora->b.normal_(0, 2e-4); });
    Transformer base = model, merged = model, exact = model, ready = model;
    base.for_each_linear([](const std::string&, Linear& linear) { linear.lora.reset(); });
    merge_lora(merged);
    ready_lora(ready);
    ready.pack();
    exact.to(at::kCPU, at::kFloat);
    Transformer exact_base = base;
    exact_base.to(at::kCPU, at::kFloat);
    // What training computes, where gradients are recorded.
    const Tensor trained = model.logits(model.hidden(ids)).detach().to(at::kFloat);
    const double same = relative(logits(ready), trained);
    const double effect = relative(logits(exact), logits(exact_base));
    const auto error = [&](const Transformer& of) {
      return ((logits(of) - logits(base)) - (logits(exact) - logits(exact_base)))
          .norm()
          .item<double>();
    };
    CAPTURE(dora, same, effect, error(ready), error(merged));
    // What was made ready goes when the model does: it is of the old type.
    ready.to(at::kCPU, at::kFloat);
    CHECK(relative(logits(ready), logits(exact)) < 1e-6);
    CHECK(same < 3e-3);  // but for the rounding of sums cut otherwise
    CHECK(error(ready) < error(merged));
  }
}
