// YAML files, read so that nothing in them is lost without a word.
//
//   const YAML::Node root = read_yaml("bank.yaml");
//
// An Error with file and line is: what stands behind the first document (`---`, `...`, text behind
// a list or map in brackets), a quote that is not closed, a key given twice or one that is no plain
// text, a tag that is not YAML's own, bytes that are not UTF-8, and aliases that refer to
// themselves or stand for more than a million values. Merge keys (`<<: *defaults`) are taken apart
// as PyYAML does: a map's own keys win, then earlier maps of a list.
#pragma once

#include <string>

#include "core/base/files.h"

namespace YAML {
class Node;
}

namespace inoculum {

YAML::Node read_yaml(const fs::path& file);
YAML::Node parse_yaml(const std::string& text, const std::string& file);  // `file` for errors

// A copy in which aliases are values of their own, so that changing one leaves the others alone.
YAML::Node copy_of(const YAML::Node& node);

}  // namespace inoculum
