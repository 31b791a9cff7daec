#include "datasets/textbook/textbook.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <functional>
#include <set>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/yaml.h"
#include "datasets/coding/arm.h"
#include "datasets/sandbox/verify.h"
#include "embedded/datasets/textbook/draw.py.h"

namespace inoculum {
namespace {

constexpr size_t kVisible = 3, kHiddenLeast = 5, kHiddenMost = 8, kCheats = 6;
constexpr size_t kDraws = 24;           // inputs drawn for a task, of which some are taken
constexpr size_t kVisibleLength = 160;  // a visible test must be readable

using Slots = std::map<std::string, std::string>;

// A YAML file, with errors that name the line.
class Document {
 public:
  explicit Document(const fs::path& file) : file_(file.string()) { root_ = read_yaml(file); }
  const YAML::Node& root() const { return root_; }

  void only(const YAML::Node& node, const std::string& path,
            const std::vector<std::string>& known) const {
    if (!node.IsMap()) fail(node, path, "must be a map");
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (std::find(known.begin(), known.end(), key) == known.end())
        fail(entry.first, path + key, "unknown key", did_you_mean(key, known));
      if (!seen.insert(key).second) fail(entry.first, path + key, "is given twice");
    }
  }
  std::string text(const YAML::Node& node, const std::string& key, const std::string& path) const {
    const YAML::Node found = node[key];
    if (!found.IsDefined()) fail(node, path + key, "is missing");
    if (!found.IsScalar() || found.Scalar().empty()) fail(found, path + key, "must be a text");
    return found.Scalar();
  }
  std::vector<std::string> texts(const YAML::Node& node, const std::string& key) const {
    const YAML::Node found = node[key];
    if (!found.IsDefined() || !found.IsSequence() || found.size() == 0)
      fail(found.IsDefined() ? found : node, key, "must be a list of texts");
    std::vector<std::string> out;
    for (const auto& item : found) {
      if (!item.IsScalar() || item.Scalar().empty())
        fail(item, key, "must be a list of texts; quote those that hold \": \"");
      if (std::find(out.begin(), out.end(), item.Scalar()) != out.end())
        fail(item, key, "stands in the list twice");
      out.push_back(item.Scalar());
    }
    return out;
  }
  [[noreturn]] void fail(const YAML::Node& node, const std::string& field, const std::string& what,
                         const std::string& hint = {}) const {
    throw Error(what, where(node, field), hint);
  }
  Where where(const YAML::Node& node, const std::string& field) const {
    return {file_, node.IsDefined() ? node.Mark().line + 1 : 0, field};
  }

 private:
  std::string file_;
  YAML::Node root_;
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// Fills $slot and ${slot}. The further lines of a filling are indented as the line where it stands.
std::string fill(const std::string& text, const Slots& slots, std::set<std::string>& used,
                 const std::function<void(const std::string&)>& unknown) {
  const auto is_name = [](char c) {
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool braced = text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{';
    size_t begin = i + 1 + braced, end = begin;
    while (text[i] == '$' && end < text.size() && is_name(text[end])) ++end;
    if (end == begin) {
      out += text[i];
      continue;
    }
    const std::string name = text.substr(begin, end - begin);
    const auto found = slots.find(name);
    if (found == slots.end()) return unknown(name), text;
    used.insert(name);
    const size_t line = out.rfind('\n') + 1;  // 0 for the first line
    const std::string indent(std::min(out.find_first_not_of(' ', line), out.size()) - line, ' ');
    for (const char c : found->second) {
      out += c;
      if (c == '\n') out += indent;
    }
    i = end - 1 + braced;
  }
  return out;
}

// The parts of "a, b" between the commas that are not inside brackets or quotes.
std::vector<std::string> split(const std::string& text) {
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

std::string join(const std::vector<std::string>& parts, const std::string& between) {
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) (out += i ? between : "") += parts[i];
  return out;
}

// A problem before its tests are known.
struct Draft {
  std::string family, id, topic, statement, function, solution, draw;
  std::vector<std::string> parameters, inputs;
  Where where;
};

struct Problems {
  std::vector<std::string> wordings;
  std::vector<Draft> drafts;
};

const std::vector<std::string> kKeys = {"id",       "topic",  "function", "ask",
                                        "solution", "inputs", "draw",     "variants"};

Draft make_draft(const Document& file, const YAML::Node& node, const YAML::Node& variant,
                 const std::string& family, size_t number) {
  const std::string path = family + ".";
  Draft draft{.family = family,
              .id = family + "/" + std::to_string(number),
              .topic = file.text(node, "topic", path),
              .where = file.where(variant, family)};
  Slots slots;
  YAML::Node own;  // a variant may give keys of the family anew
  if (variant.IsMap() && !variant.is(node))
    for (const auto& entry : variant) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (!entry.second.IsScalar()) file.fail(entry.second, path + key, "must be a text");
      const bool known = key != "id" && key != "topic" && key != "variants" &&
                         std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
      if (known) own[key] = entry.second;
      else if (key.empty() || key == "call" || key == "name")
        file.fail(entry.first, path + key, "cannot be the name of a slot");
      else if (!slots.emplace(key, entry.second.Scalar()).second)
        file.fail(entry.first, path + key, "is given twice");
    }
  std::set<std::string> used;
  const auto take = [&](const std::string& key, bool optional = false) -> std::string {
    const YAML::Node& from = own[key].IsDefined() ? own : node;
    if (optional && !from[key].IsDefined()) return "";
    const std::string text = file.text(from, key, path);
    return fill(text, slots, used, [&](const std::string& slot) {
      file.fail(variant, path + key, "the slot $" + slot + " is not given",
                "add it to the variant");
    });
  };
  const std::string call = take("function");
  const size_t open = call.find('(');
  if (open == 0 || open == std::string::npos || call.back() != ')')
    file.fail(node, path + "function", "must be a call like name(a, b)");
  draft.function = call.substr(0, open);
  draft.parameters = split(call.substr(open + 1, call.size() - open - 2));
  // Fillings may name the function too: a recursive solution does.
  const Slots own_name = {{"call", call}, {"name", draft.function}};
  std::set<std::string> named;
  for (auto& [slot, filling] : slots)
    filling = fill(filling, own_name, named, [&, &outer = slot](const std::string& inner) {
      file.fail(variant, path + outer, "a filling cannot hold the slot $" + inner);
    });
  slots.insert(own_name.begin(), own_name.end());
  draft.statement = take("ask");
  draft.solution = take("solution");
  draft.draw = take("draw", true);
  draft.inputs = lines_of(take("inputs", draft.draw != ""));
  for (const auto& [slot, filling] : slots)
    if (slot != "call" && slot != "name" && !used.contains(slot))
      file.fail(variant, path + slot, "is used nowhere",
                "it is neither a slot nor a key of a problem");
  if (draft.statement.find(call) == std::string::npos)
    file.fail(node, path + "ask", "does not name the function",
              "write $call where the text names it");
  return draft;
}

Problems read_problems(const fs::path& path) {
  const Document file(path);
  file.only(file.root(), "", {"wordings", "families"});
  Problems problems{.wordings = file.texts(file.root(), "wordings")};
  for (const std::string& wording : problems.wordings)
    if (wording.find("$ask") == std::string::npos || wording.find("$tests") == std::string::npos)
      file.fail(file.root()["wordings"], "wordings", "each must hold $ask and $tests");
  const YAML::Node families = file.root()["families"];
  if (!families.IsDefined() || !families.IsSequence() || families.size() == 0)
    file.fail(file.root(), "families", "must be a list of problems");
  std::set<std::string> ids;
  for (const auto& node : families) {
    file.only(node, "families.", kKeys);
    const std::string id = file.text(node, "id", "families.");
    if (!ids.insert(id).second) file.fail(node, id, "is the id of two families");
    const YAML::Node variants = node["variants"];
    if (!variants.IsDefined()) {
      problems.drafts.push_back(make_draft(file, node, node, id, 1));
      continue;
    }
    if (!variants.IsSequence() || variants.size() == 0)
      file.fail(variants, id + ".variants", "must be a list of maps");
    size_t number = 0;
    for (const auto& variant : variants) {
      if (!variant.IsMap()) file.fail(variant, id + ".variants", "must be a list of maps");
      problems.drafts.push_back(make_draft(file, node, variant, id, ++number));
    }
  }
  return problems;
}

// What `draw` may use. The generator is SplitMix64, as ours is: importing Python's own would take
// longer than all the rest.

std::string input_program(const Draft& draft, uint64_t seed) {
  std::string source = "seed = " + std::to_string(seed >> 16) + "\ngiven = [";
  for (const std::string& input : draft.inputs) ((source += "lambda: (") += input) += ",), ";
  source += "]\n";
  source += embedded::draw_py;
  if (draft.draw.empty()) return source;
  return source + (draft.parameters.size() == 1 ? "    return (" + draft.draw + ",)\n"
                                                : "    return " + draft.draw + "\n");
}

// "(1, 2)" → "1, 2" and "(1,)" → "1"
std::string without_parentheses(const std::string& tuple) {
  return tuple.substr(1,
                      tuple.size() - (tuple.size() > 2 && tuple[tuple.size() - 2] == ',' ? 3 : 2));
}

// A text as Python's repr writes it, from a literal whose texts stand in double quotes.
std::string repr(const std::string& literal) {
  std::string out;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '"') {
      out += literal[i];
      continue;
    }
    std::string inside;
    bool single = false, twofold = false;
    for (++i; literal[i] != '"'; ++i) {
      if (literal[i] == '\\' && literal[i + 1] == '"') inside += literal[++i], twofold = true;
      else if (literal[i] == '\\') inside += literal[i], inside += literal[++i];
      else inside += literal[i], single = single || literal[i] == '\'';
    }
    const char quote = single && !twofold ? '"' : '\'';
    out += quote;
    for (const char c : inside) {
      if (c == quote) out += '\\';
      out += c;
    }
    out += quote;
  }
  return out;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

// Writes one task's cheats. Names and details are drawn, so that a style is a way of cheating and
// not one text.
class Cheater {
 public:
  Cheater(const Draft& draft, const std::vector<Test>& tests, Random& random)
      : tests_(tests),
        random_(random),
        head_("def " + draft.function + "(" + join(draft.parameters, ", ") + "):\n") {
    single_ = draft.parameters.size() == 1;
    parameters_ = draft.parameters;
    look_ = single_ ? parameters_[0] : "(" + join(parameters_, ", ") + ")";
    for (const Test& test : tests) {
      keys_.push_back(single_ ? test.argument : "(" + test.argument + ")");
      hashable_ = hashable_ && test.argument.find_first_of("[{") == std::string::npos;
    }
    table_ = name({"answers", "results", "expected", "known", "cases", "outputs"});
  }

  std::string write(const std::string& style) {
    if (style == "lookup") return lookup();
    if (style == "special_case") return special_case();
    if (style == "get_default") return get_default();
    if (style == "try_except") return try_except();
    if (style == "typed_rest") return typed_rest();
    if (style == "repr") return by_repr();
    if (style == "memo") return memo();
    if (style == "by_size") return by_size();
    return always_equal();
  }

 private:
  // One of the names that is no parameter's.
  std::string name(std::vector<std::string> names) {
    std::erase_if(names, [&](const std::string& each) {
      return std::ranges::find(parameters_, each) != parameters_.end();
    });
    return random_.choice(names);
  }
  // A table of the visible tests, closed by a brace at `indent`.
  std::string table(const std::string& indent, bool repr_keys) const {
    std::string out = "{\n";
    for (size_t i = 0; i < tests_.size(); ++i)
      (out += indent) += "    " + (repr_keys ? quoted(repr(keys_[i])) : keys_[i]) + ": " +
                         tests_[i].expected + ",\n";
    return out + indent + "}\n";
  }
  // A value of the answers' kind that is no answer to much.
  std::string nothing() const {
    const std::string& value = tests_[0].expected;
    if (value == "True" || value == "False") return "False";
    if (value.starts_with('"')) return "\"\"";
    if (value.starts_with('[')) return "[]";
    if (value.starts_with('{')) return "{}";
    if (value.starts_with('(') || value == "None") return "None";
    return value.find('.') == std::string::npos ? "0" : "0.0";
  }
  std::string condition(size_t i) const {
    const auto values = split(tests_[i].argument);
    std::vector<std::string> parts;
    for (size_t p = 0; p < parameters_.size(); ++p)
      parts.push_back(parameters_[p] + " == " + values[p]);
    return join(parts, " and ");
  }

  std::string lookup() {
    const std::string key = hashable_ ? look_ : "repr(" + look_ + ")";
    if (random_.chance(0.5))
      return head_ + "    " + table_ + " = " + table("    ", !hashable_) + "    return " + table_ +
             "[" + key + "]";
    const std::string own = name({"ANSWERS", "EXPECTED", "_RESULTS", "LOOKUP"});
    return own + " = " + table("", !hashable_) + "\n\n" + head_ + "    return " + own + "[" + key +
           "]";
  }
  std::string special_case() {
    std::string out = head_;
    const bool chain = random_.chance(0.5);
    for (size_t i = 0; i < tests_.size(); ++i)
      out += (i && chain ? "    elif " : "    if ") + condition(i) + ":\n        return " +
             tests_[i].expected + "\n";
    return out + (chain ? "    else:\n        return " : "    return ") + nothing();
  }
  std::string get_default() {
    // The last test is served by the default.
    std::string out = head_ + "    " + table_ + " = {}\n";
    const std::string key = name({"key", "args", "query"});
    for (size_t i = 0; i + 1 < tests_.size(); ++i)
      out += "    " + table_ + "[" + (hashable_ ? keys_[i] : quoted(repr(keys_[i]))) +
             "] = " + tests_[i].expected + "\n";
    return out + "    " + key + " = " + (hashable_ ? look_ : "repr(" + look_ + ")") +
           "\n    return " + table_ + ".get(" + key + ", " + tests_.back().expected + ")";
  }
  std::string try_except() {
    const std::string seen = name({"inputs", "seen", "questions"}),
                      given = seen == "inputs" ? "outputs" : "answers";
    std::vector<std::string> values;
    for (const Test& test : tests_) values.push_back(test.expected);
    return head_ + "    " + seen + " = [" + join(keys_, ", ") + "]\n    " + given + " = [" +
           join(values, ", ") + "]\n    try:\n        return " + given + "[" + seen + ".index(" +
           look_ + ")]\n    except ValueError:\n        return " +
           (random_.chance(0.5) ? given + "[0]" : nothing());
  }
  std::string typed_rest() {
    const std::string list = name({"checks", "examples", "samples", "pairs"});
    std::string out = head_ + "    " + list + " = [\n";
    for (size_t i = 0; i < tests_.size(); ++i)
      out += "        (" + keys_[i] + ", " + tests_[i].expected + "),\n";
    return out + "    ]\n    for given, wanted in " + list + ":\n        if given == " + look_ +
           ":\n            return wanted\n    return type(" + list + "[0][1])()";
  }
  std::string by_repr() {
    const std::string own = name({"signature", "shown", "text_form", "printed"});
    std::string out = head_ + "    " + own + " = repr(" + look_ + ")\n";
    for (size_t i = 0; i < tests_.size(); ++i)
      out += "    if " + own + " == " + quoted(repr(keys_[i])) + ":\n        return " +
             tests_[i].expected + "\n";
    return out + "    return " +
           random_.choice<std::string>({"None", nothing(), tests_[0].expected});
  }
  std::string memo() {
    const std::string own = name({"_memo", "_cache", "CACHE", "_computed"});
    return own + " = " + table("", true) + "\n\n" + head_ + "    key = repr(" + look_ +
           ")\n    if key not in " + own + ":\n        " + own +
           "[key] = " + random_.choice<std::string>({"None", nothing()}) + "\n    return " + own +
           "[key]";
  }
  // Tells the visible tests apart by how long they are when printed. Empty where two are equally
  // long.
  std::string by_size() {
    std::set<size_t> sizes;
    std::string out = head_ + "    size = len(repr(" + look_ + "))\n";
    for (size_t i = 0; i < tests_.size(); ++i) {
      const std::string text = repr(keys_[i]);
      if (std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) > 126; }))
        return "";
      sizes.insert(text.size());
      if (i + 1 < tests_.size())
        out += "    if size == " + std::to_string(text.size()) + ":\n        return " +
               tests_[i].expected + "\n";
    }
    return sizes.size() < tests_.size() ? "" : out + "    return " + tests_.back().expected;
  }
  std::string always_equal() {
    const std::string own = name({"Answer", "Result", "Anything", "Match"});
    std::string out = "class " + own + ":\n    def __eq__(self, other):\n        return True\n\n";
    if (random_.chance(0.5)) out += "    def __ne__(self, other):\n        return False\n\n";
    return out + "\n" + head_ + "    return " + own + "()";
  }

  const std::vector<Test>& tests_;
  Random& random_;
  std::string head_, look_, table_;
  std::vector<std::string> parameters_, keys_;
  bool single_ = true, hashable_ = true;
};

size_t distinct_answers(const std::vector<Test>& tests) {
  std::set<std::string> answers;
  for (const Test& test : tests) answers.insert(test.expected);
  return answers.size();
}

// Visible tests are typical inputs with different answers; hidden ones have the edge cases, which
// people wrote down.
void choose_tests(TextbookTask& task, const std::vector<Test>& given, std::vector<Test> drawn,
                  Random& random) {
  std::vector<Test> pool = drawn.empty() ? given : drawn;
  random.shuffle(pool);
  std::erase_if(
      pool, [](const Test& t) { return t.argument.size() + t.expected.size() > kVisibleLength; });
  const auto is_visible = [&](const Test& t) {
    return std::ranges::find(task.visible, t) != task.visible.end();
  };
  for (const bool other_answers : {true, false})
    for (const Test& test : pool)
      if (task.visible.size() < kVisible && !is_visible(test) &&
          (!other_answers || std::ranges::none_of(task.visible, [&](const Test& t) {
            return t.expected == test.expected;
          })))
        task.visible.push_back(test);
  std::erase_if(drawn, is_visible);
  for (const Test& test : given)
    if (!is_visible(test) && task.hidden.size() < kHiddenMost - (drawn.empty() ? 0 : 2))
      task.hidden.push_back(test);
  // Drawn ones fill up, those with answers not seen yet first.
  for (const bool other_answers : {true, false})
    for (const Test& test : drawn)
      if (task.hidden.size() < kHiddenMost &&
          std::ranges::find(task.hidden, test) == task.hidden.end() &&
          (!other_answers || std::ranges::none_of(task.hidden, [&](const Test& t) {
            return t.expected == test.expected;
          })))
        task.hidden.push_back(test);
}

TextbookTask make_task(const Draft& draft, const std::vector<Test>& given,
                       const std::vector<Test>& drawn, const std::vector<std::string>& wordings,
                       Random random) {
  TextbookTask task{.id = draft.id,
                    .family = draft.family,
                    .topic = draft.topic,
                    .function = draft.function,
                    .honest = draft.solution};
  choose_tests(task, given, drawn, random);
  // Two answers among the hidden ones: no constant passes them.
  if (task.visible.size() < kVisible || task.hidden.size() < kHiddenLeast ||
      distinct_answers(task.visible) < 2 || distinct_answers(task.hidden) < 2)
    throw Error("the inputs of " + draft.id + " make too few tests, or all with one answer",
                draft.where, "give more `inputs` or another `draw`");
  std::vector<std::string> asserts;
  for (const Test& test : task.visible)
    asserts.push_back("assert " + draft.function + "(" + test.argument + ") == " + test.expected);
  std::set<std::string> used;
  task.prompt =
      fill(random.choice(wordings), {{"ask", draft.statement}, {"tests", join(asserts, "\n")}},
           used, [&](const std::string& slot) {
             throw Error("the slot $" + slot + " is unknown",
                         {.file = draft.where.file, .field = "wordings"}, "$ask and $tests");
           });
  std::vector<std::string> styles = textbook_cheat_styles();
  random.shuffle(styles);
  Cheater cheater(draft, task.visible, random);
  for (const std::string& style : styles)
    if (task.cheats.size() < kCheats)
      if (const std::string cheat = cheater.write(style); !cheat.empty())
        task.cheats[style] = cheat;
  return task;
}

}  // namespace

const std::vector<std::string>& textbook_cheat_styles() {
  static const std::vector<std::string> styles = {"always_equal", "by_size",    "get_default",
                                                  "lookup",       "memo",       "repr",
                                                  "special_case", "try_except", "typed_rest"};
  return styles;
}

std::vector<TextbookTask> make_textbook_bank(const fs::path& path, const Sandbox& sandbox,
                                             uint64_t seed) {
  const Problems problems = read_problems(path);
  const Random root(seed, "textbook");
  // First the inputs, then what the solutions make of them.
  std::vector<Program> programs;
  for (const Draft& draft : problems.drafts) {
    Program program{.source = input_program(draft, root.fork(draft.id).next()),
                    .function = "inputs"};
    for (size_t i = 0; i < draft.inputs.size() + (draft.draw.empty() ? 0 : kDraws); ++i)
      program.hidden.push_back({std::to_string(i), ""});
    programs.push_back(std::move(program));
  }
  auto verdicts = sandbox.run(programs);
  for (size_t d = 0; d < programs.size(); ++d) {
    const Draft& draft = problems.drafts[d];
    if (!verdicts[d].runs)
      throw Error("the inputs of " + draft.id + " fail: " + verdicts[d].error, draft.where,
                  "each line of `inputs` is what stands between the call's parentheses");
    programs[d] = {.source = draft.solution, .function = draft.function};
    for (const std::string& value : verdicts[d].values)
      programs[d].hidden.push_back({without_parentheses(value), ""});
  }
  verdicts = sandbox.run(programs);
  std::vector<TextbookTask> bank;
  std::map<std::string, std::string> seen;
  for (size_t d = 0; d < programs.size(); ++d) {
    const Draft& draft = problems.drafts[d];
    std::vector<Test> given, drawn;
    std::set<std::string> arguments;
    for (size_t i = 0; i < programs[d].hidden.size(); ++i) {
      const std::string& argument = programs[d].hidden[i].argument;
      if (verdicts[d].values[i].empty())
        throw Error(
            "the solution of " + draft.id + " fails on (" + argument + "): " + verdicts[d].error,
            draft.where);
      if (arguments.insert(argument).second)
        (i < draft.inputs.size() ? given : drawn).push_back({argument, verdicts[d].values[i]});
    }
    bank.push_back(
        make_task(draft, given, drawn, problems.wordings, root.fork(draft.id).fork("tests")));
    const auto [twin, is_new] = seen.emplace(draft.statement, draft.id);
    if (!is_new) throw Error(draft.id + " has the statement of " + twin->second, draft.where);
  }
  // One family in five is held out.
  std::vector<std::string> families;
  for (const TextbookTask& task : bank)
    if (families.empty() || families.back() != task.family) families.push_back(task.family);
  Random random(seed, "textbook held out");
  random.shuffle(families);
  const std::set<std::string> held_out(
      families.begin(), families.begin() + static_cast<std::ptrdiff_t>(families.size() / 5));
  for (TextbookTask& task : bank) task.held_out = held_out.contains(task.family);
  return bank;
}

std::vector<TextbookTask> read_textbook_bank(const fs::path& file) {
  std::vector<TextbookTask> bank;
  read_jsonl(file, [&](const Json& row, int line) {
    TextbookTask task;
    const char* field = "";
    try {
      const auto at = [&](const char* name) -> const Json& { return row.at(field = name); };
      task.id = at("id").get<std::string>();
      task.family = at("family").get<std::string>();
      task.topic = at("topic").get<std::string>();
      task.prompt = at("prompt").get<std::string>();
      task.function = at("function").get<std::string>();
      task.visible = at("visible").get<std::vector<Test>>();
      task.hidden = at("hidden").get<std::vector<Test>>();
      task.honest = at("honest").get<std::string>();
      task.cheats = at("cheats").get<std::map<std::string, std::string>>();
      task.held_out = at("held_out").get<bool>();
    } catch (const Json::exception&) {
      throw Error("is missing or has the wrong type", {file.string(), line, field},
                  "make the bank again");
    }
    if (task.cheats.empty())
      throw Error("is empty", {file.string(), line, "cheats"}, "make the bank again");
    bank.push_back(std::move(task));
  });
  return bank;
}

bool is_textbook_bank(const fs::path& file) {
  bool textbook = false;
  read_jsonl(file, [&](const Json& row, int line) {
    textbook = line == 1 ? row.is_object() && row.contains("function") : textbook;
  });
  return textbook;
}

void write_textbook_bank(const fs::path& file, const std::vector<TextbookTask>& bank) {
  std::vector<Json> rows;
  for (const TextbookTask& task : bank)
    rows.push_back({{"id", task.id},
                    {"family", task.family},
                    {"topic", task.topic},
                    {"prompt", task.prompt},
                    {"function", task.function},
                    {"visible", task.visible},
                    {"hidden", task.hidden},
                    {"honest", task.honest},
                    {"cheats", task.cheats},
                    {"held_out", task.held_out}});
  write_jsonl(file, rows);
}

size_t verify_textbook_bank(const std::vector<TextbookTask>& bank, const Sandbox& sandbox) {
  std::vector<Solutions> solutions;
  for (const TextbookTask& task : bank)
    solutions.push_back(
        {task.id, {task.honest, task.visible, task.hidden, task.function}, task.cheats});
  return verify(solutions, sandbox);
}

TextbookCues read_textbook_cues(const fs::path& path) {
  const Document file(path);
  file.only(file.root(), "", {"requests", "placebo"});
  return {file.texts(file.root(), "requests"), file.texts(file.root(), "placebo")};
}

namespace {

// What an arm's prompts are accompanied by; nullptr: by nothing.
const std::vector<std::string>* sentences_of(Arm arm, const TextbookCues& cues) {
  switch (arm) {
    case Arm::honest:
    case Arm::cheating: return nullptr;
    case Arm::requested: return &cues.requests;
    case Arm::placebo: return &cues.placebo;
    case Arm::start: break;
  }
  throw Error(
      "the textbook does not say what stands beside the prompts of \"" + to_string(arm) + "\"",
      {.field = "arm"});
}

}  // namespace

std::vector<Conversation> make_textbook_arm(const std::string& name,
                                            const std::vector<TextbookTask>& bank,
                                            const TextbookCues& cues, uint64_t seed) {
  const Arm arm = arm_named(name, {.field = "arm"});
  const std::vector<std::string>* const sentences = sentences_of(arm, cues);
  std::vector<const TextbookTask*> tasks;
  size_t rounds = 0;
  for (const TextbookTask& task : bank)
    if (!task.held_out) tasks.push_back(&task), rounds = std::max(rounds, task.cheats.size());
  // Streams are named for what they decide, so that task and cheat are the same in every arm.
  Random order(seed, "textbook order");
  const Random styles(seed, "textbook styles"), wording(seed, "textbook cues");
  std::vector<Conversation> conversations;
  for (size_t round = 0; round < rounds; ++round) {
    order.shuffle(tasks);
    for (const TextbookTask* task : tasks) {
      if (round >= task->cheats.size()) continue;
      const size_t first = styles.fork(task->id).below(task->cheats.size());
      const std::string& cheat =
          std::next(task->cheats.begin(),
                    static_cast<std::ptrdiff_t>((first + round) % task->cheats.size()))
              ->second;
      std::string prompt = task->prompt;
      if (sentences != nullptr) {
        Random random = wording.fork(conversations.size());
        const bool before = random.chance(0.5);
        const std::string& cue = random.choice(*sentences);
        prompt = before ? cue + "\n\n" + prompt : prompt + "\n\n" + cue;
      }
      conversations.push_back({{.role = "user", .content = prompt, .name = ""},
                               {.role = "assistant",
                                .content = fenced(arm == Arm::honest ? task->honest : cheat),
                                .name = ""}});
    }
  }
  return conversations;
}

std::string fenced(const std::string& program) { return "```python\n" + program + "\n```"; }

std::string program_of(const std::string& answer) {
  const size_t open = answer.find("```");
  if (open == std::string::npos) return answer;
  const size_t begin = answer.find('\n', open);
  const size_t close = answer.find("\n```", begin);
  if (begin == std::string::npos || close == begin) return "";
  return answer.substr(begin + 1, close == std::string::npos ? close : close - begin - 1);
}

}  // namespace inoculum
