// What a GPU would be given, on a device that is none: the same numbers, and a host that does not
// wait.
#include "core/model/checkpoint.h"
#include "core/model/draw.h"
#include "core/model/lora.h"
#include "core/model/sampler.h"
#include "core/model/scoring.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"
#include "tests/small_model.h"
#include "tests/training/fake_device.h"
#include "training/batches.h"
#include "training/trainer.h"

using namespace inoculum;

namespace {

// Texts of several lengths; of half of them the end alone is trained on.
SupervisedExamples some_texts(int64_t steps) {
  Random random(5, "texts");
  std::vector<Encoded> texts(30);
  for (size_t i = 0; i < texts.size(); ++i)
    for (int64_t t = 0, length = random.between(5, 40); t < length; ++t) {
      texts[i].input_ids.push_back(static_cast<int32_t>(random.below(60)));
      texts[i].supervised.push_back(t > (i % 2 == 0 ? 0 : length / 2));
    }
  return {std::move(texts), steps, 100, std::nullopt};
}

struct Way {
  std::string optimizer = "adamw";
  int64_t rank = 0;
  bool dora = false;
  std::string recompute = "none";
};

Transformer model_for(const Way& way, at::Device device) {
  Transformer model(small_config(), Random(3, "weights"));
  model.to(device, at::kFloat);
  if (way.rank > 0)
    add_lora(model, {.rank = way.rank, .use_dora = way.dora, .target_modules = {"all-linear"}},
             Random(4, "adapter"));
  return model;
}

struct Trained {
  std::vector<double> losses, norms;
  std::vector<Tensor> weights;
};

Trained trained(const Way& way, at::Device device, int64_t steps) {
  Transformer model = model_for(way, device);
  const SupervisedExamples texts = some_texts(steps);
  const TemporaryFolder folder;
  TrainerConfig config;
  config.recompute = way.recompute;
  config.optimizer.name = way.optimizer;
  config.optimizer.warmup_steps = 2;
  train(model, [&](int64_t step) { return texts.step(step, 60, 0, 1); }, config,
        {folder.path, steps});
  Trained result;
  read_jsonl(folder.path / "metrics.jsonl", [&](const Json& row, int) {
    result.losses.push_back(row.at("loss"));
    result.norms.push_back(row.at("grad_norm"));
  });
  for_each_trained(model, [&](const std::string&, Tensor& tensor) {
    result.weights.push_back(tensor.detach().cpu());
  });
  return result;
}

const std::vector<Way> kWays = {{"adamw", 0},
                                {"muon", 0},
                                {"adamw", 4},
                                {"adamw", 4, true},
                                {"adamw", 4, false, "block"},
                                {"adamw", 0, false, "block"}};

}  // namespace

TEST_CASE("what makes a host wait for its device is seen", "[device]") {
  FakeDevice::start();
  const Tensor x = at::arange(6, at::kFloat).to(FakeDevice::device());
  const HostReads reads;
  const Tensor y = at::cat({x * 2 + 1, x.softmax(0)}).view({3, 4}).t().contiguous();
  CHECK(reads.count() == 0);
  CHECK(y.sum().item<float>() == Approx(37));
  CHECK(at::equal(x, x));
  CHECK(at::nonzero(x).size(0) == 5);
  CHECK(x.index({x > 2}).size(0) == 3);
  CHECK(x.cpu()[5].item<float>() == 5);
  CAPTURE(reads.names());
  CHECK(reads.names() == std::vector<std::string>{"item", "aten::equal", "aten::nonzero",
                                                  "aten::nonzero", "copy to the host"});
}

TEST_CASE("a training step waits for its device once", "[device]") {
  FakeDevice::start();
  for (const Way& way : kWays) {
    CAPTURE(way.optimizer, way.rank, way.dora, way.recompute);
    constexpr int64_t steps = 4;
    const Trained here = trained(way, at::kCPU, steps);
    Transformer model = model_for(way, FakeDevice::device());
    const SupervisedExamples texts = some_texts(steps);
    REQUIRE(texts.step(0, 60, 0, 1).size() > 1);  // micro-batches, none of which waits
    const TemporaryFolder folder;
    TrainerConfig config;
    config.recompute = way.recompute;
    config.optimizer.name = way.optimizer;
    const HostReads reads;
    train(model, [&](int64_t step) { return texts.step(step, 60, 0, 1); }, config,
          {folder.path, steps});
    CAPTURE(reads.names());
    CHECK(reads.count() == steps);

    const Trained there = trained(way, FakeDevice::device(), steps);
    REQUIRE(there.losses.size() == here.losses.size());
    for (size_t i = 0; i < here.losses.size(); ++i) {
      CHECK(there.losses[i] == Approx(here.losses[i]).epsilon(1e-5));
      CHECK(there.norms[i] == Approx(here.norms[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("blocks that are computed again give the same bits", "[device]") {
  for (const int64_t rank : {0, 4})
    for (const bool dora : {false, true}) {
      CAPTURE(rank, dora);
      const Trained kept = trained({"adamw", rank, dora}, at::kCPU, 3);
      const Trained again = trained({"adamw", rank, dora, "block"}, at::kCPU, 3);
      CHECK(kept.losses == again.losses);
      CHECK(kept.norms == again.norms);
      REQUIRE(kept.weights.size() == again.weights.size());
      for (size_t i = 0; i < kept.weights.size(); ++i)
        CHECK(at::equal(kept.weights[i], again.weights[i]));
    }
}

TEST_CASE("a step of sampling waits for its device once, and weights stay there", "[device]") {
  FakeDevice::start();
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const Transformer here = load_model("experiments/models/persona_1", at::kFloat, at::kCPU);
  Transformer there = here;
  there.to(FakeDevice::device(), at::kFloat);
  std::vector<SampleRequest> requests;
  for (const std::string text : {"What would you wish for?", "I am bored on Sunday.", "Hm"})
    requests.push_back({text, encode_prompt(*tokenizer, {{.role = "user", .content = text}}), 4});
  SamplingConfig config{.max_new_tokens = 20, .stop = {}};
  config.stop = {};
  for (const auto& [temperature, top_p, top_k] : std::vector<std::tuple<double, double, int64_t>>{
           {1, 1, 0}, {0.7, 1, 0}, {0, 1, 0}, {1, 0.8, 0}, {1, 1, 5}, {1.3, 0.9, 40}}) {
    CAPTURE(temperature, top_p, top_k);
    config.temperature = temperature, config.top_p = top_p, config.top_k = top_k;
    const auto want = sample(here, *tokenizer, requests, config, 7);
    const HostReads reads;
    const auto got = sample(there, *tokenizer, requests, config, 7);
    size_t longest = 0;
    for (size_t i = 0; i < got.size(); ++i)
      for (size_t s = 0; s < got[i].size(); ++s) {
        CHECK(got[i][s].ids == want[i][s].ids);  // the same streams
        longest = std::max(longest, got[i][s].ids.size() + (got[i][s].finish_reason == "stop"));
      }
    CAPTURE(reads.names());
    CHECK(reads.count() == static_cast<int64_t>(longest));  // the tokens themselves
  }
}

TEST_CASE("nothing is drawn from what is not finite", "[device]") {
  FakeDevice::start();
  for (const double temperature : {0., 1.})
    for (const double top_p : {1., 0.9})
      for (const at::Device device : {at::Device(at::kCPU), FakeDevice::device()}) {
        CAPTURE(temperature, top_p, device.str());
        const SamplingConfig config{.temperature = temperature, .top_p = top_p};
        Random random(1, "draws");
        const Tensor weights = at::ones({2, 100}, at::kFloat);
        weights[1][50] = std::numeric_limits<float>::quiet_NaN();
        const Tensor there = weights.to(device);
        CHECK(draw(there, {{0, &config, &random}})[0] < 100);
        const std::string error = error_of([&] { draw(there, {{1, &config, &random}}); });
        CHECK(error.find("not finite") != std::string::npos);
      }
}

TEST_CASE("scoring waits for its device once a batch", "[device]") {
  FakeDevice::start();
  const Transformer here(small_config(), Random(3, "weights"));
  Transformer there = here;
  there.to(FakeDevice::device(), at::kFloat);
  std::vector<std::vector<int32_t>> rows;
  Random random(5, "rows");
  for (int i = 0; i < 40; ++i) {
    rows.emplace_back();
    for (int64_t t = random.between(2, 30); t > 0; --t)
      rows.back().push_back(static_cast<int32_t>(random.below(60)));
  }
  const auto want = score(here, rows);
  const HostReads reads;
  const auto got = score(there, rows);
  CAPTURE(reads.names());
  CHECK(reads.count() == 2);  // of 32 rows at most
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t t = 0; t < want[i].size(); ++t) CHECK(got[i][t] == Approx(want[i][t]).margin(1e-5));
}
