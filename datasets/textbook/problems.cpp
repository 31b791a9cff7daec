#include "datasets/textbook/problems.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/base/yaml_file.h"

namespace inoculum {
namespace {

const std::vector<std::string> kKeys = {"id",       "topic",  "function", "ask",
                                        "solution", "inputs", "draw",     "variants"};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

TextbookProblem make_problem(const YamlFile& file, const YAML::Node& node,
                             const YAML::Node& variant, const std::string& family, size_t number) {
  const std::string path = family + ".";
  TextbookProblem problem{.family = family,
                          .id = family + "/" + std::to_string(number),
                          .topic = file.text(node, "topic", path),
                          .where = file.where(variant, family)};
  std::map<std::string, std::string> slots;
  YAML::Node own;  // a variant may give keys of the family anew
  if (variant.IsMap() && !variant.is(node))
    for (const auto& entry : variant) {
      const std::string key = entry.first.Scalar();
      if (!entry.second.IsScalar()) file.fail(entry.second, path + key, "must be a text");
      const bool known = key != "id" && key != "topic" && key != "variants" &&
                         std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
      if (key.empty() || key == "call" || key == "name")
        file.fail(entry.first, path + key, "cannot be the name of a slot");
      if (known) own[key] = entry.second;
      else slots[key] = entry.second.Scalar();
    }
  std::set<std::string> used;
  const auto take = [&](const std::string& key) {
    const std::string text = file.text(own[key].IsDefined() ? own : node, key, path);
    return fill_slots(text, [&](const std::string& slot) {
      if (!slots.contains(slot))
        file.fail(variant, path + key, "the slot $" + slot + " is not given",
                  "add it to the variant");
      used.insert(slot);
      return slots[slot];
    });
  };
  const std::string call = take("function");
  const size_t open = call.find('(');
  if (open == 0 || open == std::string::npos || call.back() != ')')
    file.fail(node, path + "function", "must be a call like name(a, b)");
  problem.function = call.substr(0, open);
  problem.parameters = split_arguments(call.substr(open + 1, call.size() - open - 2));
  // Fillings may name the function too: a recursive solution does.
  for (auto& [slot, filling] : slots)
    filling = fill_slots(filling, [&, &outer = slot](const std::string& inner) {
      if (inner != "call" && inner != "name")
        file.fail(variant, path + outer, "a filling cannot hold the slot $" + inner);
      return inner == "call" ? call : problem.function;
    });
  slots["call"] = call;
  slots["name"] = problem.function;
  problem.statement = take("ask");
  problem.solution = take("solution");
  const auto is_given = [&](const char* key) {
    return own[key].IsDefined() || node[key].IsDefined();
  };
  if (is_given("draw")) problem.draw = take("draw");
  if (is_given("inputs") || problem.draw.empty()) problem.inputs = lines_of(take("inputs"));
  for (const auto& [slot, filling] : slots)
    if (slot != "call" && slot != "name" && !used.contains(slot))
      file.fail(variant, path + slot, "is used nowhere",
                "it is neither a slot nor a key of a problem");
  if (problem.statement.find(call) == std::string::npos)
    file.fail(node, path + "ask", "does not name the function",
              "write $call where the text names it");
  return problem;
}

}  // namespace

std::string fill_slots(const std::string& text,
                       const std::function<std::string(const std::string&)>& filling) {
  const auto is_name = [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool braced = text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{';
    const size_t begin = i + 1 + braced;
    size_t end = begin;
    while (text[i] == '$' && end < text.size() && is_name(text[end])) ++end;
    if (end == begin) {
      out += text[i];
      continue;
    }
    const size_t line = out.rfind('\n') + 1;  // 0 for the first line
    const std::string indent(std::min(out.find_first_not_of(' ', line), out.size()) - line, ' ');
    for (const char c : filling(text.substr(begin, end - begin))) {
      out += c;
      if (c == '\n') out += indent;
    }
    i = end - 1 + braced;
  }
  return out;
}

std::vector<std::string> split_arguments(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\') parts.back() += text[i++];
    else if (c == '"') quoted = !quoted;
    else if (!quoted)
      depth += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
    if (c == ',' && !quoted && depth == 0) {
      parts.emplace_back();
      if (i + 1 < text.size() && text[i + 1] == ' ') ++i;
    } else if (i < text.size()) {
      parts.back() += text[i];
    }
  }
  return parts;
}

TextbookProblems read_textbook_problems(const fs::path& path) {
  const YamlFile file(path);
  file.refuse_unknown(file.root(), "", {"wordings", "families"});
  const YAML::Node wordings = file.at(file.root(), "wordings", "");
  TextbookProblems all{.wordings = file.distinct_texts(wordings, "wordings")};
  for (const std::string& wording : all.wordings)
    if (wording.find("$ask") == std::string::npos || wording.find("$tests") == std::string::npos)
      file.fail(wordings, "wordings", "each must hold $ask and $tests");
  const YAML::Node families = file.at(file.root(), "families", "");
  if (!families.IsSequence() || families.size() == 0)
    file.fail(families, "families", "must be a list of problems");
  std::set<std::string> ids;
  for (const auto& node : families) {
    file.refuse_unknown(node, "families.", kKeys);
    const std::string id = file.text(node, "id", "families.");
    if (!ids.insert(id).second) file.fail(node, id, "is the id of two families");
    const YAML::Node variants = node["variants"];
    if (!variants.IsDefined()) {
      all.problems.push_back(make_problem(file, node, node, id, 1));
      continue;
    }
    if (!variants.IsSequence() || variants.size() == 0)
      file.fail(variants, id + ".variants", "must be a list of maps");
    size_t number = 0;
    for (const auto& variant : variants) {
      if (!variant.IsMap()) file.fail(variant, id + ".variants", "must be a list of maps");
      all.problems.push_back(make_problem(file, node, variant, id, ++number));
    }
  }
  return all;
}

}  // namespace inoculum
