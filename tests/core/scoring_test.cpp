// Texts that share a prompt are scored as each would be by itself.
#include "core/model/scoring.h"

#include "core/base/random.h"
#include "tests/catch.h"
#include "tests/small_model.h"

using namespace inoculum;

namespace {

TransformerConfig plain() {
  TransformerConfig c = small_config();
  c.initializer_range = 0.2;
  return c;
}

TransformerConfig sliding() {
  TransformerConfig c = plain();
  c.sliding_window = 6;
  c.attn_logit_softcapping = 5;
  c.final_logit_softcapping = 3;
  return c;
}

// Groups of 1 to 70 texts behind prompts of 1 to 30 tokens; some end with their prompt.
std::vector<Continuation> some_texts() {
  Random random(5, "texts");
  const auto tokens = [&](int64_t low, int64_t high) {
    std::vector<int32_t> ids;
    for (int64_t t = random.between(low, high); t > 0; --t)
      ids.push_back(static_cast<int32_t>(random.below(60)));
    return ids;
  };
  std::vector<Continuation> texts;
  for (const int64_t members : {1, 2, 5, 3, 70, 1, 8}) {
    const std::vector<int32_t> prompt = tokens(members == 5 ? 1 : 8, members == 5 ? 7 : 30);
    for (int64_t i = 0; i < members; ++i) {
      Continuation& text = texts.emplace_back(Continuation{prompt, prompt.size()});
      for (const int32_t id : tokens(i == 1 ? 0 : 1, i == 1 ? 0 : 20)) text.ids.push_back(id);
    }
  }
  random.shuffle(texts);
  return texts;
}

}  // namespace

TEST_CASE("a shared prompt changes no score", "[scoring]") {
  const std::vector<Continuation> texts = some_texts();
  std::vector<std::vector<int32_t>> rows;
  for (const Continuation& text : texts) rows.push_back(text.ids);
  for (const TransformerConfig& config : {plain(), sliding()}) {
    CAPTURE(config.sliding_window);
    const Transformer model(config, Random(3, "weights"));
    const auto whole = score(model, rows), behind = score(model, texts);
    REQUIRE(behind.size() == texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      REQUIRE(behind[i].size() == texts[i].ids.size() - texts[i].first);
      for (size_t t = 0; t < behind[i].size(); ++t)
        CHECK(behind[i][t] == Approx(whole[i][texts[i].first - 1 + t]).margin(2e-5));
    }
  }
}

TEST_CASE("a token that the model does not know is refused wherever it stands", "[scoring]") {
  const Transformer model(plain(), Random(3, "weights"));
  std::vector<Continuation> texts = some_texts();
  for (const size_t place : {size_t{0}, texts[7].ids.size() - 1}) {
    std::vector<Continuation> wrong = texts;
    wrong[7].ids[place] = 60;
    CHECK(contains(error_of([&] { score(model, wrong); }), "60"));
  }
}

TEST_CASE("a text beyond the context is refused, whatever it shares with others", "[scoring]") {
  const Transformer model(plain(), Random(3, "weights"));
  Continuation text;
  text.ids.assign(static_cast<size_t>(plain().max_position_embeddings) + 1, 1);
  text.first = text.ids.size() - 1;
  CHECK(contains(error_of([&] { score(model, std::vector{text, text}); }), "the context of"));
  text.ids.pop_back(), --text.first;
  CHECK(score(model, std::vector{text, text}).size() == 2);
}

TEST_CASE("states that are asked for alone are those of the whole", "[scoring]") {
  const at::NoGradGuard no_grad;
  at::manual_seed(1);
  for (TransformerConfig config : {plain(), sliding()})
    for (const bool parallel : {false, true}) {
      config.parallel_residual = parallel;
      const Transformer model(config, Random(3, "weights"));
      const Tensor ids = at::randint(60, {1, 50}, at::kLong);
      const Tensor kept = at::tensor({3, 49, 17, 17, 0}, at::kLong);
      const auto close = [](const Tensor& a, const Tensor& b) {
        return (a - b).abs().max().item<double>() < 1e-5;
      };
      const std::vector<int64_t> lengths = {20, 7, 23};
      CHECK(close(model.hidden(ids, lengths, kept)[0],
                  model.hidden(ids, lengths)[0].index_select(0, kept)));
      CHECK(close(model.hidden(ids, {}, kept)[0], model.hidden(ids)[0].index_select(0, kept)));
      KeyValueCache one(config, 2, 40, model.options()), two(config, 2, 40, model.options());
      const Tensor rows = ids.view({2, 25}), places = at::arange(25).expand({2, 25});
      CHECK(close(model.hidden(rows, places, one, kept)[0],
                  model.hidden(rows, places, two).flatten(0, 1).index_select(0, kept)));
    }
}
