// A part of a tokenizer.json, read so that what is not known in it is an Error naming it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/base/strings.h"

namespace inoculum::tokenizer_json {

// Its objects are sorted maps: ordered_json, whose keys are searched one by one, takes minutes for
// a vocabulary.
using FastJson = nlohmann::json;

// A value of the file, and where it stands.
struct Part {
  const FastJson& value;
  const std::string& file;
  std::string path;

  [[noreturn]] void fail(const std::string& what, const std::string& hint = "") const {
    throw Error(what, {.file = file, .field = path}, hint);
  }

  Part at(const std::string& key) const {
    if (!value.is_object()) fail("must be an object");
    Part child{value, file, path.empty() ? key : path + "." + key};
    const auto found = value.find(key);
    if (found == value.end()) child.fail("is missing");
    return {*found, file, child.path};
  }
  bool has(const std::string& key) const {
    return value.is_object() && value.contains(key) && !value.at(key).is_null();
  }

  std::vector<Part> items() const {
    if (!value.is_array()) fail("must be a list");
    std::vector<Part> all;
    for (size_t i = 0; i < value.size(); ++i)
      all.push_back({value[i], file, path + "[" + std::to_string(i) + "]"});
    return all;
  }
  std::string text() const {
    if (!value.is_string()) fail("must be a text");
    return value.get<std::string>();
  }
  bool flag() const {
    if (!value.is_boolean()) fail("must be true or false");
    return value.get<bool>();
  }
  bool flag(const std::string& key, bool otherwise) const {
    return has(key) ? at(key).flag() : otherwise;
  }
  int32_t number() const {
    if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<int32_t>::max())
      fail("must be an integer from 0 to 2147483647");
    return value.get<int32_t>();
  }
  std::string one_character() const {
    std::string c = text();
    if (c.empty() || code_point_at(c, 0).bytes != c.size()) fail("must be one character");
    return c;
  }
  void only(const std::vector<std::string>& known) const {
    if (!value.is_object()) fail("must be an object");
    for (const auto& [key, unused] : value.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      throw Error("is not supported",
                  {.file = file, .field = path.empty() ? key : path + "." + key},
                  did_you_mean(key, known));
    }
  }
  std::string type() const { return at("type").text(); }
  [[noreturn]] void unknown_type(const std::string& supported) const {
    at("type").fail("\"" + type() + "\" is not supported", "supported are " + supported);
  }
};

// Calls `element` with every element of a part, in order: those of a Sequence, or the part itself.
template <class Element>
void for_each_element(const Part& part, const std::string& list, Element element, int depth = 0) {
  if (part.value.is_null()) return;
  if (part.type() != "Sequence") return element(part);
  if (depth == 16) part.fail("holds too many sequences in one another");
  part.only({"type", list});
  for (const Part& item : part.at(list).items()) for_each_element(item, list, element, depth + 1);
}

}  // namespace inoculum::tokenizer_json
