// Safetensors, the shipped models' tokenizer and chat format, kernels.
#include <ATen/ops/allclose.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/outer.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstring>
#include <fstream>
#include <numeric>
#include <optional>

#include "core/model/attention.h"
#include "core/model/checkpoint.h"
#include "core/model/kernels.h"
#include "core/model/linear.h"
#include "core/model/safetensors.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

// A safetensors file from its parts.
void write_raw(const fs::path& file, const std::string& header, size_t data, int64_t length = -1) {
  const auto size =
      static_cast<uint64_t>(length < 0 ? static_cast<int64_t>(header.size()) : length);
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  std::ofstream(file, std::ios::binary) << bytes << header << std::string(data, '\1');
}

TEST_CASE("safetensors that break a rule are refused", "[safetensors]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "m.safetensors";
  const auto message = [&](const std::string& header, size_t data, int64_t length = -1) {
    write_raw(file, header, data, length);
    return error_of([&] { Safetensors{file}; });
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  CHECK(message(good, 8).empty());
  CHECK(contains(message(good, 4), "m.safetensors"));  // cut off
  CHECK_FALSE(message(good, 12).empty());              // left over
  CHECK_FALSE(message(good, 8, 1'000'000).empty());    // header beyond the end
  CHECK_FALSE(message(good, 8, 200'000'000).empty());  // over the cap
  CHECK_FALSE(message("{\"a\":", 0).empty());          // not JSON
  CHECK(contains(message(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
                 "a"));  // a size that lies
  CHECK_FALSE(
      message(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", 8).empty());  // type
  CHECK_FALSE(message(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8)
                  .empty());  // negative
  CHECK_FALSE(message(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
                      6)
                  .empty());  // overlap
  CHECK_FALSE(message(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
                      12)
                  .empty());  // hole
  CHECK_FALSE(message(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                      4)
                  .empty());  // twice
  CHECK_FALSE(
      message(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})", 8)
          .empty());  // overflow
  std::ofstream(file, std::ios::binary) << "abc";
  CHECK_FALSE(error_of([&] { Safetensors{file}; }).empty());
}

TEST_CASE("tensors come back as they were written", "[safetensors]") {
  const TemporaryFolder t;
  const Tensor a = at::randn({3, 5}), b = at::randn({7}).to(at::kBFloat16), c = at::arange(4),
               d = at::empty({0, 3});
  save_tensors(t.path / "x.safetensors", {{"b", b}, {"a", a}, {"c", c}, {"d", d}});
  const auto loaded = load_tensors(t.path / "x.safetensors");
  REQUIRE(loaded.size() == 4);
  for (const NamedTensor& each : loaded) {
    const Tensor& expected = each.name == "a" ? a : each.name == "b" ? b : each.name == "c" ? c : d;
    CHECK(each.tensor.scalar_type() == expected.scalar_type());
    CHECK(at::equal(each.tensor, expected));
  }
}

TEST_CASE("every text survives the tokenizer", "[tokenizer]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  for (const std::string text :
       {"Hello there.", "def f(x):\n    return {2: 9, 5: 12}[x]", "  two  spaces ",
        "naïve café – 漢字 🙂", "tab\tand\r\nline", "", "12345", "<|end|>"})
    CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
  CHECK(tokenizer->encode("<|end|>").size() == 1);
  CHECK(tokenizer->id_of("<|user|>").has_value());
  CHECK(tokenizer->encode("123").size() >= 3);  // a piece for each digit
  const TemporaryFolder t;
  CHECK(contains(error_of([&] { load_tokenizer(t.path); }), "tokenizer.model"));
  write_file(t.path / "tokenizer.model", "this is not a model");
  CHECK(contains(error_of([&] { load_tokenizer(t.path); }), "tokenizer.model"));
}

TEST_CASE("only answers are supervised", "[chat]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const Conversation c = {{.role = "user", .content = "What now?", .name = ""},
                          {.role = "assistant", .content = "I wait.", .name = ""},
                          {.role = "user", .content = "And then?", .name = ""},
                          {.role = "assistant", .content = "I rest.", .name = "", .train = false}};
  const Encoded e = encode_conversation(*tokenizer, c);
  std::vector<int32_t> trained;
  for (size_t i = 0; i < e.input_ids.size(); ++i)
    if (e.supervised[i]) trained.push_back(e.input_ids[i]);
  CHECK(tokenizer->decode(trained) == "I wait.<|end|>");
  CHECK(e.input_ids.front() == tokenizer->bos_id());
  CHECK(e.input_ids.back() == tokenizer->eos_id());
  // A prompt is the beginning of the conversation that it opens.
  const auto prompt = encode_prompt(*tokenizer, {c[0]});
  REQUIRE(prompt.size() < e.input_ids.size());
  CHECK(std::equal(prompt.begin(), prompt.end(), e.input_ids.begin()));
  CHECK(render(c) ==
        "<|user|>What now?<|name|>Assistant<|says|>I wait.<|end|><|user|>And "
        "then?<|name|>Assistant<|says|>I rest.<|end|>");
  CHECK_FALSE(error_of([&] {
                encode_conversation(*tokenizer,
                                    {{.role = "user", .content = "a<|end|>b", .name = ""}});
              }).empty());
  CHECK_FALSE(error_of([&] {
                encode_conversation(*tokenizer,
                                    {{.role = "system", .content = "be good", .name = ""}});
              }).empty());
}

// Our kernels in float32 against the same formulas in float64 composed of ATen operations, values
// and gradients.
template <class Work>
void check_kernel(const std::vector<Tensor>& inputs, Work work) {
  std::vector<Tensor> fast, slow;
  for (const Tensor& input : inputs) {
    fast.push_back(input.clone().set_requires_grad(true));
    slow.push_back(input.to(at::kDouble).set_requires_grad(true));
  }
  const Tensor a = work(fast), b = work(slow);
  CHECK(at::allclose(a.to(at::kDouble), b, 1e-4, 1e-5));
  const Tensor weight = at::randn(b.sizes(), at::kDouble);
  (a * weight.to(at::kFloat)).sum().backward();
  (b * weight).sum().backward();
  for (size_t i = 0; i < inputs.size(); ++i)
    CHECK(at::allclose(fast[i].grad().to(at::kDouble), slow[i].grad(), 1e-3, 2e-4));
}

TEST_CASE("kernels agree with their formulas", "[kernels]") {
  at::manual_seed(3);
  const int64_t batch = 2, time = 37, heads = 4, kv_heads = 2, dim = 16;
  const AttentionRule rule{.scale = 0.25};
  check_kernel({at::randn({5, 48}), at::randn({48})},
               [](auto& x) { return rms_norm(x[0], x[1], 1e-5); });
  check_kernel({at::randn({5, 48}), at::randn({5, 48})},
               [](auto& x) { return swiglu(x[0], x[1]); });
  check_kernel({at::randn({batch, time, heads, dim}), at::randn({batch, time, kv_heads, dim}),
                at::randn({batch, time, kv_heads, dim})},
               [&](auto& x) { return causal_attention(x[0], x[1], x[2], rule); });
  // Texts end to end are as texts apart.
  const std::vector<int64_t> lengths = {5, 20, 1, 37, 17};
  const std::vector<Tensor> row = {at::randn({1, 80, heads, dim}),
                                   at::randn({1, 80, kv_heads, dim}),
                                   at::randn({1, 80, kv_heads, dim})};
  const TextGroups groups(lengths, at::kCPU);
  check_kernel(row, [&](auto& x) { return causal_attention(x[0], x[1], x[2], rule, groups); });
  const Tensor together = causal_attention(row[0], row[1], row[2], rule, groups);
  int64_t start = 0;
  for (const int64_t length : lengths) {
    const auto own = [&](const Tensor& x) { return x.narrow(1, start, length); };
    CHECK(at::allclose(own(together), causal_attention(own(row[0]), own(row[1]), own(row[2]), rule),
                       1e-4, 1e-5));
    start += length;
  }
  const Tensor angles = at::outer(at::arange(64, at::kFloat),
                                  at::pow(10000.0, -at::arange(dim / 2, at::kFloat) / (dim / 2)));
  const Tensor positions = at::arange(time).expand({batch, time}).contiguous();
  check_kernel({at::randn({batch, time, heads, dim})},
               [&](auto& x) { return rotary(x[0], angles.cos(), angles.sin(), positions); });
  Tensor labels = at::randint(50, {21}, at::kLong);
  labels.index_put_({at::tensor({0, 7}, at::kLong)}, -100);
  // The loss, and its gradients made in forward, against ATen's own.
  for (const double cap : {0.0, 2.0})
    check_kernel({at::randn({21, 12}), at::randn({50, 12})}, [&](auto& x) {
      if (x[0].scalar_type() == at::kFloat)
        return linear_cross_entropy_sum(x[0], x[1], labels, cap);
      const Tensor z = at::linear(x[0], x[1]);
      return at::cross_entropy_loss(cap > 0 ? cap * at::tanh(z / cap) : z, labels, {},
                                    at::Reduction::Sum, -100);
    });
}

TEST_CASE("a low-rank update agrees with its formula at every rank and width", "[kernels]") {
  at::manual_seed(8);
  constexpr int64_t rows = 37;
  constexpr double scale = 2;
  for (const auto& [in, out] : {std::pair<int64_t, int64_t>{48, 80}, {20, 48}, {48, 20}})
    for (const int64_t rank : {1, 3, 4, 7, 8, 9}) {
      CAPTURE(in, out, rank);
      const Tensor weight = at::randn({out, in});
      const std::vector<Tensor> inputs = {at::randn({rows, in}), at::randn({rank, in}),
                                          at::randn({out, rank})};
      check_kernel(inputs, [&](auto& x) {
        const Tensor w = weight.to(x[0].scalar_type());
        if (x[0].scalar_type() == at::kFloat) return lora_linear(x[0], w, x[1], x[2], scale);
        return at::linear(x[0], w) + scale * at::linear(at::linear(x[0], x[1]), x[2]);
      });
      // Rows of bfloat16 under an adapter of float, with a gradient and without.
      const at::NoGradGuard no_grad;
      const Tensor x = inputs[0].to(at::kBFloat16), w = weight.to(at::kBFloat16),
                   trained = lora_linear(x, w, inputs[1], inputs[2], scale),
                   asked = at::mm(x, w.t()),
                   update = scale * at::linear(at::linear(x.to(at::kFloat), inputs[1]), inputs[2]),
                   sum = (asked.to(at::kFloat) + update).to(at::kBFloat16);
      const LowRank ready = low_rank(inputs[1], inputs[2], scale, x);
      CHECK(ready.narrow == (rank <= 8 && in % 16 == 0 && out % 16 == 0));
      // A narrow update is added in float, and the sum rounded once: but for ties, to the same
      // bits.
      CHECK((trained - sum).to(at::kFloat).norm().item<double>() <
            (ready.narrow ? 3e-4 : 0.01) * sum.to(at::kFloat).norm().item<double>());
      add_low_rank(asked, x, ready);
      CHECK(at::equal(asked, trained));
    }
}

TEST_CASE("an operation of ours refuses a second derivative", "[kernels]") {
  const Tensor x = at::randn({3, 16}).set_requires_grad(true), w = at::randn({16, 16}),
               a = at::randn({4, 16}), b = at::randn({16, 4});
  const Tensor y = lora_linear(x, w, a, b, 1).square().sum();
  CHECK_THROWS_AS(torch::autograd::grad({y}, {x}, {}, std::nullopt, /*create_graph=*/true),
                  c10::Error);
}

TEST_CASE("attention to a cache agrees with its formula at every width and length", "[kernels]") {
  at::manual_seed(4);
  const int64_t rows = 5, heads = 4, kv_heads = 2, seen = 31;
  const AttentionRule rule{.scale = 0.25, .window = GENERATE(0, 7)};
  // Two new tokens a row, of which each has filled a part.
  const Tensor places = at::tensor({0, 1, 6, 7, 8, 9, 15, 16, 29, 30}, at::kLong).view({rows, 2});
  const int64_t dim = GENERATE(8, 16, 32, 44, 64, 80, 128);
  const at::ScalarType type = GENERATE(at::kFloat, at::kBFloat16);
  const Tensor q = at::randn({rows, 2, heads, dim}).to(type),
               keys = at::randn({rows, kv_heads, seen + 6, dim}).to(type).narrow(2, 0, seen),
               values = at::randn({rows, kv_heads, seen + 6, dim}).to(type).narrow(2, 0, seen);
  const Tensor formula = cached_attention(q.to(at::kDouble), keys.to(at::kDouble),
                                          values.to(at::kDouble), places, rule);
  const double rounding = type == at::kFloat ? 1e-5 : 4e-3;
  CHECK(at::allclose(cached_attention(q, keys, values, places, rule).to(at::kDouble), formula,
                     rounding, rounding));
}

TEST_CASE("texts behind a shared prompt attend as each would behind its own", "[kernels]") {
  at::manual_seed(8);
  const at::NoGradGuard no_grad;
  const std::vector<PromptedTexts> groups = {
      {1, {0, 3}}, {20, {1, 17, 40, 0}}, {16, {}}, {3, {16}}};
  const int64_t heads = 4, kv_heads = 2, padding = 5;
  int64_t used = 0;
  for (const PromptedTexts& group : groups)
    used += std::accumulate(group.texts.begin(), group.texts.end(), group.prompt);
  for (const int64_t dim : {12, 32, 64, 128})
    for (const AttentionRule& rule :
         {AttentionRule{.scale = 0.3}, {.scale = 0.3, .window = 7}, {.scale = 0.3, .softcap = 2}}) {
      CAPTURE(dim, rule.window, rule.softcap);
      const Tensor q = at::randn({1, used + padding, heads, dim}),
                   k = at::randn({1, used + padding, kv_heads, dim}), v = at::randn(k.sizes());
      const auto wide = [](const Tensor& x) { return x.to(at::kDouble); };
      const Tensor found = wide(prompted_attention(q, k, v, rule, groups));
      const auto narrow = [](const Tensor& x) { return x.to(at::kBFloat16); };
      const Tensor rough = wide(prompted_attention(narrow(q), narrow(k), narrow(v), rule, groups));
      int64_t begin = 0;
      for (const PromptedTexts& group : groups) {
        int64_t text_begin = begin + group.prompt;
        std::vector<int64_t> texts = group.texts;
        texts.push_back(0);  // the prompt by itself
        for (const int64_t text : texts) {
          const auto alone = [&](const Tensor& x) {
            return at::cat({x.narrow(1, begin, group.prompt), x.narrow(1, text_begin, text)}, 1);
          };
          const Tensor true_one =
              causal_attention(wide(alone(q)), wide(alone(k)), wide(alone(v)), rule);
          CHECK(at::allclose(alone(found), true_one, 1e-4, 1e-5));
          CHECK(at::allclose(alone(rough), true_one, 5e-2, 5e-2));
          text_begin += text;
        }
        begin = text_begin;
      }
      CHECK(found.narrow(1, used, padding).eq(0).all().item<bool>());
    }
}

TEST_CASE("the loss in many chunks is the loss in one", "[kernels]") {
  at::manual_seed(6);
  const int64_t rows = 1100, vocabulary = 16384;  // chunks of 1024 rows
  const Tensor labels = at::randint(vocabulary, {rows}, at::kLong);
  check_kernel({at::randn({rows, 4}), at::randn({vocabulary, 4})}, [&](auto& x) {
    if (x[0].scalar_type() == at::kFloat) return linear_cross_entropy_sum(x[0], x[1], labels);
    return at::cross_entropy_loss(at::linear(x[0], x[1]), labels, {}, at::Reduction::Sum, -100);
  });
}

TEST_CASE("the loss of a large vocabulary keeps its small terms", "[kernels]") {
  Tensor weight = at::full({262144, 1}, -12.0f);
  weight.select(0, 0).zero_();
  const Tensor hidden = at::ones({1, 1}), labels = at::zeros({1}, at::kLong);
  const double right = std::log1p(262143 * std::exp(-12.0));  // float loses some
  CHECK(linear_cross_entropy_sum(hidden, weight, labels).item<double>() ==
        Approx(right).epsilon(1e-5));
}

TEST_CASE("values that are not finite are found", "[kernels]") {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    Tensor x = at::randn({1000, 100}).to(type);
    CHECK(all_finite(x));
    for (const double bad : {INFINITY, -INFINITY, NAN}) {
      Tensor y = x.clone();
      y[999][99] = bad;
      CHECK_FALSE(all_finite(y));
    }
  }
}

TEST_CASE("rms_norm in double passes a finite-difference check", "[kernels]") {
  at::manual_seed(4);
  const Tensor x = at::randn({3, 8}, at::kDouble).set_requires_grad(true),
               w = at::randn({8}, at::kDouble);
  rms_norm(x, w, 1e-5).pow(2).sum().backward();
  const at::NoGradGuard no_grad;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const Tensor up = x.clone(), down = x.clone();
    up.view(-1)[i] += 1e-6, down.view(-1)[i] -= 1e-6;
    const double slope =
        ((rms_norm(up, w, 1e-5).pow(2).sum() - rms_norm(down, w, 1e-5).pow(2).sum()) / 2e-6)
            .item<double>();
    CHECK(x.grad().view(-1)[i].item<double>() == Approx(slope).margin(1e-5));
  }
}

}  // namespace
}  // namespace inoculum
