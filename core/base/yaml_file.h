// A YAML file whose keys are known: reads maps and lists of texts, with errors that name the line.
//
//   const YamlFile file("cues.yaml");
//   file.refuse_unknown(file.root(), "", {"requests", "placebo"});
//   const auto requests = file.texts(file.at(file.root(), "requests", ""), "requests");
//
// `path` stands before a key in errors: "" or "domains.wishes.".
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/files.h"

namespace inoculum {

class YamlFile {
 public:
  explicit YamlFile(const fs::path& file);
  const YAML::Node& root() const { return root_; }

  // Refuses what is no map, and a key that is not among the known ones.
  void refuse_unknown(const YAML::Node& map, const std::string& path,
                      const std::vector<std::string>& known) const;
  void need_map(const YAML::Node& node, const std::string& field) const;
  YAML::Node at(const YAML::Node& map, const std::string& key, const std::string& path) const;
  std::string text(const YAML::Node& map, const std::string& key, const std::string& path) const;
  bool flag(const YAML::Node& map, const std::string& key, const std::string& path) const;
  std::vector<std::string> texts(const YAML::Node& list, const std::string& field,
                                 size_t least = 1) const;
  // The same, and none of them stands there twice.
  std::vector<std::string> distinct_texts(const YAML::Node& list, const std::string& field) const;

  Where where(const YAML::Node& node, const std::string& field) const;
  [[noreturn]] void fail(const YAML::Node& node, const std::string& field, const std::string& what,
                         const std::string& hint = {}) const;

 private:
  std::string file_;
  YAML::Node root_;
};

}  // namespace inoculum
