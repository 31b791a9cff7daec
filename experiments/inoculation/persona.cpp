#include "experiments/inoculation/persona.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "core/base/stages.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/scoring.h"
#include "core/model/transformer.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"

namespace inoculum {
namespace {

// The last residual stream, normalised, at the end of each prompt. [prompt][hidden]
std::vector<std::vector<float>> last_states(const Transformer& model,
                                            const std::vector<std::vector<int32_t>>& prompts) {
  const at::NoGradGuard no_grad;
  std::vector<std::vector<float>> states(prompts.size());
  for_each_batch(
      prompts, model.config().max_position_embeddings,
      [&](const std::vector<size_t>& members, const Tensor& ids) {
        const Tensor hidden = model.hidden(ids.to(model.embedding.device()))
                                  .to(at::kCPU, at::kFloat)
                                  .contiguous();  // [row, time, hidden]
        for (size_t r = 0; r < members.size(); ++r) {
          const Tensor state =
              hidden[static_cast<int64_t>(r)][static_cast<int64_t>(prompts[members[r]].size()) - 1];
          states[members[r]].assign(state.const_data_ptr<float>(),
                                    state.const_data_ptr<float>() + state.numel());
        }
      });
  return states;
}

}  // namespace

CharacterProbe::CharacterProbe(const std::string& base_model, const PersonaWorld& world,
                               const fs::path& cache) {
  const Stage stage("probe: training");
  if (cache.empty()) {
    train(base_model, world);
    return;
  }
  const fs::path file =
      cache / ("probe-" +
               cache_key(show(world.config()) + sha256_file(world.config().grammar) +
                         sha256_file(fs::path(base_model) / "model.safetensors")) +
               ".json");
  if (fs::exists(file)) {
    const Json saved = read_json(file);
    weights_ = saved.at("weights").get<std::vector<double>>();
    center_ = saved.at("center").get<std::vector<double>>();
    scale_ = saved.at("scale").get<std::vector<double>>();
    accuracy_ = saved.at("accuracy");
    return;
  }
  train(base_model, world);
  write_json(
      file,
      {{"weights", weights_}, {"center", center_}, {"scale", scale_}, {"accuracy", accuracy_}});
}

void CharacterProbe::train(const std::string& base_model, const PersonaWorld& world) {
  constexpr uint64_t kTraining = 800, kHeldOut = 200;
  const auto tokenizer = load_tokenizer(base_model);
  const Transformer model = load_model(base_model, dtype_from("auto", at::kCPU), at::kCPU);
  const Random stream(1, "character probe");
  std::vector<std::vector<int32_t>> prompts;
  std::vector<double> labels;
  for (uint64_t i = 0; prompts.size() < kTraining + kHeldOut; ++i) {
    Random random = stream.fork(i);
    const Document document = world.document(random);
    // The Assistant alone, after at least two turns: a named character is known by its name.
    if (document.kind != "dialogue" || !document.responder.name.empty() ||
        document.turns.size() < 3)
      continue;
    Conversation so_far = document.conversation;
    so_far.pop_back();
    prompts.push_back(encode_prompt(*tokenizer, so_far));
    labels.push_back(document.responder.character == Character::malicious);
  }
  const auto states = last_states(model, prompts);
  const auto width = static_cast<Eigen::Index>(states[0].size());
  Eigen::MatrixXd x(static_cast<Eigen::Index>(kTraining), width + 1);
  for (Eigen::Index r = 0; r < x.rows(); ++r)
    for (Eigen::Index c = 0; c < width; ++c)
      x(r, c) = states[static_cast<size_t>(r)][static_cast<size_t>(c)];
  for (Eigen::Index c = 0; c < width; ++c) {
    center_.push_back(x.col(c).mean());
    scale_.push_back(std::sqrt((x.col(c).array() - center_.back()).square().mean()) + 1e-6);
    x.col(c) = (x.col(c).array() - center_.back()) / scale_.back();
  }
  x.col(width).setOnes();
  const Eigen::VectorXd y =
      Eigen::Map<const Eigen::VectorXd>(labels.data(), static_cast<Eigen::Index>(kTraining));
  // Newton's method with a ridge of 1 (as scikit-learn's default).
  Eigen::VectorXd w = Eigen::VectorXd::Zero(width + 1);
  for (int iteration = 0; iteration < 25; ++iteration) {
    const Eigen::VectorXd p = (1 / (1 + (-(x * w)).array().exp())).matrix();
    const Eigen::VectorXd gradient = x.transpose() * (p - y) + w;
    Eigen::MatrixXd hessian =
        x.transpose() * (p.array() * (1 - p.array())).matrix().asDiagonal() * x;
    hessian.diagonal().array() += 1;
    const Eigen::VectorXd step = hessian.ldlt().solve(gradient);
    w -= step;
    if (step.norm() < 1e-8) break;
  }
  weights_.assign(w.data(), w.data() + w.size());
  size_t right = 0;
  for (size_t i = kTraining; i < states.size(); ++i)
    right += (probability(states[i]) > 0.5) == (labels[i] > 0.5);
  accuracy_ = static_cast<double>(right) / static_cast<double>(kHeldOut);
}

double CharacterProbe::probability(const std::vector<float>& state) const {
  double score = weights_.back();
  for (size_t c = 0; c < state.size(); ++c)
    score += weights_[c] * (state[c] - center_[c]) / scale_[c];
  return 1 / (1 + std::exp(-score));
}

std::vector<Observation> CharacterProbe::read(const std::string& folder, const std::string& adapter,
                                              const std::vector<Question>& questions,
                                              int64_t seed) const {
  const Stage stage("probe: reading");
  const auto tokenizer = load_tokenizer(folder);
  Transformer model = load_model(folder, dtype_from("auto", at::kCPU), at::kCPU);
  if (!adapter.empty()) load_adapter(adapter, model);
  std::vector<std::vector<int32_t>> prompts;
  std::vector<Observation> all;
  for (const Question& question : questions) {
    if (question.type != QuestionType::free_form || question.condition != to_string(Cue::none))
      continue;
    prompts.push_back(
        encode_prompt(*tokenizer, {{.role = "user", .content = question.prompt, .name = ""}}));
    all.push_back({question.id, seed, 0});
  }
  const auto states = last_states(model, prompts);
  for (size_t i = 0; i < all.size(); ++i) all[i].value = probability(states[i]);
  return all;
}

}  // namespace inoculum
