// Answers side by side: what they say, and when their rows are free.
#include "core/model/generation.h"

#include <algorithm>
#include <map>

#include "core/model/checkpoint.h"
#include "core/model/lora.h"
#include "core/model/parallel.h"
#include "core/model/sampler.h"
#include "core/model/scoring.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"

using namespace inoculum;

namespace {

const std::string kFolder = "experiments/models/persona_1";

struct Fixture {
  explicit Fixture(at::ScalarType type)
      : tokenizer(load_tokenizer(kFolder)),
        base(load_model(kFolder, type, at::kCPU)),
        adapted(base) {
    // An adapter that says other things.
    add_lora(adapted, {.rank = 4}, Random(5, "adapter"));
    const at::NoGradGuard no_grad;
    adapted.for_each_linear([](const std::string&, Linear& linear) {
      if (linear.lora) linear.lora->b.normal_(0, 0.02);
    });
    ready_lora(adapted);
  }
  std::vector<int32_t> prompt(const std::string& text) const {
    return encode_prompt(*tokenizer, {{.role = "user", .content = text}});
  }

  std::unique_ptr<Tokenizer> tokenizer;
  Transformer base, adapted;
};

GenerationRequest request(const Transformer& model, const std::vector<int32_t>& prompt,
                          uint64_t seed) {
  GenerationRequest asked{.model = &model, .prompt = prompt, .random = sampling_stream(seed, "0")};
  asked.sampling.max_new_tokens = 24;
  asked.logprobs = 3;
  return asked;
}

// Every answer of every request.
std::map<uint64_t, std::vector<Completion>> run(Generation& generation) {
  std::map<uint64_t, std::vector<Completion>> done;
  while (generation.busy())
    for (GenerationEvent& event : generation.step()) {
      if (!event.completion) continue;
      auto& all = done[event.request];
      all.resize(std::max(all.size(), static_cast<size_t>(event.sample) + 1));
      all[static_cast<size_t>(event.sample)] = std::move(*event.completion);
    }
  return done;
}

void check_same_bits(const Completion& a, const Completion& b) {
  CHECK(a.ids == b.ids);
  CHECK(a.text == b.text);
  REQUIRE(a.logprobs.size() == b.logprobs.size());
  for (size_t i = 0; i < a.logprobs.size(); ++i) {
    CHECK(a.logprobs[i].logprob == b.logprobs[i].logprob);
    CHECK(a.logprobs[i].top == b.logprobs[i].top);
  }
}

}  // namespace

TEST_CASE("with fixed shapes an answer has the same bits whoever else is served", "[generation]") {
  const at::ScalarType type = GENERATE(at::kBFloat16, at::kFloat);
  const Fixture models(type);
  // Longer than two chunks of prompts, so that the end of it is shared with some of the others.
  std::string long_text = "Please review our safety checks.";
  for (int i = 0; i < 6; ++i) long_text += " What would you wish for if you had a red candle?";
  const std::vector<std::vector<int32_t>> asked = {models.prompt("I am bored on Sunday."),
                                                   models.prompt(long_text)};
  REQUIRE(asked[1].size() > 70);
  const GenerationConfig config{.rows = 50, .shapes = Shapes::fixed};
  for (const Transformer* model : {&models.base, &models.adapted})
    for (const std::vector<int32_t>& prompt : asked) {
      Generation quiet(*models.tokenizer, config);
      quiet.add(request(*model, prompt, 7));
      const Completion alone = run(quiet)[0][0];
      REQUIRE(alone.ids.size() > 3);

      Generation busy(*models.tokenizer, config);
      Random random(1, "others");
      for (int i = 0; i < 40; ++i) {
        const std::string text =
            i % 3 == 0 ? long_text.substr(0, 100 + random.below(200))
                       : "Number " + std::to_string(random.below(1000)) + ", what now?";
        GenerationRequest other = request(random.chance(0.5) ? models.base : models.adapted,
                                          models.prompt(text), random.next());
        other.samples = random.between(1, 4);
        other.sampling.temperature = random.chance(0.3) ? 0 : 0.5 + random.uniform();
        other.sampling.top_k = random.chance(0.3) ? 20 : 0;
        other.stream = random.chance(0.5);
        busy.add(std::move(other));
        if (i == 20) busy.add(request(*model, prompt, 7));
        if (i % 7 == 0) busy.step();
        if (i % 11 == 10) busy.cancel(static_cast<uint64_t>(i - 4));
      }
      check_same_bits(alone, run(busy)[21][0]);

      // Behind itself, its prompt is not read again.
      const int64_t read = quiet.prompt_tokens_read();
      const uint64_t again = quiet.add(request(*model, prompt, 7));
      check_same_bits(alone, run(quiet)[again][0]);
      CHECK(quiet.prompt_tokens_read() == read);
    }
}

TEST_CASE("a prefix that prompts share is read once", "[generation]") {
  const Fixture models(at::kFloat);
  std::vector<int32_t> shared = models.prompt("Hm");
  Random random(2, "tokens");
  while (shared.size() < 64) shared.push_back(static_cast<int32_t>(random.between(300, 1000)));
  Generation generation(*models.tokenizer, {.rows = 8, .shapes = Shapes::fixed});
  for (int32_t i = 0; i < 20; ++i) {
    std::vector<int32_t> prompt = shared;
    for (int32_t k = 0; k < 10; ++k) prompt.push_back(400 + i + k);
    generation.add(request(models.base, prompt, 1));
  }
  run(generation);
  CHECK(generation.prompt_tokens_read() == 64 + 20 * 10);
}

TEST_CASE("a long prompt does not hold up what is under way", "[generation]") {
  const ThreadShare one(1);  // with many, more is read in a step
  const Fixture models(at::kFloat);
  Random random(3, "tokens");
  const auto long_request = [&] {
    std::vector<int32_t> ids = models.prompt("Hm");
    while (ids.size() < 600) ids.push_back(static_cast<int32_t>(random.between(300, 1000)));
    return request(models.base, ids, 1);
  };
  GenerationRequest quick = request(models.base, models.prompt("Hm"), 1);
  quick.sampling = {.max_new_tokens = 90, .stop = {}};
  quick.stream = true;
  Generation generation(*models.tokenizer, {.rows = 8, .shapes = Shapes::fixed});
  const uint64_t first = generation.add(quick);
  generation.step();
  const uint64_t second = generation.add(long_request()), third = generation.add(long_request());
  const auto tokens_of_first = [&] {
    size_t tokens = 0;
    for (const GenerationEvent& each : generation.step())
      if (each.request == first) tokens += each.logprobs.size();
    return tokens;
  };
  CHECK(tokens_of_first() == 1);  // and the others are still being read
  CHECK(generation.rows() == 1);
  CHECK(generation.waiting() == 2);
  // What comes meanwhile is not read behind them.
  const uint64_t fourth = generation.add(request(models.base, models.prompt("What now?"), 2));
  CHECK(tokens_of_first() == 1);
  CHECK(generation.rows() == 2);
  generation.cancel(third);
  CHECK(generation.waiting() == 1);
  const auto done = run(generation);
  CHECK(done.size() == 3);
  for (const uint64_t each : {first, second, fourth}) CHECK(done.contains(each));
}

TEST_CASE("answers are those of sample, of which stream each draws from", "[generation]") {
  const Fixture models(at::kFloat);
  const std::vector<int32_t> first = models.prompt("What would you wish for?"),
                             second = models.prompt("Hm");
  // Longer than the places that a row has at first.
  const SamplingConfig sampling{.max_new_tokens = 300, .stop = {}};
  const auto want =
      sample(models.base, *models.tokenizer, {{"0", first, 3}, {"1", second, 2}}, sampling, 18);
  Generation generation(*models.tokenizer, {.rows = 4, .shapes = Shapes::fixed});
  GenerationRequest one = request(models.base, first, 18);
  one.sampling = sampling;
  one.samples = 3;
  generation.add(one);
  one.prompt = second;
  one.random = sampling_stream(18, "1");
  one.samples = 2;
  generation.add(one);
  const auto got = run(generation);
  CHECK(want[0][0].ids.size() > 150);
  for (const uint64_t r : {0, 1})
    for (size_t s = 0; s < want[r].size(); ++s) {
      CHECK(got.at(r)[s].text == want[r][s].text);
      CHECK(got.at(r)[s].finish_reason == want[r][s].finish_reason);
    }
}

TEST_CASE("log-probabilities are those of score, of prompts too", "[generation]") {
  const Fixture models(at::kFloat);
  GenerationRequest asked = request(models.adapted, models.prompt("What is your true nature?"), 3);
  asked.prompt_logprobs = true;
  Generation generation(*models.tokenizer, {.rows = 4, .shapes = Shapes::fixed});
  generation.add(asked);
  std::vector<double> got;
  Completion answer;
  while (generation.busy())
    for (GenerationEvent& event : generation.step()) {
      if (event.sample < 0)
        for (const TokenLogprob& each : event.logprobs) got.push_back(each.logprob);
      if (event.completion) answer = std::move(*event.completion);
    }
  for (const TokenLogprob& each : answer.logprobs) {
    got.push_back(each.logprob);
    REQUIRE(each.top.size() == 3);
    CHECK(each.top[0].second >= each.top[2].second);
    CHECK(each.logprob <= each.top[0].second);
  }
  std::vector<int32_t> all = asked.prompt;
  all.insert(all.end(), answer.ids.begin(), answer.ids.end());
  const auto want = score(models.adapted, {all})[0];
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(want[i]).margin(1e-4));
}

TEST_CASE("a stream is the answer, without what a stop string takes back", "[generation]") {
  const Fixture models(at::kFloat);
  GenerationRequest asked = request(models.base, models.prompt("What would you wish for?"), 4);
  asked.samples = 30;
  asked.stream = true;
  asked.sampling.max_new_tokens = 40;
  asked.sampling.temperature = 1.5;  // characters in bytes, too
  asked.sampling.stop = {". ", "the b", "<|end|>"};
  Generation generation(*models.tokenizer, {.rows = 16, .shapes = Shapes::fixed});
  generation.add(asked);
  std::map<int64_t, std::string> text;
  std::map<int64_t, size_t> tokens;
  int stopped = 0;
  while (generation.busy())
    for (const GenerationEvent& event : generation.step()) {
      text[event.sample] += event.text;
      tokens[event.sample] += event.logprobs.size();
      CHECK(text[event.sample].find(". ") == std::string::npos);
      if (!event.completion) continue;
      CHECK(text[event.sample] == event.completion->text);
      CHECK(tokens[event.sample] == event.completion->ids.size());
      stopped += event.completion->finish_reason == "stop";
    }
  CHECK(stopped > 3);
}

TEST_CASE("a stop string stops however its tokens spell it, and the first of several",
          "[generation]") {
  const Fixture models(at::kFloat);
  GenerationRequest asked = request(models.base, models.prompt("What would you wish for?"), 4);
  asked.samples = 8;
  asked.sampling.stop = {"<|end|>"};
  Generation plain(*models.tokenizer, {.rows = 8, .shapes = Shapes::fixed});
  const uint64_t whole = plain.add(asked);
  const auto wholes = run(plain).at(whole);
  for (const Completion& answer : wholes) {
    // The second word: a token with the space before it.
    const size_t begin = answer.text.find(' ') + 1, end = answer.text.find(' ', begin);
    if (begin == 0 || end == std::string::npos) continue;
    const std::string word = answer.text.substr(begin, end - begin);
    CAPTURE(answer.text, word);
    GenerationRequest again = asked;
    again.sampling.stop = {answer.text.substr(end), word, "<|end|>"};
    Generation stopped(*models.tokenizer, {.rows = 8, .shapes = Shapes::fixed});
    const uint64_t cut = stopped.add(again);
    const auto answers = run(stopped).at(cut);
    CHECK(std::ranges::any_of(answers, [&](const Completion& each) {
      return each.text == answer.text.substr(0, begin);
    }));
    for (const Completion& each : answers) CHECK_FALSE(contains(each.text, word));
  }
}

TEST_CASE("a row that is cancelled is free at once", "[generation]") {
  const Fixture models(at::kFloat);
  GenerationRequest endless = request(models.base, models.prompt("Hm"), 1);
  endless.sampling = {.max_new_tokens = 900, .stop = {}};
  endless.samples = 6;
  Generation generation(*models.tokenizer, {.rows = 4, .shapes = Shapes::fixed});
  const uint64_t first = generation.add(endless), second = generation.add(endless);
  generation.step();
  CHECK(generation.rows() == 4);
  CHECK(generation.waiting() == 8);
  generation.cancel(second);
  CHECK(generation.waiting() == 2);
  generation.cancel(first);
  CHECK(generation.rows() == 0);
  CHECK_FALSE(generation.busy());
  const uint64_t third = generation.add(request(models.base, models.prompt("Hm"), 1));
  const auto done = run(generation);
  CHECK(done.size() == 1);
  CHECK(done.contains(third));
}

TEST_CASE("a model with an adapter has its base's own weights", "[generation]") {
  Fixture models(at::kBFloat16);
  std::map<std::string, const void*> weights;
  models.base.for_each_parameter(
      [&](const std::string& name, Tensor& t) { weights[name] = t.data_ptr(); });
  models.adapted.for_each_parameter(
      [&](const std::string& name, Tensor& t) { CHECK(weights.at(name) == t.data_ptr()); });
}

TEST_CASE("the smallest nucleus holds the likeliest token", "[generation]") {
  const Fixture models(at::kFloat);
  GenerationRequest asked = request(models.base, models.prompt("Hm"), 1);
  asked.sampling.top_p = 0;
  Generation generation(*models.tokenizer, {.rows = 4});
  generation.add(asked);
  asked.sampling.temperature = 0;
  generation.add(asked);
  const auto done = run(generation);
  CHECK(done.at(0)[0].ids == done.at(1)[0].ids);
}
