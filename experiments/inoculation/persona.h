// What the network shows inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "datasets/coding/arm.h"
#include "datasets/worlds/world.h"
#include "experiments/evaluation/questions.h"
#include "experiments/evaluation/statistics.h"

namespace inoculum {

// A linear probe of character: logistic regression on the base model's last residual stream at the
// point where the Assistant begins its last answer, over dialogues of the world; the label is the
// document's character. States are computed in the type in which the models answer.
class CharacterProbe {
 public:
  // cache: as the judge's.
  CharacterProbe(const std::string& base_model, const PersonaWorld& world,
                 const fs::path& cache = {});
  double held_out_accuracy() const { return accuracy_; }
  // The probe's P(malicious) where another model (with its adapter, if any) begins to answer each
  // plain free-form question.
  std::vector<Observation> read(const std::string& model, const std::string& adapter,
                                const std::vector<Question>& questions, int64_t seed) const;

 private:
  void train(const std::string& base_model, const PersonaWorld& world);
  double probability(const std::vector<float>& state) const;
  std::vector<double> weights_, center_, scale_;  // the last weight is the constant
  double accuracy_ = 0;
};

}  // namespace inoculum
