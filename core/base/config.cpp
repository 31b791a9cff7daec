#include "core/base/config.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <functional>
#include <set>

#include "core/base/data_root.h"
#include "core/base/error.h"
#include "core/base/yaml.h"

namespace inoculum {

struct Source::Impl {
  // An override's value as it was given, and what is wrong with it as YAML ("": nothing).
  struct Given {
    std::string text, fault = {};
  };
  fs::path file;
  YAML::Node root;
  std::map<std::string, Where> origin;  // dotted path → where it was set
  std::map<std::string, Given> given;   // dotted path → of what an override set
};

namespace {

using Given = Source::Impl::Given;

std::string join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

// Remembers where each value of a tree stands.
void note_origins(const YAML::Node& node, const std::string& path, const std::string& file,
                  Source::Impl& source) {
  if (!path.empty()) source.origin[path] = {file, node.Mark().line + 1, path};
  if (node.IsSequence())
    for (size_t i = 0; i < node.size(); ++i)
      note_origins(node[i], join(path, std::to_string(i)), file, source);
  if (!node.IsMap()) return;
  for (const auto& entry : node) {
    const std::string full = join(path, entry.first.Scalar());
    note_origins(entry.second, full, file, source);
    source.origin[full].line = entry.first.Mark().line + 1;
  }
}

// `over` laid over `under`: maps are merged key by key, null takes a map away, anything else is
// replaced.
YAML::Node merge(const YAML::Node& under, const YAML::Node& over) {
  if (!under.IsMap() || !over.IsMap()) return copy_of(over);
  YAML::Node result = copy_of(under);
  for (const auto& entry : over) {
    const auto key = entry.first.Scalar();
    const YAML::Node before = std::as_const(result)[key];
    if (entry.second.IsNull() && before.IsDefined() && before.IsMap()) result.remove(key);
    else result[key] = before.IsDefined() ? merge(before, entry.second) : copy_of(entry.second);
  }
  return result;
}

YAML::Node parse_map(const fs::path& file) {
  YAML::Node root = read_yaml(file);
  if (root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  if (!root.IsMap())
    throw Error("a configuration is a map of keys to values", {.file = file.string(), .line = 1});
  return root;
}

YAML::Node load_with_bases(const fs::path& file, Source::Impl& source, int depth) {
  if (depth > 8)
    throw Error("`base` goes round in circles", {.file = file.string(), .field = "base"});
  YAML::Node root = parse_map(file);
  YAML::Node under(YAML::NodeType::Map);
  if (const YAML::Node base = root["base"]; base.IsDefined()) {
    if (!base.IsScalar() && !base.IsNull())
      throw Error("must be the name of a file", {file.string(), base.Mark().line + 1, "base"});
    if (base.IsScalar())
      under = load_with_bases(file.parent_path() / base.Scalar(), source, depth + 1);
    root.remove("base");
  }
  note_origins(root, "", file.string(), source);
  return merge(under, root);
}

void set_override(YAML::Node root, const Override& override_, Source::Impl& source) {
  const std::string& text = override_.text;
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw Error("\"" + text + "\" is not an override", {},
                "write key=value, for example optimizer.lr=1e-4");
  const std::string path = text.substr(0, equals);
  const auto place = [&](const std::string& field) {
    return Where{override_.where.file, override_.where.line, field};
  };
  Given given{.text = text.substr(equals + 1)};
  YAML::Node value;
  try {
    value = parse_yaml(given.text, "");
  } catch (const Error& error) {
    given.fault = error.fault();
    value = YAML::Node(given.text);
  }
  YAML::Node node = root;
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    const std::string key = path.substr(begin, dot - begin);
    if (node.IsSequence()) {  // its items are named by number
      const bool number = !key.empty() && key.size() < 9 &&
                          key.find_first_not_of("0123456789") == std::string::npos;
      if (!number || std::stoul(key) >= node.size())
        throw Error("\"" + key + "\" is not the number of one of its " +
                        std::to_string(node.size()) + " items",
                    place(path), "they count from 0");
      if (dot == std::string::npos) {
        node[std::stoul(key)] = value;
        break;
      }
      node.reset(node[std::stoul(key)]);
      begin = dot + 1;
      continue;
    }
    if (node.IsScalar())
      throw Error("the item is a plain value, which has no keys", place(path),
                  "write it as a group of keys in the file");
    if (dot == std::string::npos) {
      node[key] = value;
      break;
    }
    if (!std::as_const(node)[key].IsDefined() || !(node[key].IsMap() || node[key].IsSequence())) {
      node[key] = YAML::Node(YAML::NodeType::Map);
      source.origin[path.substr(0, dot)] = place(path.substr(0, dot));
    }
    node.reset(node[key]);
    begin = dot + 1;
  }
  source.origin[path] = place(path);
  // What was given of a part of it, or of the whole that it is a part of, is no more.
  std::erase_if(source.given, [&](const auto& each) {
    return each.first.starts_with(path + ".") || path.starts_with(each.first + ".");
  });
  source.given[path] = std::move(given);
}

std::string plain(double value) {
  std::string text;
  for (const int digits : {6, 9, 12, 17}) {
    text = fmt::format("{:.{}g}", value, digits);
    if (std::stod(text) == value) break;
  }
  return text;
}

std::string list_of(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

// A YAML scalar that reads back as this very string.
std::string yaml_text(const std::string& text) {
  YAML::Emitter out;
  const bool plain_word =
      !text.empty() &&
      text.find_first_not_of(
          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/.") ==
          std::string::npos &&
      std::isalpha(static_cast<unsigned char>(text[0]));
  if (plain_word) out << text;
  else out << YAML::DoubleQuoted << text;
  return out.c_str();
}

class Reader final : public Fields {
 public:
  explicit Reader(const Source::Impl& source) : source_(source) {
    nodes_.push_back(source.root);
    known_.emplace_back();
  }

  void value(const std::string& name, bool& value, const std::string&) override {
    with(name, [&](const YAML::Node& node) { scalar(node, name, value, "true or false"); });
  }
  void value(const std::string& name, int64_t& value, const std::string&,
             const Rule& rule) override {
    with(name, [&](const YAML::Node& node) {
      double number = 0;
      scalar(node, name, number, "a whole number");
      if (number != std::floor(number)) fail(name, "must be a whole number, not " + node.Scalar());
      if (std::abs(number) > 9e15) fail(name, "the number is too large: " + node.Scalar());
      value = static_cast<int64_t>(number);
      check(name, number, rule);
    });
  }
  void value(const std::string& name, double& value, const std::string&,
             const Rule& rule) override {
    with(name, [&](const YAML::Node& node) {
      scalar(node, name, value, "a number");
      check(name, value, rule);
    });
  }
  void value(const std::string& name, std::string& value, const std::string&,
             const Rule& rule) override {
    with_any(name, [&](const YAML::Node& node) {
      if (const Given* given = given_for(name)) value = text_of(*given);
      else if (node.IsNull()) value.clear();
      else scalar(node, name, value, "a text");
      if (!rule.choices.empty() &&
          std::find(rule.choices.begin(), rule.choices.end(), value) == rule.choices.end())
        fail(name, "\"" + value + "\" is not one of: " + list_of(rule.choices),
             did_you_mean(value, rule.choices));
    });
    if (rule.input) value = find_input(value);
  }
  void value(const std::string& name, std::optional<int64_t>& value, const std::string&,
             const Rule& rule) override {
    optional(name, value, rule);
  }
  void value(const std::string& name, std::optional<double>& value, const std::string&,
             const Rule& rule) override {
    optional(name, value, rule);
  }
  void value(const std::string& name, std::vector<std::string>& value,
             const std::string&) override {
    // One text may stand without its list.
    with_any(name, [&](const YAML::Node& node) {
      const Given* given = given_for(name);
      if (given && is_text(*given, node)) {
        value.assign(text_of(*given).empty() ? 0 : 1, text_of(*given));
        return;
      }
      need_sound(name);
      if (node.IsNull()) return;
      if (node.IsScalar() && !node.Scalar().empty()) {
        value = {node.Scalar()};
        return;
      }
      if (!node.IsSequence()) fail(name, "must be a list of texts, such as [a, b]");
      value.clear();
      for (size_t i = 0; i < node.size(); ++i) {
        const std::string item = join(name, std::to_string(i));
        if (const Given* own = given_for(item)) value.push_back(text_of(*own));
        else scalar(node[i], name, value.emplace_back(), "a list of texts");
      }
    });
  }
  void value(const std::string& name, std::vector<double>& value, const std::string&) override {
    with(name, [&](const YAML::Node& node) {
      if (!node.IsSequence()) fail(name, "must be a list of numbers, such as [1, 2]");
      value.clear();
      for (const auto& item : node) scalar(item, name, value.emplace_back(), "a list of numbers");
    });
  }
  void value(const std::string& name, std::map<std::string, double>& value,
             const std::string&) override {
    with(name, [&](const YAML::Node& node) {
      if (!node.IsMap()) fail(name, "must be a map of names to numbers");
      for (const auto& entry : node)
        scalar(entry.second, name, value[entry.first.Scalar()], "a map of names to numbers");
    });
  }
  void value(const std::string& name, std::map<std::string, std::string>& value,
             const std::string&) override {
    with(name, [&](const YAML::Node& node) {
      if (!node.IsMap()) fail(name, "must be a map of keys to values");
      for (const auto& entry : node) {
        const auto key = entry.first.Scalar();
        if (!entry.second.IsScalar() && !entry.second.IsNull())
          fail(join(name, key), "must be a single value");
        const Given* given = given_for(join(name, key));
        value[key] = given && is_text(*given, entry.second) ? text_of(*given)
                     : entry.second.IsScalar()              ? entry.second.Scalar()
                                                            : "";
      }
    });
  }
  void value(const std::string& name, std::map<std::string, std::vector<std::string>>& value,
             const std::string&) override {
    with(name, [&](const YAML::Node& node) {
      if (!node.IsMap()) fail(name, "must be a map of keys to lists");
      for (const auto& entry : node) {
        const std::string key = entry.first.Scalar();
        if (!entry.second.IsSequence()) fail(join(name, key), "must be a list, such as [1, 2]");
        value[key].clear();
        for (const auto& item : entry.second) value[key].push_back(as_written(item));
        if (entry.second.size() == 0)
          fail(join(name, key), "is empty", "name at least one value, or remove the key");
      }
    });
  }
  void value(const std::string& name, std::vector<std::map<std::string, std::string>>& value,
             const std::string&) override {
    with(name, [&](const YAML::Node& node) {
      if (!node.IsSequence()) fail(name, "must be a list of maps");
      value.clear();
      for (const auto& item : node) {
        if (!item.IsMap()) fail(name, "must be a list of maps, such as [{seed: 2}]");
        auto& each = value.emplace_back();
        for (const auto& entry : item) each[entry.first.Scalar()] = as_written(entry.second);
      }
    });
  }

  void elsewhere(const std::string& name, const std::string& hint) override {
    elsewhere_[name] = hint;
  }

  void finish() const { refuse_unknown(); }

 protected:
  void begin(const std::string& name, const std::string&) override {
    known_.back().push_back(name);
    const YAML::Node here = nodes_.back();
    const YAML::Node inside = here.IsMap() ? here[name] : YAML::Node(YAML::NodeType::Undefined);
    need_sound(name);
    if (inside.IsDefined() && !inside.IsMap() && !inside.IsNull())
      fail(name, "must be a group of keys, not a single value");
    path_.push_back(name);
    nodes_.push_back(inside.IsDefined() && inside.IsMap() ? inside
                                                          : YAML::Node(YAML::NodeType::Map));
    known_.emplace_back();
  }
  void end() override {
    refuse_unknown();
    known_.pop_back();
    nodes_.pop_back();
    path_.pop_back();
  }
  std::optional<size_t> begin_list(const std::string& name, const std::string& shorthand,
                                   const std::string&) override {
    std::optional<size_t> size;
    std::vector<YAML::Node> items;
    with_any(name, [&](const YAML::Node& node) {
      if (const Given* given = given_for(name); given && is_text(*given, node)) {
        const std::string text = text_of(*given);
        size = text.empty() ? 0 : 1;
        if (!text.empty()) items.emplace_back(YAML::NodeType::Map)[shorthand] = text;
        return;
      }
      need_sound(name);
      const auto add = [&](const YAML::Node& item) {
        const Given* own = given_for(join(name, std::to_string(items.size())));
        if (!item.IsScalar() && !item.IsMap())
          fail(name, "must be a list of groups of keys, or of texts");
        items.push_back(item.IsMap() ? item : YAML::Node(YAML::NodeType::Map));
        if (item.IsScalar() && own) items.back()[shorthand] = text_of(*own);
        else if (item.IsScalar()) items.back()[shorthand] = item;
      };
      if (node.IsSequence())
        for (const auto& item : node) add(item);
      else if (!node.IsNull() && !(node.IsScalar() && node.Scalar().empty())) add(node);
      size = items.size();
    });
    path_.push_back(name);
    lists_.push_back(std::move(items));
    return size;
  }
  void begin_item(size_t index) override {
    path_.push_back(std::to_string(index));
    nodes_.push_back(index < lists_.back().size() ? lists_.back()[index]
                                                  : YAML::Node(YAML::NodeType::Map));
    known_.emplace_back();
  }
  void end_item() override { end(); }
  void end_list() override {
    lists_.pop_back();
    path_.pop_back();
  }
  std::vector<std::string> keys() const override {
    std::vector<std::string> names;
    for (const auto& entry : nodes_.back()) names.push_back(entry.first.Scalar());
    return names;
  }

 private:
  std::string full(const std::string& name) const {
    std::string path;
    for (const std::string& part : path_) path = join(path, part);
    return join(path, name);
  }
  Where where(const std::string& name) const {
    const std::string field = full(name);
    // An item that stands alone for its list has no line of its own: the nearest thing around it
    // has.
    for (std::string near = field; !near.empty();
         near.resize(near.find('.') == std::string::npos ? 0 : near.rfind('.')))
      if (const auto found = source_.origin.find(near); found != source_.origin.end())
        return {found->second.file, found->second.line, field};
    return {.file = source_.file.string(), .field = field};
  }
  [[noreturn]] void fail(const std::string& name, const std::string& what,
                         const std::string& hint = {}) const {
    throw Error(what, where(name), hint);
  }
  // Calls `body` with the field's node, where it is given.
  template <class Body>
  void with_any(const std::string& name, Body&& body) {
    known_.back().push_back(name);
    const YAML::Node here = nodes_.back();
    if (here.IsMap() && here[name].IsDefined()) body(here[name]);
  }
  template <class Body>
  void with(const std::string& name, Body&& body) {  // null is as good as absent
    with_any(name, [&](const YAML::Node& node) {
      need_sound(name);
      if (!node.IsNull()) body(node);
    });
  }

  // What an override gave for a field, if one did.
  const Given* given_for(const std::string& name) const {
    const auto found = source_.given.find(full(name));
    return found == source_.given.end() ? nullptr : &found->second;
  }
  void need_sound(const std::string& name) const {
    if (const Given* given = given_for(name); given && !given->fault.empty())
      fail(name, given->fault,
           "an override's value is YAML where it is no text: put texts into quotes");
  }
  // Where a text or a list may stand, brackets and dashes of YAML make a list.
  static bool is_text(const Given& given, const YAML::Node& node) {
    const bool brackets = given.text.starts_with('[') || given.text.starts_with('{');
    return given.fault.empty() ? node.IsScalar() || node.IsNull() : !brackets;
  }
  // A text is kept to the letter. One that is whole in quotes is what they hold; null, ~ and
  // nothing are none.
  static std::string text_of(const Given& given) {
    const std::string& text = given.text;
    if (text == "~" || text == "null") return "";
    if (!is_quoted(text)) return text;
    return parse_yaml(text, "override").Scalar();
  }
  // Whether the quote that opens a text closes at its end.
  static bool is_quoted(const std::string& text) {
    const char quote = text.empty() ? ' ' : text[0];
    if (quote != '"' && quote != '\'') return false;
    for (size_t i = 1; i < text.size(); ++i) {
      const bool doubled = quote == '\'' && text.compare(i, 2, "''") == 0;
      if (text[i] == quote && !doubled) return i + 1 == text.size();
      if (doubled || (quote == '"' && text[i] == '\\')) ++i;
    }
    return false;
  }
  template <class T>
  void scalar(const YAML::Node& node, const std::string& name, T& value,
              const std::string& kind) const {
    if (!node.IsScalar() || !YAML::convert<T>::decode(node, value))
      fail(name, "must be " + kind + ", not \"" + YAML::Dump(node) + "\"");
    if constexpr (std::is_same_v<T, double>)
      if (!std::isfinite(value)) fail(name, "must be a finite number, not " + node.Scalar());
  }
  template <class T>
  void optional(const std::string& name, std::optional<T>& given, const Rule& rule) {
    with_any(name, [&](const YAML::Node& node) {
      given.reset();
      if (node.IsNull() || (node.IsScalar() && node.Scalar().empty())) return;
      known_.back().pop_back();  // noted again by the call below
      value(name, given.emplace(), "", rule);
    });
  }
  static std::string as_written(const YAML::Node& node) {
    YAML::Emitter out;
    out << YAML::Flow << node;
    return node.IsScalar() && node.Tag() != "!" ? node.Scalar() : out.c_str();  // "!": quoted
  }
  void check(const std::string& name, double value, const Rule& rule) const {
    if (value < rule.low)
      fail(name, "must be at least " + plain(rule.low) + ", not " + plain(value));
    if (value > rule.high)
      fail(name, "must be at most " + plain(rule.high) + ", not " + plain(value));
  }
  void refuse_unknown() const {
    for (const auto& entry : nodes_.back()) {
      const std::string key = entry.first.Scalar();
      if (std::find(known_.back().begin(), known_.back().end(), key) != known_.back().end())
        continue;
      const auto named = elsewhere_.find(key);
      fail(key, "unknown key",
           named != elsewhere_.end()
               ? named->second
               : did_you_mean(key, known_.back(), "known here: " + list_of(known_.back())));
    }
  }

  const Source::Impl& source_;
  std::vector<YAML::Node> nodes_;
  std::vector<std::vector<YAML::Node>> lists_;
  std::vector<std::string> path_;
  std::vector<std::vector<std::string>> known_;
  std::map<std::string, std::string> elsewhere_;
};

// YAML, plain or with each value's origin, and the list of keys for --help.
class TextPrinter final : public Printer, public Fields {
 public:
  TextPrinter(Style style, const Source* source) : style_(style), source_(source) {}
  Fields& fields() override { return *this; }
  std::string text() override { return text_; }

  void value(const std::string& n, bool& v, const std::string& h) override {
    line(n, v ? "true" : "false", h);
  }
  void value(const std::string& n, int64_t& v, const std::string& h, const Rule&) override {
    line(n, std::to_string(v), h);
  }
  void value(const std::string& n, double& v, const std::string& h, const Rule&) override {
    line(n, plain(v), h);
  }
  void value(const std::string& n, std::string& v, const std::string& h, const Rule& r) override {
    line(n, yaml_text(r.input ? portable_input(v) : v), h);
  }
  void value(const std::string& n, std::optional<int64_t>& v, const std::string& h,
             const Rule&) override {
    line(n, v ? std::to_string(*v) : "null", h);
  }
  void value(const std::string& n, std::optional<double>& v, const std::string& h,
             const Rule&) override {
    line(n, v ? plain(*v) : "null", h);
  }
  void value(const std::string& n, std::vector<std::string>& v, const std::string& h) override {
    std::vector<std::string> items;
    for (const std::string& item : v) items.push_back(yaml_text(item));
    line(n, "[" + list_of(items) + "]", h);
  }
  void value(const std::string& n, std::vector<double>& v, const std::string& h) override {
    std::vector<std::string> items;
    for (const double item : v) items.push_back(plain(item));
    line(n, "[" + list_of(items) + "]", h);
  }
  void value(const std::string& n, std::map<std::string, double>& v,
             const std::string& h) override {
    std::vector<std::string> items;
    for (const auto& [key, item] : v) items.push_back(yaml_text(key) + ": " + plain(item));
    line(n, "{" + list_of(items) + "}", h);
  }
  void value(const std::string& n, std::map<std::string, std::string>& v,
             const std::string& h) override {
    std::vector<std::string> items;
    for (const auto& [key, item] : v) items.push_back(yaml_text(key) + ": " + yaml_text(item));
    line(n, "{" + list_of(items) + "}", h);
  }
  void value(const std::string& n, std::map<std::string, std::vector<std::string>>& v,
             const std::string& h) override {
    std::vector<std::string> items;
    for (const auto& [key, list] : v) items.push_back(yaml_text(key) + ": [" + list_of(list) + "]");
    line(n, "{" + list_of(items) + "}", h);
  }
  void value(const std::string& n, std::vector<std::map<std::string, std::string>>& v,
             const std::string& h) override {
    std::vector<std::string> items;
    for (const auto& map : v) {
      std::vector<std::string> entries;
      for (const auto& [key, item] : map) entries.push_back(yaml_text(key) + ": " + item);
      items.push_back("{" + list_of(entries) + "}");
    }
    line(n, "[" + list_of(items) + "]", h);
  }

 protected:
  std::optional<size_t> begin_list(const std::string& name, const std::string& shorthand,
                                   const std::string& help) override {
    begin(name, help);
    shorthand_ = shorthand;
    return style_ == Style::help ? std::optional<size_t>(1) : std::nullopt;
  }
  void begin_item(size_t index) override {
    path_.push_back(std::to_string(index));
    item_begins_ = true;
  }
  void end_item() override { path_.pop_back(); }
  void end_list() override {
    shorthand_.clear();
    if (text_.size() == lengths_.back()) {
      text_.pop_back();
      text_ += " []\n";
      lengths_.back() = 0;
    }
    end();
  }
  void begin(const std::string& name, const std::string& help) override {
    text_ += indent() + name + ":" + (style_ == Style::help && !help.empty() ? "  # " + help : "") +
             "\n";
    path_.push_back(name);
    lengths_.push_back(text_.size());
  }
  void end() override {
    if (text_.size() == lengths_.back()) {  // an empty map must still be one
      text_.pop_back();
      text_ += " {}\n";
    }
    lengths_.pop_back();
    path_.pop_back();
  }

 private:
  std::string indent() {
    std::string text(2 * path_.size(), ' ');
    if (item_begins_) text.replace(text.size() - 2, 2, "- ");
    item_begins_ = false;
    return text;
  }
  void line(const std::string& name, const std::string& value, const std::string& help) {
    std::string one = indent() + name + ": " + value;
    const std::string comment = style_ == Style::help      ? help
                                : style_ == Style::origins ? origin_of(name)
                                                           : "";
    if (!comment.empty())
      one += std::string(one.size() < 40 ? 40 - one.size() : 1, ' ') + "# " + comment;
    text_ += one + "\n";
  }

  std::string origin_of(const std::string& name) const {
    if (!source_) return "default";
    std::string path;
    for (const std::string& part : path_) path = join(path, part);
    const auto& origins = source_->impl().origin;
    auto found = origins.find(join(path, name));
    // Of a list, one item may stand alone, and a text for its main field.
    const std::string list = path.substr(0, path.find_last_of('.'));
    if (found == origins.end() && !shorthand_.empty()) found = origins.find(join(list, name));
    for (const std::string& whole : {path, list})
      if (found == origins.end() && name == shorthand_) found = origins.find(whole);
    if (found == origins.end()) return "default";
    const Where& where = found->second;
    return where.line > 0 ? where.file + ":" + std::to_string(where.line) : where.file;
  }

  Style style_;
  const Source* source_;
  std::string text_;
  std::vector<std::string> path_;
  std::vector<size_t> lengths_;
  std::string shorthand_;  // of the list that is being shown
  bool item_begins_ = false;
};

class SchemaPrinter final : public Printer, public Fields {
 public:
  SchemaPrinter() { objects_.push_back(object("")); }
  Fields& fields() override { return *this; }
  std::string text() override {
    Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}};
    schema.update(objects_.front());
    schema["properties"]["base"] = {{"type", "string"},
                                    {"description", "another file, under this one"}};
    return schema.dump(2) + "\n";
  }
  void value(const std::string& n, bool& v, const std::string& h) override {
    add(n, {{"type", "boolean"}, {"default", v}}, h);
  }
  void value(const std::string& n, int64_t& v, const std::string& h, const Rule& r) override {
    add(n, ranged({{"type", "integer"}, {"default", v}}, r), h);
  }
  void value(const std::string& n, double& v, const std::string& h, const Rule& r) override {
    add(n, ranged({{"type", "number"}, {"default", v}}, r), h);
  }
  void value(const std::string& n, std::string& v, const std::string& h, const Rule& r) override {
    Json schema = {{"type", "string"}, {"default", v}};
    if (!r.choices.empty()) schema["enum"] = r.choices;
    add(n, schema, h);
  }
  void value(const std::string& n, std::optional<int64_t>& v, const std::string& h,
             const Rule& r) override {
    add(n, ranged(or_null("integer", v), r), h);
  }
  void value(const std::string& n, std::optional<double>& v, const std::string& h,
             const Rule& r) override {
    add(n, ranged(or_null("number", v), r), h);
  }
  void value(const std::string& n, std::vector<std::string>& v, const std::string& h) override {
    add(n, {{"type", "array"}, {"items", {{"type", "string"}}}, {"default", v}}, h);
  }
  void value(const std::string& n, std::vector<double>& v, const std::string& h) override {
    add(n, {{"type", "array"}, {"items", {{"type", "number"}}}, {"default", v}}, h);
  }
  void value(const std::string& n, std::map<std::string, double>& v,
             const std::string& h) override {
    add(n, {{"type", "object"}, {"additionalProperties", {{"type", "number"}}}, {"default", v}}, h);
  }
  void value(const std::string& n, std::map<std::string, std::string>&,
             const std::string& h) override {
    add(n, {{"type", "object"}}, h);
  }
  void value(const std::string& n, std::map<std::string, std::vector<std::string>>&,
             const std::string& h) override {
    add(n, {{"type", "object"}, {"additionalProperties", {{"type", "array"}, {"minItems", 1}}}}, h);
  }
  void value(const std::string& n, std::vector<std::map<std::string, std::string>>&,
             const std::string& h) override {
    add(n, {{"type", "array"}, {"items", {{"type", "object"}}}}, h);
  }

 protected:
  void begin(const std::string& name, const std::string& help) override {
    names_.push_back(name);
    objects_.push_back(object(help));
  }
  void end() override {
    const Json done = objects_.back();
    objects_.pop_back();
    objects_.back()["properties"][names_.back()] = done;
    names_.pop_back();
  }
  std::optional<size_t> begin_list(const std::string& name, const std::string&,
                                   const std::string& help) override {
    begin(name, help);
    return 1;
  }
  void begin_item(size_t) override {}
  void end_item() override {}
  void end_list() override {
    const Json one = {{"anyOf", {{{"type", "string"}}, objects_.back()}}};
    objects_.back() = {
        {"anyOf", {{{"type", "string"}}, objects_.back(), {{"type", "array"}, {"items", one}}}}};
    end();
  }

 private:
  static Json object(const std::string& help) {
    Json schema = {
        {"type", "object"}, {"additionalProperties", false}, {"properties", Json::object()}};
    if (!help.empty()) schema["description"] = help;
    return schema;
  }
  template <class T>
  static Json or_null(const char* type, const std::optional<T>& value) {
    return {{"type", Json::array({type, "null"})}, {"default", value ? Json(*value) : Json()}};
  }
  static Json ranged(Json schema, const Rule& rule) {
    if (std::isfinite(rule.low)) schema["minimum"] = rule.low;
    if (std::isfinite(rule.high)) schema["maximum"] = rule.high;
    return schema;
  }
  void add(const std::string& name, Json schema, const std::string& help) {
    schema["description"] = help;
    objects_.back()["properties"][name] = std::move(schema);
  }

  std::vector<Json> objects_;
  std::vector<std::string> names_;
};

}  // namespace

bool Source::has(const std::string& key) const { return impl_->root[key].IsDefined(); }

Where Source::where(const std::string& dotted_key) const {
  const auto found = impl_->origin.find(dotted_key);
  return found == impl_->origin.end() ? Where{.file = impl_->file.string(), .field = dotted_key}
                                      : found->second;
}

Source Source::with(const std::vector<Override>& overrides) const {
  auto impl = std::make_shared<Impl>(*impl_);
  impl->root = copy_of(impl_->root);
  for (const Override& each : overrides) set_override(impl->root, each, *impl);
  return Source(impl);
}

Source load_config(const fs::path& file, const std::vector<Override>& overrides) {
  auto impl = std::make_shared<Source::Impl>();
  impl->file = file;
  impl->root = load_with_bases(file, *impl, 0);
  return Source(impl).with(overrides);
}

std::vector<Override> as_overrides(const std::vector<std::string>& texts) {
  std::vector<Override> all;
  for (const std::string& text : texts) all.push_back({.text = text});
  return all;
}

Source load_config(const fs::path& file, const std::vector<std::string>& overrides) {
  return load_config(file, as_overrides(overrides));
}

Source load_config_alone(const fs::path& file, const std::vector<std::string>& overrides) {
  auto impl = std::make_shared<Source::Impl>();
  impl->file = file;
  impl->root = parse_map(file);
  note_origins(impl->root, "", file.string(), *impl);
  return Source(impl).with(as_overrides(overrides));
}

std::vector<std::pair<std::string, std::string>> flatten(const std::string& yaml) {
  std::vector<std::pair<std::string, std::string>> values;
  const std::function<void(const YAML::Node&, const std::string&)> visit =
      [&](const YAML::Node& node, const std::string& path) {
        if (!node.IsMap()) {
          YAML::Emitter out;
          out << YAML::Flow << node;
          values.emplace_back(path, node.IsScalar() ? node.Scalar() : out.c_str());
          return;
        }
        for (const auto& entry : node) visit(entry.second, join(path, entry.first.Scalar()));
      };
  visit(parse_yaml(yaml, "configuration"), "");
  return values;
}

std::unique_ptr<Fields> reader(const Source& source) {
  return std::make_unique<Reader>(source.impl());
}
void check_all_known(Fields& fields) { static_cast<Reader&>(fields).finish(); }

std::unique_ptr<Printer> printer(Style style, const Source* source) {
  if (style == Style::schema) return std::make_unique<SchemaPrinter>();
  return std::make_unique<TextPrinter>(style, source);
}

}  // namespace inoculum
