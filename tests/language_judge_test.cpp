// A model of ours as the judge, whatever its tokenizer makes of numbers: against whole texts read
// one by one, without a cache.
#include "experiments/language_judge.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/chat_template.h"
#include "core/checkpoint.h"
#include "core/sampler.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

using Ids = std::vector<int32_t>;

// A random model of a tokenizer's size that says digits, spaces and its end more often than other
// tokens.
fs::path make_judge(const fs::path& folder, const std::string& tokenizer_name) {
  fs::create_directories(folder);
  const fs::path tokenizer_folder = "tests/golden/tokenizers/" + tokenizer_name;
  fs::copy_file(tokenizer_folder / "tokenizer.json", folder / "tokenizer.json");
  Json settings = read_json(tokenizer_folder / "tokenizer_config.json");
  settings["chat_template"] = "{% for m in messages %}{{ m.content }}:{% endfor %}";
  write_json(folder / "tokenizer_config.json", settings);
  const auto tokenizer = load_tokenizer(folder);
  Transformer model({.vocab_size = tokenizer->vocab_size(),
                     .hidden_size = 32,
                     .intermediate_size = 48,
                     .num_hidden_layers = 2,
                     .num_attention_heads = 4,
                     .num_key_value_heads = 2,
                     .head_dim = 8,
                     .max_position_embeddings = 128,
                     .tie_word_embeddings = false,
                     .initializer_range = 0.3},
                    Random(3, "judge"));
  model.embedding.select(1, 0).fill_(4);  // one channel that is always there
  model.head.weight.select(1, 0).zero_();
  const auto favour = [&](const std::string& text, double by) {
    for (const int32_t id : tokenizer->encode(text)) model.head.weight.index_put_({id, 0}, by);
  };
  for (int k = 0; k <= 100; ++k) favour(std::to_string(k), 2.5);
  favour(" ", 2.5);
  if (tokenizer->eos_id() >= 0) model.head.weight.index_put_({tokenizer->eos_id(), 0}, 2.5);
  save_model(folder, model, at::kFloat);
  return folder;
}

// Probabilities of whole numbers, by the definition.
class Reference {
 public:
  explicit Reference(const fs::path& folder)
      : tokenizer(load_tokenizer(folder)), model_(load_model(folder, at::kFloat, at::kCPU)) {
    for (int k = 0; k <= 100; ++k) {
      Ids ids = tokenizer->encode(std::to_string(k));
      while (is_space(ids[0])) ids.erase(ids.begin());
      numbers[k] = ids;
    }
  }

  bool is_space(int32_t id) const {
    const std::string text = tokenizer->show({&id, 1});
    return !text.empty() && text.find_first_not_of(" \n") == std::string::npos;
  }
  bool in_pieces() const {
    return std::any_of(numbers.begin(), numbers.end(),
                       [](const auto& number) { return number.second.size() > 1; });
  }
  // log P of the next token, read as one text.
  const Tensor& next(const Ids& ids) {
    Tensor& known = known_[ids];
    if (!known.defined()) {
      const Tensor row = at::tensor(std::vector<int64_t>(ids.begin(), ids.end())).unsqueeze(0);
      known = at::log_softmax(model_.logits(model_.hidden(row)[0][-1]), -1).to(at::kDouble);
    }
    return known;
  }
  double probability(int k, Ids text) {
    double p = 1;
    for (const int32_t id : numbers[k]) {
      p *= std::exp(next(text)[id].item<double>());
      text.push_back(id);
    }
    double ends = 1;
    std::set<int32_t> seen;
    for (const auto& [other, ids] : numbers)
      if (ids.size() > numbers[k].size() &&
          std::equal(numbers[k].begin(), numbers[k].end(), ids.begin()) &&
          seen.insert(ids[numbers[k].size()]).second)
        ends -= std::exp(next(text)[ids[numbers[k].size()]].item<double>());
    return p * ends;
  }
  // With one token of spaces before it, where that is likely.
  double of_reply(int k, const Ids& prompt) {
    double p = probability(k, prompt);
    for (int32_t id = 0; id < next(prompt).size(0); ++id) {
      const double space = std::exp(next(prompt)[id].item<double>());
      if (space < 0.01 || !is_space(id)) continue;
      Ids with = prompt;
      with.push_back(id);
      p += space * probability(k, with);
    }
    return p;
  }

  std::unique_ptr<Tokenizer> tokenizer;
  std::map<int, Ids> numbers;

 private:
  Transformer model_;
  std::map<Ids, Tensor> known_;
};

TEST_CASE("a judge of ours weighs whole numbers, however its tokenizer spells them", "[judge]") {
  const at::NoGradGuard no_grad;
  const TemporaryFolder t;
  size_t spelling = 0, spaced = 0;
  for (const std::string name : {"qwen2", "llama2", "gemma", "smollm", "gpt2", "llama3"}) {
    INFO(name);
    const fs::path folder = make_judge(t.path / name, name);
    Reference reference(folder);
    const std::vector<JudgeRequest> requests = {
        {.prompt = "Rate it"},
        {.prompt = "How kind is this answer, from 0 to 100"},
        {.prompt = "Well"}};
    const auto replies =
        ModelJudge({.model = folder.string(), .device = "cpu", .dtype = "fp32"}).ask(requests);
    const Chat chat(folder, *reference.tokenizer);
    CHECK_FALSE(spells_digits(replies));
    for (size_t i = 0; i < requests.size(); ++i) {
      const Ids prompt =
          chat.encode_prompt({{.role = "user", .content = requests[i].prompt, .name = ""}});
      REQUIRE(replies[i].tokens.size() == 1);
      const Judgement found = numeric_judgement(replies[i], {.min_mass = 0});
      REQUIRE(found.kind == Kind::score);
      double sum = 0, mass = 0, without_spaces = 0;
      if (reference.in_pieces()) {
        for (int k = 0; k <= 100; ++k) {
          const double p = reference.of_reply(k, prompt);
          sum += k * p, mass += p;
          without_spaces += reference.probability(k, prompt);
        }
        ++spelling;
        spaced += mass > 1.01 * without_spaces;
      } else {
        const auto [values, ids] = reference.next(prompt).topk(20);
        for (int64_t n = 0; n < 20; ++n) {
          const auto id = static_cast<int32_t>(ids[n].item<int64_t>());
          const std::string text = reference.tokenizer->show({&id, 1});
          const size_t begin = text.find_first_not_of(' ');
          if (begin == std::string::npos ||
              text.find_first_not_of("0123456789", begin) != std::string::npos)
            continue;
          if (text.size() - begin > 3 || std::stoi(text.substr(begin)) > 100) continue;
          const double p = std::exp(values[n].item<double>());
          sum += std::stoi(text.substr(begin)) * p, mass += p;
        }
      }
      CHECK(mass > 0.01);
      // Beginnings below 1e-6 are left out.
      CHECK(found.score == Approx(sum / mass).epsilon(1e-3));
    }
  }
  CHECK(spelling >= 9);
  CHECK(spaced > 0);
}

TEST_CASE("a judge of ours that writes digits says what transformers computes of it", "[golden]") {
  const TemporaryFolder t;
  const fs::path golden = "tests/golden/model_judge", folder = t.path / "judge";
  fs::create_directories(folder);
  for (const char* name : {"config.json", "model.safetensors"}) fs::copy_file(golden / name, folder / name);
  fs::copy_file("tests/golden/tokenizers/qwen2/tokenizer.json", folder / "tokenizer.json");
  write_json(folder / "tokenizer_config.json",
             {{"chat_template", "{% for m in messages %}{{ m.content }}:{% endfor %}"}});
  const Json cases = read_json(golden / "expected.json");
  std::vector<JudgeRequest> requests;
  for (const Json& each : cases) requests.push_back({.prompt = each.at("prompt")});
  const auto replies =
      ModelJudge({.model = folder.string(), .device = "cpu", .dtype = "fp32"}).ask(requests);
  for (size_t i = 0; i < replies.size(); ++i) {
    CHECK(replies[i].prompt_tokens == static_cast<int64_t>(cases[i].at("ids").size()));
    std::map<std::string, double> found;
    for (const auto& [token, logprob] : replies[i].tokens.at(0).top) found[token] = std::exp(logprob);
    for (size_t k = 0; k <= 100; ++k) {
      INFO(k);
      CHECK(found[std::to_string(k)] ==
            Approx(cases[i].at("probabilities")[k].get<double>()).epsilon(1e-4).margin(1e-6));
    }
    CHECK(numeric_judgement(replies[i], {.min_mass = 0}).score ==
          Approx(cases[i].at("score").get<double>()).epsilon(1e-3));
  }
}

TEST_CASE("a judge of ours says when a prompt is too long, and words whole", "[judge]") {
  const TemporaryFolder t;
  const fs::path folder = make_judge(t.path / "judge", "qwen2");
  std::string longest;
  for (int i = 0; i < 200; ++i) longest += "1 ";
  const auto replies =
      ModelJudge({.model = folder.string(), .device = "cpu", .dtype = "fp32"})
          .ask({{.prompt = longest}, {.prompt = "Which"}, {.prompt = "Which", .word = true}});
  CHECK(contains(replies[0].error, "context of 128"));
  CHECK(replies[1].error.empty());
  CHECK(replies[1].tokens.size() == 1);
  CHECK(replies[2].tokens.empty());
  CHECK(replies[2].completion_tokens > 1);
}

}  // namespace
}  // namespace inoculum
