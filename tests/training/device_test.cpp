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
SupervisedExamples some_texts(int64_t steps, int64_t supervised) {
  Random random(5, "texts");
  std::vector<Encoded> texts(30);
  for (size_t i = 0; i < texts.size(); ++i)
    for (int64_t t = 0, length = random.between(5, 40); t < length; ++t) {
      texts[i].input_ids.push_back(static_cast<int32_t>(random.below(60)));
      texts[i].supervised.push_back(t > (i % 2 == 0 ? 0 : length / 2));
    }
  return {std::move(texts), steps, supervised, std::nullopt};
}

struct Way {
  std::string optimizer = "adamw";
  int64_t rank = 0;
  bool dora = false;
  std::string recompute = "none";
  std::vector<std::string> targets = {"all-linear"};
  int64_t supervised = 100;  // tokens a step
  double kl_weight = 0;
};

Transformer model_for(const Way& way, at::Device device) {
  Transformer model(small_config(), Random(3, "weights"));
  model.to(device, at::kFloat);
  if (way.rank > 0)
    add_lora(model, {.rank = way.rank, .use_dora = way.dora, .target_modules = way.targets},
             Random(4, "adapter"));
  return model;
}

struct Trained {
  std::vector<double> losses, norms;
  std::vector<Tensor> weights;
  std::vector<std::string> waits;  // of the host for the device
};

Trained trained(const Way& way, at::Device device, int64_t steps) {
  Transformer model = model_for(way, device);
  const Transformer reference = model_for({}, device);
  const SupervisedExamples texts = some_texts(steps, way.supervised);
  const TemporaryFolder folder;
  TrainerConfig config;
  config.recompute = way.recompute;
  config.optimizer.name = way.optimizer;
  config.optimizer.warmup_steps = 2;
  Trained result;
  const HostReads reads;
  train(model, [&](int64_t step) { return texts.step(step, 60, 0, 1); }, config,
        {.folder = folder.path,
         .steps = steps,
         .kl_weight = way.kl_weight,
         .reference = way.kl_weight > 0 ? &reference : nullptr});
  result.waits = reads.names();
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
                                {"adamw", 0, false, "block"},
                                {.rank = 4, .kl_weight = 0.1}};

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
    CAPTURE(way.optimizer, way.rank, way.dora, way.recompute, way.kl_weight);
    constexpr int64_t steps = 4;
    const Trained here = trained(way, at::kCPU, steps);
    // Micro-batches, none of which waits.
    REQUIRE(some_texts(steps, way.supervised).step(0, 60, 0, 1).size() > 1);
    const Trained there = trained(way, FakeDevice::device(), steps);
    CAPTURE(there.waits);
    CHECK(std::ssize(there.waits) == steps);
    REQUIRE(there.losses.size() == here.losses.size());
    for (size_t i = 0; i < here.losses.size(); ++i) {
      CHECK(there.losses[i] == Approx(here.losses[i]).epsilon(1e-5));
      CHECK(there.norms[i] == Approx(here.norms[i]).epsilon(1e-4));
    }
  }
}

TEST_CASE("blocks that are computed again give the same bits", "[device]") {
  using Names = std::vector<std::string>;
  for (const auto& [rank, dora, targets, supervised] :
       std::vector<std::tuple<int64_t, bool, Names, int64_t>>{
           {0, false, {"all-linear"}, 100},
           {4, false, {"all-linear"}, 100},
           {4, true, {"all-linear"}, 100},
           // The last block ends with the few rows that are supervised.
           {0, false, {"all-linear"}, 1},
           {0, false, {"all-linear"}, 3},
           {4, false, {"q_proj", "v_proj"}, 1},
           {4, false, {"q_proj", "v_proj"}, 3}}) {
    CAPTURE(rank, dora, targets, supervised);
    Way way{"adamw", rank, dora, "none", targets, supervised};
    const Trained kept = trained(way, at::kCPU, 3);
    way.recompute = "block";
    const Trained again = trained(way, at::kCPU, 3);
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

TEST_CASE("rows of several settings wait for their device once", "[device]") {
  FakeDevice::start();
  Random random(2, "logits");
  const Tensor logits = at::empty({6, 90}, at::kFloat);
  for (int64_t i = 0; i < logits.numel(); ++i)
    logits.data_ptr<float>()[i] = static_cast<float>(4 * random.uniform());
  const SamplingConfig settings[] = {
      {}, {.temperature = 0}, {.top_p = 0.7}, {.temperature = 2, .top_p = 0.9, .top_k = 9}};
  const std::vector<LogprobRequest> asked = {{0, 7, 2}, {2, 9, 0}, {3, 1, 2}, {5, 0, 1000}};
  const auto all = [&](const Tensor& of) {
    std::vector<Random> streams;
    for (uint64_t i = 0; i < 6; ++i) streams.emplace_back(i, "draws");
    std::vector<Draw> draws;
    std::vector<const SamplingConfig*> configs;
    for (size_t i = 0; i < 6; ++i) {
      configs.push_back(&settings[i % 4]);
      draws.push_back({static_cast<int64_t>(i), configs[i], &streams[i]});
    }
    return draw(weights_of(of, configs), draws);
  };
  const Tensor there = logits.to(FakeDevice::device());
  const std::vector<int32_t> want = all(logits);
  const std::vector<TokenLogprob> likely = logprobs_of(logits, asked);
  const HostReads reads;
  CHECK(all(there) == want);
  CHECK(reads.count() == 1);
  const std::vector<TokenLogprob> found = logprobs_of(there, asked);
  CAPTURE(reads.names());
  CHECK(reads.count() == 2);
  REQUIRE(found.size() == 4);
  for (size_t i = 0; i < 4; ++i) {
    CHECK(found[i].id == asked[i].id);
    CHECK(found[i].logprob == Approx(likely[i].logprob));
    CHECK(std::ssize(found[i].top) == std::min<int64_t>(asked[i].top, 90));
    REQUIRE(found[i].top.size() == likely[i].top.size());
    for (size_t k = 0; k < found[i].top.size(); ++k) {
      CHECK(found[i].top[k].first == likely[i].top[k].first);
      CHECK(found[i].top[k].second == Approx(likely[i].top[k].second));
    }
  }
  // By LibTorch: of row 3 the likeliest, and token 1.
  const Tensor row = logits[3].log_softmax(-1);
  CHECK(likely[2].logprob == Approx(row[1].item<double>()));
  CHECK(likely[2].top[0].first == row.argmax().item<int64_t>());
  CHECK(likely[2].top[0].second == Approx(row.max().item<double>()));
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

TEST_CASE("choices behind a prompt that is read once are scored alike", "[device]") {
  FakeDevice::start();
  const Transformer here(small_config(), Random(3, "weights"));
  Transformer there = here;
  there.to(FakeDevice::device(), at::kFloat);
  std::vector<Continuation> texts;
  Random random(5, "rows");
  for (int prompt = 0; prompt < 5; ++prompt) {
    std::vector<int32_t> ids;
    for (int64_t t = random.between(6, 30); t > 0; --t)
      ids.push_back(static_cast<int32_t>(random.below(60)));
    for (int answer = 0; answer < 4; ++answer) {
      texts.push_back({ids, ids.size()});
      for (int64_t t = random.between(1, 9); t > 0; --t)
        texts.back().ids.push_back(static_cast<int32_t>(random.below(60)));
    }
  }
  const auto want = score(here, texts);
  const HostReads reads;
  const auto got = score(there, texts);
  CAPTURE(reads.names());
  CHECK(reads.count() <= 5);  // once a prompt at most
  for (size_t i = 0; i < texts.size(); ++i) {
    REQUIRE(got[i].size() == want[i].size());
    for (size_t t = 0; t < want[i].size(); ++t) CHECK(got[i][t] == Approx(want[i][t]).margin(1e-5));
  }
}
