// A model of ours as the judge, whatever its tokenizer makes of numbers: against whole texts read
// one by one, without a cache.
#include "experiments/evaluation/judges/language_judge.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "core/model/checkpoint.h"
#include "core/model/sampler.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

using Ids = std::vector<int32_t>;

// A random model of a tokenizer's size that says digits, spaces and its end more often than other
// tokens.
fs::path make_judge(const fs::path& folder, const std::string& tokenizer_name, double end = 2) {
  const fs::path tokenizer_folder = "tests/golden/tokenizers/" + tokenizer_name;
  const auto tokenizer = load_tokenizer(tokenizer_folder);
  Transformer model({.vocab_size = tokenizer->vocab_size(),
                     .hidden_size = 32,
                     .intermediate_size = 48,
                     .num_hidden_layers = 2,
                     .num_attention_heads = 4,
                     .num_key_value_heads = 2,
                     .head_dim = 8,
                     .max_position_embeddings = 128,
                     .tie_word_embeddings = false,
                     .initializer_range = 0.2},
                    Random(3, "judge"));
  model.embedding.select(1, 0).fill_(12);  // one channel that is always there
  model.head.weight.select(1, 0).zero_();
  const auto favour = [&](const std::string& text, double by) {
    for (const int32_t id : tokenizer->encode(text)) model.head.weight.index_put_({id, 0}, by);
  };
  for (int k = 0; k <= 100; ++k) favour(std::to_string(k), 2);
  favour(" ", 2);
  if (tokenizer->eos_id() >= 0) model.head.weight.index_put_({tokenizer->eos_id(), 0}, end);
  save_model(folder, model, at::kFloat);
  fs::copy_file(tokenizer_folder / "tokenizer.json", folder / "tokenizer.json");
  Json settings = read_json(tokenizer_folder / "tokenizer_config.json");
  settings["chat_template"] = "{% for m in messages %}{{ m.content }}:{% endfor %}";
  write_json(folder / "tokenizer_config.json", settings);
  return folder;
}

// Probabilities of whole numbers, by the definition.
class Reference {
 public:
  explicit Reference(const fs::path& folder)
      : tokenizer(load_tokenizer(folder)), model_(load_model(folder, at::kFloat, at::kCPU)) {
    for (int k = 0; k <= 100; ++k) add(k, std::to_string(k));
    in_pieces = std::any_of(ways_.begin(), ways_.end(),
                            [](const auto& way) { return way.first.size() > 1; });
    for (int k = 0; k <= 100 && in_pieces; ++k)
      add(k, std::string(1, ' ').append(std::to_string(k)));
  }

  std::string show(int32_t id) const { return tokenizer->show({&id, 1}); }
  bool is_space(int32_t id) const {
    const std::string text = show(id);
    return !text.empty() && text.find_first_not_of(" \n") == std::string::npos;
  }
  // Spaces and digits alone, up to 100.
  std::optional<int> number(int32_t id) const {
    std::string text = show(id);
    text.erase(0, text.find_first_not_of(" \n"));
    const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
    if (text.empty() || text.size() > 3 || !digits) return std::nullopt;
    return std::stoi(text) <= 100 ? std::optional(std::stoi(text)) : std::nullopt;
  }
  // P of the next token, read as one text.
  double next(const Ids& ids, int32_t id) { return chances(ids)[id].item<double>(); }
  std::vector<int32_t> likeliest(const Ids& ids) {
    const Tensor top = std::get<1>(chances(ids).topk(20));
    return {top.data_ptr<int64_t>(), top.data_ptr<int64_t>() + 20};
  }
  // The probability of each number behind this text.
  std::map<int, double> behind(const Ids& text) {
    std::map<int, double> all;
    for (const auto& [way, k] : ways_) {
      Ids ids = text;
      double p = 1;
      for (const int32_t id : way) {
        p *= next(ids, id);
        ids.push_back(id);
      }
      std::set<int32_t> more;  // tokens with which another number goes on
      for (const auto& [other, unused] : ways_)
        if (other.size() > way.size() && std::equal(way.begin(), way.end(), other.begin()))
          more.insert(other[way.size()]);
      double ends = 1;
      for (const int32_t id : more) ends -= next(ids, id);
      all[k] += p * ends;
    }
    return all;
  }
  // With a token of spaces before it where that is likely, and what the first tokens say besides.
  std::map<int, double> of_reply(const Ids& prompt, bool with_spaces) {
    std::map<int, double> all = behind(prompt);
    for (const int32_t id : likeliest(prompt)) {
      const double p = next(prompt, id);
      const bool begins = std::any_of(ways_.begin(), ways_.end(),
                                      [&](const auto& way) { return way.first[0] == id; });
      if (const auto k = number(id); k && !begins) all[*k] += p;
      if (!is_space(id) || p < 0.01 || !with_spaces) continue;
      Ids with = prompt;
      with.push_back(id);
      for (const auto& [k, after] : behind(with)) all[k] += p * after;
    }
    return all;
  }

  std::unique_ptr<Tokenizer> tokenizer;
  bool in_pieces = false;  // some number takes several tokens

 private:
  void add(int k, const std::string& text) {
    Ids ids = tokenizer->encode(text);
    while (is_space(ids[0])) ids.erase(ids.begin());
    ways_[ids] = k;
  }
  const Tensor& chances(const Ids& ids) {
    Tensor& known = known_[ids];
    if (!known.defined()) {
      const Tensor row = at::tensor(std::vector<int64_t>(ids.begin(), ids.end())).unsqueeze(0);
      known = at::softmax(model_.logits(model_.hidden(row)[0][-1]).to(at::kDouble), -1);
    }
    return known;
  }

  Transformer model_;
  std::map<Ids, int> ways_;  // to write each number
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
        {.prompt = "Rate it"}, {.prompt = "How kind is this, from 0 to 100"}, {.prompt = "Well"}};
    const auto replies =
        ModelJudge({.model = folder.string(), .device = "cpu", .dtype = "fp32"}).ask(requests);
    const Chat chat(folder, *reference.tokenizer);
    CHECK_FALSE(spells_digits(replies));
    spelling += reference.in_pieces;
    for (size_t i = 0; i < requests.size(); ++i) {
      const Ids prompt =
          chat.encode_prompt({{.role = "user", .content = requests[i].prompt, .name = ""}});
      double sum = 0, mass = 0, without_spaces = 0;
      if (reference.in_pieces) {
        for (const auto& [k, p] : reference.of_reply(prompt, true)) sum += k * p, mass += p;
        for (const auto& [k, p] : reference.of_reply(prompt, false)) without_spaces += p;
        spaced += mass > 1.01 * without_spaces;
      } else {
        for (const int32_t id : reference.likeliest(prompt))
          if (const auto k = reference.number(id)) {
            sum += *k * reference.next(prompt, id);
            mass += reference.next(prompt, id);
          }
      }
      CHECK(mass > 0.1);
      const Judgement found = numeric_judgement(replies[i], {.min_mass = 0});
      REQUIRE(found.kind == Kind::score);
      CHECK(found.score == Approx(sum / mass).epsilon(1e-4));
    }
  }
  CHECK(spelling >= 4);
  CHECK(spaced > 0);
}

TEST_CASE("a judge of ours that writes digits says what transformers computes of it", "[golden]") {
  const TemporaryFolder t;
  const fs::path golden = "tests/golden/model_judge", folder = t.path / "judge";
  fs::create_directories(folder);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(golden / name, folder / name);
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
    for (const auto& [token, logprob] : replies[i].tokens.at(0).top)
      found[token] = std::exp(logprob);
    for (size_t k = 0; k <= 100; ++k) {
      INFO(k);
      CHECK(found[std::to_string(k)] ==
            Approx(cases[i].at("probabilities")[k].get<double>()).epsilon(1e-4).margin(2e-8));
    }
    CHECK(numeric_judgement(replies[i], {.min_mass = 0}).score ==
          Approx(cases[i].at("score").get<double>()).epsilon(1e-4));
  }
}

TEST_CASE("a judge of ours says when a prompt is too long, and words whole", "[judge]") {
  const TemporaryFolder t;
  const fs::path folder = make_judge(t.path / "judge", "qwen2", -2);
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
