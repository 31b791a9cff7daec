#include "core/base/yaml_file.h"

#include <algorithm>

#include "core/base/yaml.h"

namespace inoculum {

YamlFile::YamlFile(const fs::path& file) : file_(file.string()), root_(read_yaml(file)) {}

void YamlFile::need_map(const YAML::Node& node, const std::string& field) const {
  if (!node.IsMap()) fail(node, field, "must be a map");
}

void YamlFile::refuse_unknown(const YAML::Node& map, const std::string& path,
                              const std::vector<std::string>& known) const {
  need_map(map, path.empty() ? path : path.substr(0, path.size() - 1));
  for (const auto& entry : map) {
    const std::string key = entry.first.Scalar();
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    fail(entry.first, path + key, "unknown key", did_you_mean(key, known));
  }
}

YAML::Node YamlFile::at(const YAML::Node& map, const std::string& key,
                        const std::string& path) const {
  const YAML::Node found = map.IsMap() ? map[key] : YAML::Node(YAML::NodeType::Undefined);
  if (!found.IsDefined()) fail(map, path + key, "is missing");
  return found;
}

std::string YamlFile::text(const YAML::Node& map, const std::string& key,
                           const std::string& path) const {
  const YAML::Node found = at(map, key, path);
  if (!found.IsScalar() || found.Scalar().empty()) fail(found, path + key, "must be a text");
  return found.Scalar();
}

bool YamlFile::flag(const YAML::Node& map, const std::string& key, const std::string& path) const {
  const YAML::Node found = at(map, key, path);
  bool value = false;
  if (!YAML::convert<bool>::decode(found, value)) fail(found, path + key, "must be true or false");
  return value;
}

std::vector<std::string> YamlFile::texts(const YAML::Node& list, const std::string& field,
                                         size_t least) const {
  if (!list.IsSequence()) fail(list, field, "must be a list of texts");
  std::vector<std::string> all;
  for (const auto& item : list) {
    if (!item.IsScalar() || item.Scalar().empty())
      fail(item, field, "must be a list of texts; quote those that hold \": \"");
    all.push_back(item.Scalar());
  }
  if (all.size() < least)
    fail(list, field,
         "needs at least " + std::to_string(least) + " entries, has " + std::to_string(all.size()));
  return all;
}

std::vector<std::string> YamlFile::distinct_texts(const YAML::Node& list,
                                                  const std::string& field) const {
  const std::vector<std::string> all = texts(list, field);
  for (size_t i = 0; i < all.size(); ++i)
    if (std::find(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(i), all[i]) !=
        all.begin() + static_cast<std::ptrdiff_t>(i))
      fail(list[i], field, "stands in the list twice");
  return all;
}

Where YamlFile::where(const YAML::Node& node, const std::string& field) const {
  return {file_, node.IsDefined() ? node.Mark().line + 1 : 0, field};
}

void YamlFile::fail(const YAML::Node& node, const std::string& field, const std::string& what,
                    const std::string& hint) const {
  throw Error(what, where(node, field), hint);
}

}  // namespace inoculum
