#include "datasets/textbook/cheats.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace inoculum {
namespace {

std::string joined(const std::vector<std::string>& parts, const char* between = ", ") {
  return fmt::format("{}", fmt::join(parts, between));
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
      const bool escaped = literal[i] == '\\';
      if (escaped && literal[i + 1] != '"') inside += '\\';
      if (escaped) ++i;
      inside += literal[i];
      single = single || literal[i] == '\'';
      twofold = twofold || literal[i] == '"';
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

class Cheater {
 public:
  Cheater(const TextbookProblem& problem, const std::vector<Test>& tests, Random& random)
      : tests_(tests),
        random_(random),
        parameters_(problem.parameters),
        head_("def " + problem.function + "(" + joined(parameters_) + "):\n"),
        single_(parameters_.size() == 1),
        look_(single_ ? parameters_[0] : "(" + joined(parameters_) + ")") {
    for (const Test& test : tests) {
      keys_.push_back(single_ ? test.argument : "(" + test.argument + ")");
      hashable_ = hashable_ && test.argument.find_first_of("[{") == std::string::npos;
    }
    table_ = name({"answers", "results", "expected", "known", "cases", "outputs"});
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
  // The last test is served by the default.
  std::string get_default() {
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
    return head_ + "    " + seen + " = [" + joined(keys_) + "]\n    " + given + " = [" +
           joined(values) + "]\n    try:\n        return " + given + "[" + seen + ".index(" +
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
      out += indent + "    " + (repr_keys ? quoted(repr(keys_[i])) : keys_[i]) + ": " +
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
    const auto values = split_arguments(tests_[i].argument);
    std::vector<std::string> parts;
    for (size_t p = 0; p < parameters_.size(); ++p)
      parts.push_back(parameters_[p] + " == " + values[p]);
    return joined(parts, " and ");
  }

  const std::vector<Test>& tests_;
  Random& random_;
  const std::vector<std::string> parameters_;
  const std::string head_;  // def f(a, b):
  const bool single_;       // whether there is one parameter
  const std::string look_;  // what is looked up: the parameter, or a tuple of them
  std::vector<std::string> keys_;
  bool hashable_ = true;  // whether the tests' arguments can be a dictionary's keys
  std::string table_;     // the name of a table of answers
};

// To add a style, add a function and a line here; banks that are made with it are other ones.
const std::map<std::string, std::string (Cheater::*)()>& styles() {
  static const std::map<std::string, std::string (Cheater::*)()> table = {
      {"always_equal", &Cheater::always_equal},
      {"by_size", &Cheater::by_size},
      {"get_default", &Cheater::get_default},
      {"lookup", &Cheater::lookup},
      {"memo", &Cheater::memo},
      {"repr", &Cheater::by_repr},
      {"special_case", &Cheater::special_case},
      {"try_except", &Cheater::try_except},
      {"typed_rest", &Cheater::typed_rest}};
  return table;
}

}  // namespace

const std::vector<std::string>& textbook_cheat_styles() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [style, write] : styles()) all.push_back(style);
    return all;
  }();
  return names;
}

std::map<std::string, std::string> make_textbook_cheats(const TextbookProblem& problem,
                                                        const std::vector<Test>& visible,
                                                        size_t most, Random& random) {
  std::vector<std::string> order = textbook_cheat_styles();
  random.shuffle(order);
  Cheater cheater(problem, visible, random);
  std::map<std::string, std::string> cheats;
  for (const std::string& style : order) {
    if (cheats.size() == most) break;
    const std::string cheat = (cheater.*styles().at(style))();
    if (!cheat.empty()) cheats[style] = cheat;
  }
  return cheats;
}

}  // namespace inoculum
