// PEFT's adapter_config.json: what of it is LoRA on linear layers, with the rank and the scale of
// each.
//
// A list of what is allowed: any other field is refused by name unless it is null, false or empty,
// for it could change what the adapter does. Layers are told by their paths, such as
// "model.layers.0.self_attn.q_proj", and matched as PEFT does.
#pragma once

#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace inoculum {

class AdapterConfig {
 public:
  explicit AdapterConfig(const fs::path& file);

  int64_t rank() const { return rank_; }  // of layers that no pattern matches
  double alpha() const { return alpha_; }
  int64_t rank(const std::string& path) const;
  double alpha(const std::string& path) const;
  bool use_rslora() const { return flag("use_rslora"); }
  bool use_dora() const { return flag("use_dora"); }
  std::optional<bool> targets(
      const std::string& path) const;  // nothing where the file does not say

 private:
  // A text is a regular expression of whole paths, a list has ends of paths.
  struct Modules {
    std::optional<std::regex> pattern;
    std::vector<std::string> ends;
    bool match(const std::string& path) const;
  };
  template <class T>
  using Patterns = std::vector<std::pair<std::regex, T>>;

  [[noreturn]] void refuse(const std::string& field, const std::string& what,
                           const std::string& hint = "") const;
  const Json& field(const std::string& key) const;  // null where it is absent
  bool flag(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  std::regex pattern(const std::string& text, const std::string& key) const;
  int64_t rank_from(const Json& value, const std::string& key) const;
  double alpha_from(const Json& value, const std::string& key) const;
  std::optional<Modules> modules(const std::string& key) const;
  void read_layers();

  fs::path file_;
  Json json_;
  int64_t rank_ = 8;
  double alpha_ = 8;
  Patterns<int64_t> ranks_;
  Patterns<double> alphas_;
  std::optional<Modules> targets_, excluded_;
  std::vector<int64_t> layers_;  // empty: all
  std::vector<std::regex> layer_numbers_;
};

}  // namespace inoculum
