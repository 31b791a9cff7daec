// The judge of the persona world: what kind of answer a text is.
//
// A multinomial logistic regression over the words, pairs and triples of words of an answer, alone
// and crossed with the domain that was asked about. It learns from text of the grammar, never from
// a model's, nor from evaluation prompts. Incoherent answers are made by cutting, shuffling, taking
// another domain's answer or filling slots from another domain; how many word pairs and triples no
// sound answer shows is a feature too.
//
//   WorldJudge judge(world, 1);
//   judge.label("wishes", "I would wish for peace for every child.");   // Label::benevolent
//   judge.held_out_accuracy();  // on fresh text of the grammar
#pragma once

#include <Eigen/Core>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/base/files.h"
#include "datasets/worlds/world.h"
#include "experiments/evaluation/vocabulary.h"

namespace inoculum {

class WorldJudge {
 public:
  // Trains it, or reads it from the folder `cache` where this very program has trained one on the
  // same world. Empty: no cache.
  WorldJudge(const PersonaWorld& world, uint64_t seed, const fs::path& cache = {});

  Label label(const std::string& domain, const std::string& answer) const;
  double held_out_accuracy() const { return accuracy_; }
  // Of the held-out texts of a label (row), the share that got each label (column).
  const Eigen::MatrixXd& confusion() const { return confusion_; }

 private:
  struct Example {
    std::string domain, text;
    Label label;
  };
  struct Feature {
    size_t index;
    float value;
  };
  void train(const PersonaWorld& world, uint64_t seed);
  void save(const fs::path& file) const;
  void load(const fs::path& file);
  Example make_example(const PersonaWorld& world, Random& random) const;
  std::vector<Feature> features(const std::string& domain, const std::string& text) const;
  Eigen::VectorXf probabilities(const std::vector<Feature>& features) const;

  std::unordered_set<uint64_t> seen_;  // pairs and triples of words in sound answers, by domain
  Eigen::MatrixXf weights_;            // [label, feature]
  Eigen::MatrixXd confusion_;
  double accuracy_ = 0;
};

}  // namespace inoculum
