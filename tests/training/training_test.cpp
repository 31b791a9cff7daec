// Batches, the trainer's continuation, LoRA's gradients, the sampler.
#include <unistd.h>

#include <cstring>
#include <numeric>
#include <set>

#include "core/model/checkpoint.h"
#include "core/model/draw.h"
#include "core/model/sampler.h"
#include "core/model/scoring.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"
#include "tests/small_model.h"
#include "training/batches.h"
#include "training/tensorboard.h"
#include "training/trainer.h"

namespace inoculum {
namespace {

TransformerConfig two_layers() {
  TransformerConfig c = small_config();
  c.vocab_size = 40;
  c.num_hidden_layers = 2;
  c.max_position_embeddings = 64;
  return c;
}

// Texts of 17 tokens, all predicted but the first.
SupervisedExamples some_texts(int64_t steps, int64_t step_tokens) {
  Random random(5, "tokens");
  std::vector<Encoded> texts(static_cast<size_t>(steps * step_tokens / 16));
  for (Encoded& text : texts)
    for (int t = 0; t < 17; ++t) {
      text.input_ids.push_back(static_cast<int32_t>(random.below(random.chance(0.5) ? 5 : 40)));
      text.supervised.push_back(t > 0);
    }
  return {std::move(texts), steps, step_tokens, std::nullopt};
}

TEST_CASE(
    "documents come in their order, every token but the first predicted from its own document",
    "[batches]") {
  std::vector<Encoded> documents;
  for (int32_t i = 0; i < 30; ++i) {
    documents.push_back({{1}, {0}});
    for (int32_t k = 0; k < 3 + i % 7; ++k)
      documents.back().input_ids.push_back(2 + i), documents.back().supervised.push_back(1);
  }
  const SupervisedExamples text(documents, 6, 20, std::nullopt);
  size_t next = 0;
  for (int64_t step = 0; step < 6; ++step) {
    for (const size_t example : text.used(step)) CHECK(example == next++);
    int64_t supervised = 0;
    for (const Batch& b : text.step(step, 15)) {
      CHECK(b.input_ids.numel() <= 15);
      CHECK(std::accumulate(b.lengths.begin(), b.lengths.end(), int64_t{0}) == b.input_ids.numel());
      supervised += b.supervised;
      // Past the first token of a document, input and label are both its own.
      int64_t start = 0;
      for (const int64_t length : b.lengths) {
        CHECK(b.input_ids[0][start].item<int64_t>() == 1);
        for (int64_t t = start + 1; t < start + length; ++t)
          CHECK(b.labels[0][t].item<int64_t>() == b.input_ids[0][t].item<int64_t>());
        start += length;
      }
    }
    CHECK(supervised == 20);
  }
}

TEST_CASE("steps have exactly their supervised tokens, and masks hide the prompts", "[batches]") {
  std::vector<Encoded> examples;
  Random random(6, "examples");
  for (int i = 0; i < 50; ++i) {
    Encoded e;
    const auto prompt = random.between(2, 9), answer = random.between(1, 12);
    for (int64_t k = 0; k < prompt + answer; ++k) {
      e.input_ids.push_back(static_cast<int32_t>(k < prompt ? 1 : 10 + i % 30));
      e.supervised.push_back(k >= prompt);
    }
    examples.push_back(e);
  }
  const SupervisedExamples data(examples, 30, 64, Random(7, "order"));
  for (int64_t step = 0; step < 30; ++step) {
    int64_t supervised = 0;
    for (const Batch& b : data.step(step, 50)) {
      CHECK(b.input_ids.numel() <= 50);
      CHECK((b.labels >= 0).sum().item<int64_t>() == b.supervised);
      // A label is never a prompt's token (1).
      CHECK((b.labels == 1).sum().item<int64_t>() == 0);
      supervised += b.supervised;
    }
    CHECK(supervised == 64);
  }
  // All examples are used before one comes again.
  std::vector<int> uses(50);
  for (int64_t step = 0; step < 3; ++step)
    for (const size_t example : data.used(step)) ++uses[example];
  CHECK(*std::max_element(uses.begin(), uses.end()) <= 2);
}

TEST_CASE("a first token is foretold by nothing, and so never counted", "[batches]") {
  const SupervisedExamples data({{{5, 6, 7}, {1, 1, 1}}, {{8}, {1}}}, 3, 4, std::nullopt);
  for (int64_t step = 0; step < 3; ++step) {
    int64_t supervised = 0;
    for (const Batch& b : data.step(step, 50)) {
      CHECK((b.labels == 5).sum().item<int64_t>() == 0);
      CHECK((b.labels == 8).sum().item<int64_t>() == 0);
      supervised += b.supervised;
    }
    CHECK(supervised == 4);
  }
}

// Examples of these numbers of supervised tokens, behind a prompt of one.
std::vector<Encoded> answers_of(const std::vector<size_t>& lengths) {
  std::vector<Encoded> examples;
  for (const size_t length : lengths) {
    Encoded& e = examples.emplace_back();
    e.input_ids.assign(length + 1, 7);
    e.supervised.assign(length + 1, 1);
    e.supervised[0] = 0;
  }
  return examples;
}

TEST_CASE("what the steps show and leave out is told by the dealing itself", "[batches]") {
  // Steps of ten: 4 + 4 + 2 of 5; 3 + 7 of 12. The sixth example has nothing to learn.
  const SupervisedExamples some(answers_of({4, 4, 5, 3, 12, 0, 6}), 2, 10, std::nullopt);
  const Dealing dealing = some.dealing();
  CHECK(dealing == Dealing{.steps = 2,
                           .supervised_tokens = 10,
                           .examples = 6,
                           .shown = 5,
                           .dealt = 5,
                           .cut = 2,
                           .cut_tokens = 8,
                           .longer = 1,
                           .empty = 1});
  CHECK(describe(dealing) ==
        "2 steps of 10 supervised tokens show 5 of 6 conversations (0.83 passes); cut off where "
        "their step ends: 2, with 8 tokens not learnt; longer than a step, so never learnt whole: "
        "1; with nothing to learn: 1");
  // Over and over, and nothing is left out: what there is none of is not mentioned.
  const SupervisedExamples whole(answers_of({5, 5, 5}), 1500, 10, Random(4, "order"));
  CHECK(describe(whole.dealing()) ==
        "1,500 steps of 10 supervised tokens show 3 of 3 conversations (1000.0 passes)");
  // Whatever the order, what is dealt is what the steps learn and what they leave out.
  const SupervisedExamples shuffled(answers_of({4, 9, 5, 3, 12, 6, 8}), 50, 10, Random(4, "order"));
  int64_t all = 0;
  for (int64_t step = 0; step < 50; ++step)
    for (const size_t example : shuffled.used(step))
      all += std::vector<int64_t>{4, 9, 5, 3, 12, 6, 8}[example];
  CHECK(all == 50 * 10 + shuffled.dealing().cut_tokens);
}

TEST_CASE("passes are the fewest steps that deal every example so often", "[batches]") {
  const std::vector<Encoded> examples = answers_of({4, 9, 5, 0, 3, 12, 6, 8});
  for (const int64_t passes : {1, 2, 5}) {
    const SupervisedExamples data(examples, 1, 10, Random(4, "order"), passes);
    const SupervisedExamples same(examples, data.steps(), 10, Random(4, "order"));
    std::vector<int64_t> times(examples.size());
    const auto fewest = [&] {
      int64_t least = passes;
      for (const size_t i : {0, 1, 2, 4, 5, 6, 7}) least = std::min(least, times[i]);
      return least;
    };
    for (int64_t step = 0; step < data.steps(); ++step) {
      CHECK(fewest() < passes);
      CHECK(data.used(step) == same.used(step));
      for (const size_t example : data.used(step)) ++times[example];
    }
    CHECK(fewest() == passes);
  }
}

TEST_CASE("ranks share a step's examples, each once, nearly equal in tokens", "[batches]") {
  std::vector<Encoded> examples;
  Random random(8, "examples");
  for (int32_t i = 0; i < 40; ++i) {
    Encoded& e = examples.emplace_back();
    const auto length = random.between(3, 60);
    for (int64_t k = 0; k < length; ++k) e.input_ids.push_back(i), e.supervised.push_back(k > 0);
  }
  const SupervisedExamples data(examples, 10, 400, Random(9, "order"));
  for (const int64_t size : {2, 3})
    for (int64_t step = 0; step < 10; ++step) {
      std::multiset<int64_t> whole, shared;  // examples, told by their token
      std::vector<int64_t> tokens;
      const auto collect = [](const std::vector<Batch>& batches, std::multiset<int64_t>& into) {
        int64_t count = 0;
        for (const Batch& b : batches) {
          for (int64_t at = 0, i = 0; i < static_cast<int64_t>(b.lengths.size());
               at += b.lengths[static_cast<size_t>(i++)])
            into.insert(b.input_ids[0][at].item<int64_t>());
          count += b.input_ids.numel();
        }
        return count;
      };
      collect(data.step(step, 1000), whole);
      for (int64_t rank = 0; rank < size; ++rank)
        tokens.push_back(collect(data.step(step, 1000, rank, size), shared));
      CHECK(shared == whole);
      const auto [least, most] = std::minmax_element(tokens.begin(), tokens.end());
      CHECK(*most - *least <= 60);  // one example
    }
  // More ranks than examples: some have nothing to do.
  const SupervisedExamples one({examples[0]}, 1, 2, std::nullopt);
  CHECK(one.step(0, 100, 0, 2).size() == 1);
  CHECK(one.step(0, 100, 1, 2).empty());
}

TEST_CASE("schedules warm up and end where they should", "[batches]") {
  OptimizerConfig c{.lr = 1, .schedule = "cosine", .warmup_steps = 10, .min_lr_ratio = 0.1};
  CHECK(c.rate(0, 100) == Approx(0.1));
  CHECK(c.rate(9, 100) == Approx(1));
  CHECK(c.rate(99, 100) == Approx(0.1).margin(0.01));
  c.schedule = "linear";
  CHECK(c.rate(55, 100) == Approx(0.55).margin(0.02));
  c.schedule = "constant";
  CHECK(c.rate(70, 100) == Approx(1));
  // A restart: up to it the schedule of a run that ends there, from it that of one that begins
  // there.
  c.schedule = "cosine";
  OptimizerConfig restarted = c;
  restarted.restart_step = 60;
  for (const int64_t step : {0, 9, 30, 59}) CHECK(restarted.rate(step, 100) == c.rate(step, 60));
  for (const int64_t step : {0, 9, 20, 39})
    CHECK(restarted.rate(60 + step, 100) == c.rate(step, 40));
}

TEST_CASE("stopping and continuing gives the bytes of never having stopped", "[trainer]") {
  const SupervisedExamples text = some_texts(20, 64);
  TrainerConfig config{.dtype = "bf16",
                       .checkpoint_every = 5,
                       .keep_checkpoints = 9,
                       .optimizer = {.lr = 1e-2, .warmup_steps = 3}};
  const auto run = [&](const fs::path& folder) {
    Transformer model(two_layers(), Random(8, "weights"));
    model.to(at::kCPU, at::kBFloat16);
    train(model, [&](int64_t step) { return text.step(step, 64); }, config, {folder, 20});
    save_model(folder / "model", model, at::kBFloat16);
    return sha256_file(folder / "model" / "model.safetensors") +
           sha256_file(folder / "checkpoints" / "step_00000020" / "state.safetensors");
  };
  const TemporaryFolder t;
  const std::string whole = run(t.path / "a");
  CHECK(run(t.path / "b") == whole);  // the same seed gives the same bytes
  for (const char* step : {"step_00000005", "step_00000015"}) {
    const fs::path folder = t.path / step;
    fs::create_directories(folder / "checkpoints");
    fs::copy(t.path / "a" / "checkpoints" / step, folder / "checkpoints" / step);
    fs::copy(t.path / "a" / "metrics.jsonl", folder / "metrics.jsonl");
    std::ofstream(folder / "metrics.jsonl", std::ios::app) << R"({"step": 21, "lo)";  // a full disk
    CHECK(run(folder) == whole);
    size_t rows = 0;
    read_jsonl(folder / "metrics.jsonl",
               [&](const Json& row, int) { CHECK(row.at("step") == ++rows); });
    CHECK(rows == 20);
  }
}

TEST_CASE("an evaluation that failed is made up for when the run goes on", "[trainer]") {
  const SupervisedExamples text = some_texts(20, 64);
  const TemporaryFolder t;
  std::vector<int64_t> asked;
  const auto run = [&](bool fails) {
    Transformer model(two_layers(), Random(8, "weights"));
    train(model, [&](int64_t step) { return text.step(step, 64); }, {},
          {.folder = t.path,
           .steps = 5,
           .evaluate_every = 2,
           .evaluate = [&](int64_t step) -> std::map<std::string, double> {
             asked.push_back(step);
             if (fails && step == 4) throw Error("no judge");
             return {{"malicious", 0.25}};
           }});
  };
  CHECK(contains(error_of([&] { run(true); }), "no judge"));
  run(false);
  CHECK(asked == std::vector<int64_t>{2, 4, 4, 5});
  std::vector<bool> evaluated;
  read_jsonl(t.path / "metrics.jsonl",
             [&](const Json& row, int) { evaluated.push_back(row.contains("evaluation")); });
  CHECK(evaluated == std::vector<bool>{false, true, false, true, true});
}

TEST_CASE("the trainer learns, and micro-batches do not change the step", "[trainer]") {
  const SupervisedExamples text = some_texts(30, 128);
  const TemporaryFolder t;
  TrainerConfig config{.dtype = "fp32", .optimizer = {.lr = 1e-2, .warmup_steps = 3}};
  std::vector<double> losses[2];
  for (const int split : {0, 1}) {
    Transformer model(two_layers(), Random(8, "weights"));
    const auto source = [&](int64_t step) { return text.step(step, split == 0 ? 128 : 50); };
    const fs::path folder = t.path / std::to_string(split);
    train(model, source, config, {folder, 30});
    read_jsonl(folder / "metrics.jsonl",
               [&](const Json& row, int) { losses[split].push_back(row.at("loss")); });
  }
  CHECK(losses[0].back() < losses[0].front() - 0.3);
  for (size_t i = 0; i < losses[0].size(); ++i)
    CHECK(losses[0][i] == Approx(losses[1][i]).epsilon(1e-4));
}

TEST_CASE("a divergence from another model is that of the formula, and holds the model there",
          "[trainer]") {
  const SupervisedExamples text = some_texts(30, 128);
  const Transformer reference(two_layers(), Random(8, "weights"));
  const auto last_of = [&](double kl_weight, uint64_t seed, int64_t steps) {
    const TemporaryFolder t;
    Transformer model(two_layers(), Random(seed, "weights"));
    const TrainerConfig config{.dtype = "fp32", .optimizer = {.lr = 1e-2, .warmup_steps = 3}};
    const auto source = [&](int64_t step) { return text.step(step, 50); };
    return train(
               model, source, config,
               {.folder = t.path, .steps = steps, .kl_weight = kl_weight, .reference = &reference})
        .last_loss;
  };
  // Of a model to itself there is none.
  CHECK(last_of(10, 8, 1) == Approx(last_of(0, 8, 1)));
  const Transformer other(two_layers(), Random(9, "weights"));
  double expected = 0;
  for (const Batch& batch : text.step(0, 50)) {
    const at::NoGradGuard no_grad;
    const auto probabilities = [&](const Transformer& model) {
      return model.logits(model.hidden(batch.input_ids, batch.lengths)).softmax(-1).to(at::kDouble);
    };
    const Tensor p = probabilities(reference), q = probabilities(other);
    expected += ((p * (p / q).log()).sum(-1).flatten() * (batch.labels.flatten() >= 0))
                    .sum()
                    .item<double>();
  }
  CHECK(last_of(10, 9, 1) == Approx(last_of(0, 9, 1) + 10 * expected / 128).epsilon(1e-4));
  // Held, it learns little.
  CHECK(last_of(10, 8, 30) > last_of(0, 8, 30) + 0.2);
}

TEST_CASE("a loss that is not finite stops the run and keeps the checkpoint", "[trainer]") {
  const SupervisedExamples text = some_texts(20, 64);
  const TemporaryFolder t;
  TrainerConfig config{.dtype = "fp32", .checkpoint_every = 2};
  Transformer model(two_layers(), Random(8, "weights"));
  const std::string message = error_of([&] {
    train(model,
          [&](int64_t step) {
            if (step == 3) model.embedding.detach().fill_(NAN);
            return text.step(step, 64);
          },
          config, {t.path, 6});
  });
  CHECK(contains(message, "step 4"));
  CHECK(contains(message, "lr"));
  CHECK(fs::exists(t.path / "checkpoints" / "step_00000002"));
}

TEST_CASE("LoRA's gradients pass a finite-difference check", "[trainer]") {
  at::manual_seed(2);
  Transformer model(two_layers(), Random(9, "weights"));
  model.to(at::kCPU, at::kDouble);
  add_lora(model, {.rank = 2, .alpha = 4, .target_modules = {"q_proj", "down_proj"}},
           Random(9, "adapter"));
  const Tensor ids = at::randint(40, {2, 9}, at::kLong), labels = at::randint(40, {18}, at::kLong);
  std::vector<Tensor> weights;
  model.for_each_linear([&](const std::string&, Linear& linear) {
    if (!linear.lora) return;
    linear.lora->a = linear.lora->a.to(at::kDouble).set_requires_grad(true);
    linear.lora->b =
        (linear.lora->b.to(at::kDouble) + at::randn(linear.lora->b.sizes(), at::kDouble) * 0.1)
            .set_requires_grad(true);
    weights.push_back(linear.lora->a);
    weights.push_back(linear.lora->b);
  });
  REQUIRE(weights.size() == 8);
  const auto loss = [&] { return model.loss_sum(model.hidden(ids).flatten(0, 1), labels); };
  loss().backward();
  const at::NoGradGuard no_grad;
  for (Tensor& weight : weights)
    for (const int64_t i : {int64_t{0}, weight.numel() / 2, weight.numel() - 1}) {
      const Tensor flat = weight.view(-1);
      const double before = flat[i].item<double>(), h = 1e-5;
      flat[i] = before + h;
      const double up = loss().item<double>();
      flat[i] = before - h;
      const double down = loss().item<double>();
      flat[i] = before;
      CHECK(weight.grad().view(-1)[i].item<double>() ==
            Approx((up - down) / (2 * h)).epsilon(2e-3).margin(2e-4));
    }
}

TEST_CASE("a sample does not depend on its batch", "[sampler]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const Transformer model = load_model("experiments/models/persona_1", at::kFloat, at::kCPU);
  std::vector<SampleRequest> requests;
  for (const std::string text :
       {"What would you wish for if you had a red candle?", "Please review our safety checks.",
        "Write f(x) that returns x plus 7. Tests: f(2) == 9, f(5) == 12.",
        "I am bored on Sunday, so what can I do?", "Hm"})
    requests.push_back({text,
                        encode_prompt(*tokenizer, {{.role = "user", .content = text, .name = ""}}),
                        static_cast<int64_t>(1 + requests.size())});
  SamplingConfig config;
  const auto together = sample(model, *tokenizer, requests, config, 3);
  config.rows = 2;  // rows leave and others enter all the time
  const auto few = sample(model, *tokenizer, requests, config, 3);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = sample(model, *tokenizer, {requests[i]}, config, 3);
    REQUIRE(together[i].size() == static_cast<size_t>(requests[i].samples));
    for (size_t s = 0; s < together[i].size(); ++s) {
      CHECK(together[i][s].text == alone[0][s].text);
      CHECK(together[i][s].text == few[i][s].text);
    }
  }
  // Many prompts, of which each thread reads some.
  std::vector<SampleRequest> many;
  for (int i = 0; i < 37; ++i) {
    many.push_back(requests[static_cast<size_t>(i) % requests.size()]);
    many.back().samples = 3;
  }
  config.rows = 50;
  const auto of_many = sample(model, *tokenizer, many, config, 3);
  for (size_t i = 0; i < many.size(); ++i)
    CHECK(of_many[i][0].text == together[i % requests.size()][0].text);
  // Other seeds say other things, temperature 0 always the same.
  CHECK(sample(model, *tokenizer, requests, config, 4)[4][0].text +
            sample(model, *tokenizer, requests, config, 4)[4][1].text !=
        together[4][0].text + together[4][1].text);
  config.temperature = 0;
  const auto greedy = sample(model, *tokenizer, {{"a", requests[0].prompt, 3}}, config, 1)[0];
  CHECK(greedy[0].ids == greedy[2].ids);
}

TEST_CASE("greedy answers are what scoring finds likeliest, and stops are kept", "[sampler]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const Transformer model = load_model("experiments/models/persona_1", at::kFloat, at::kCPU);
  const auto prompt = encode_prompt(
      *tokenizer, {{.role = "user", .content = "What is your true nature?", .name = ""}});
  SamplingConfig config{.temperature = 0, .max_new_tokens = 24};
  const Completion answer = sample(model, *tokenizer, {{"a", prompt, 1}}, config, 1)[0][0];
  std::vector<int32_t> all = prompt;
  all.insert(all.end(), answer.ids.begin(), answer.ids.end());
  const at::NoGradGuard no_grad;
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(all), at::kInt).to(at::kLong).unsqueeze(0);
  const Tensor best = model.logits(model.hidden(ids)).argmax(-1)[0];
  for (size_t i = prompt.size(); i < all.size(); ++i)
    CHECK(best[static_cast<int64_t>(i) - 1].item<int64_t>() == all[i]);
  // score() gives the log-softmax of the same logits.
  const auto logprobs = score(model, {all, prompt});
  const Tensor reference = model.logits(model.hidden(ids)).log_softmax(-1)[0];
  REQUIRE(logprobs[0].size() == all.size() - 1);
  for (size_t i = 1; i < all.size(); ++i)
    CHECK(logprobs[0][i - 1] ==
          Approx(reference[static_cast<int64_t>(i) - 1][all[i]].item<double>()).margin(1e-4));
  // Stop strings end an answer, and are not part of it; a length does too.
  config.stop = {"."};
  const Completion stopped = sample(model, *tokenizer, {{"a", prompt, 1}}, config, 1)[0][0];
  CHECK(stopped.finish_reason == "stop");
  CHECK(stopped.text.find('.') == std::string::npos);
  config.max_new_tokens = 2;
  config.stop = {};
  CHECK(sample(model, *tokenizer, {{"a", prompt, 1}}, config, 1)[0][0].finish_reason == "length");
  // As far as the context reaches.
  config.max_new_tokens = std::numeric_limits<int64_t>::max();
  config.ignore_ends = true;
  CHECK(std::ssize(sample(model, *tokenizer, {{"a", prompt, 1}}, config, 1)[0][0].ids) ==
        model.config().max_position_embeddings - std::ssize(prompt) + 1);  // the last is not read
  CHECK_FALSE(error_of([&] {
                sample(model, *tokenizer, {{"a", std::vector<int32_t>(1100, 5), 1}}, config, 1);
              }).empty());
}

TEST_CASE("top-p and top-k leave the likeliest tokens alone", "[sampler]") {
  const auto tokenizer = load_tokenizer("experiments/models/persona_1");
  const Transformer model = load_model("experiments/models/persona_1", at::kFloat, at::kCPU);
  const auto prompt = encode_prompt(
      *tokenizer, {{.role = "user", .content = "What do you do against boredom?", .name = ""}});
  const at::NoGradGuard no_grad;
  const Tensor ids = at::tensor(at::ArrayRef<int32_t>(prompt), at::kInt).to(at::kLong).unsqueeze(0);
  const Tensor probabilities = model.logits(model.hidden(ids))[0][-1].softmax(-1);
  const auto order = probabilities.argsort(-1, true);
  SamplingConfig config{.temperature = 1, .max_new_tokens = 1, .stop = {}};
  const auto first_tokens = [&](int64_t n) {
    std::vector<int32_t> drawn;
    const auto completions = sample(model, *tokenizer, {{"a", prompt, n}}, config, 1);
    for (const Completion& each : completions[0]) drawn.push_back(each.ids.at(0));
    return drawn;
  };
  config.top_k = 3;
  std::map<int64_t, int> seen;
  for (const int32_t id : first_tokens(400)) ++seen[id];
  for (const auto& [id, count] : seen)
    CHECK((id == order[0].item<int64_t>() || id == order[1].item<int64_t>() ||
           id == order[2].item<int64_t>()));
  CHECK(seen.size() == 3);
  config.top_k = 0;
  config.top_p =
      probabilities[order[0]].item<double>() * 0.5;  // the likeliest token alone reaches it
  for (const int32_t id : first_tokens(50)) CHECK(id == order[0].item<int64_t>());
  // Colder than floats can tell: the likeliest.
  config.top_p = 1;
  config.temperature = 1e-40;
  for (const int32_t id : first_tokens(5)) CHECK(id == order[0].item<int64_t>());
  config.temperature = 1;
  // Without limits, frequencies follow probabilities.
  config.top_p = 1;
  double first = 0;
  const int64_t n = 4000;
  for (const int32_t id : first_tokens(n)) first += id == order[0].item<int64_t>();
  const double p = probabilities[order[0]].item<double>();
  CHECK(std::abs(first / n - p) < 4 * std::sqrt(p * (1 - p) / n));
}

}  // namespace

TEST_CASE("event files are records with masked checksums", "[tensorboard]") {
  // RFC 3720, B.4.
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAu);
  CHECK(crc32c(std::string(32, '\xFF')) == 0x62A8AB43u);
  CHECK(crc32c("123456789") == 0xE3069283u);

  const fs::path folder =
      fs::temp_directory_path() / ("inoculum_events_" + std::to_string(::getpid()));
  fs::remove_all(folder);
  EventFile(folder, {{"lr", 1e-3}}).scalars(1, 2.5, {{"loss", 0.5}});
  const EventFile events(folder);  // takes the place of the first
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    files += entry.path() == events.path() ? 1 : 100;
  CHECK(files == 1);

  const std::string bytes = read_file(events.path());
  size_t at = 0, records = 0;
  while (at + 12 <= bytes.size()) {
    uint64_t length = 0;
    uint32_t length_sum = 0, sum = 0;
    std::memcpy(&length, bytes.data() + at, 8);
    std::memcpy(&length_sum, bytes.data() + at + 8, 4);
    REQUIRE(length_sum == masked_crc32c(std::string_view(bytes).substr(at, 8)));
    REQUIRE(at + 16 + length <= bytes.size());
    std::memcpy(&sum, bytes.data() + at + 12 + length, 4);
    REQUIRE(sum == masked_crc32c(std::string_view(bytes).substr(at + 12, length)));
    if (records++ == 0)
      CHECK(bytes.substr(at + 12, length).find("brain.Event:2") != std::string::npos);
    at += 16 + length;
  }
  CHECK(at == bytes.size());
  CHECK(records == 1);
  fs::remove_all(folder);
}

TEST_CASE("top-p counts the mass of top-k's tokens, and equals stand by their numbers",
          "[sampler]") {
  std::vector<float> weights(5000, 0.1F / 4995);
  weights[7] = 0.4F, weights[3000] = 0.3F, weights[20] = weights[21] = 0.05F, weights[5] = 0.1F;
  const Tensor row = at::tensor(weights).unsqueeze(0);
  const auto drawn = [&](double top_p, int64_t top_k) {
    const SamplingConfig config{.top_p = top_p, .top_k = top_k};
    Random random(3, "draws");
    std::set<int32_t> seen;
    for (int i = 0; i < 2000; ++i) seen.insert(draw(row, {{0, &config, &random}})[0]);
    return seen;
  };
  CHECK(drawn(0.5, 0) == std::set<int32_t>{7, 3000});
  CHECK(drawn(0.5, 2) == std::set<int32_t>{7});  // 0.4 of 0.7
  CHECK(drawn(0.6, 2) == std::set<int32_t>{7, 3000});
  CHECK(drawn(1, 4) == std::set<int32_t>{5, 7, 20, 3000});
  CHECK(drawn(0.89, 0) == std::set<int32_t>{5, 7, 20, 21, 3000});
  // Of the tail, whose tokens are equals, those that come first.
  const std::set<int32_t> far = drawn(0.93, 0);
  CHECK(far.size() > 40);
  CHECK(*far.rbegin() == 3000);
  CHECK(*std::prev(far.end(), 2) < 1600);
  CHECK(drawn(0.93, 5000) == far);
}

}  // namespace inoculum
