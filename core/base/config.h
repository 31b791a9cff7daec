// Configuration: YAML bound to plain structs.
//
// A struct has its defaults, and one list of its fields that drives parsing, checking, help,
// dumping and the JSON Schema:
//
//   struct OptimizerConfig {
//     double lr = 2e-3;
//     void fields(Fields& f) { f.value("lr", lr, "peak learning rate", at_least(0)); }
//   };
//   OptimizerConfig config;
//   read(load_config("train.yaml", {"lr=1e-4"}), config);
//
// A file may name another with `base: other.yaml` (relative to itself); its own keys are laid over
// it, and `group: null` takes a group of the other away. Elsewhere null is as good as absent; of a
// text it means none. An unknown key, a wrong type, a number that is not finite or a value out of
// range is an Error with file, line and field.
//
// The value of an override is YAML, but where a text is wanted it is that text to the letter
// (prompt=Write C # code); only one that is whole in quotes is what they hold, and null, ~ and
// nothing are none. Where a list of texts is wanted, what YAML reads as a list is one, and anything
// else one text.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/files.h"

namespace YAML {
class Node;
}

namespace inoculum {

// What a value must satisfy.
struct Rule {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};
  bool input = false;  // a path: find_input says where it leads
};
inline Rule at_least(double low) { return {.low = low}; }
inline Rule between(double low, double high) { return {.low = low, .high = high}; }
inline Rule one_of(std::vector<std::string> choices) { return {.choices = std::move(choices)}; }
inline Rule input_path() { return {.input = true}; }

// The visitor that a struct shows its fields to.
class Fields {
 public:
  virtual ~Fields() = default;

  virtual void value(const std::string& name, bool& value, const std::string& help) = 0;
  virtual void value(const std::string& name, int64_t& value, const std::string& help,
                     const Rule& rule = {}) = 0;
  virtual void value(const std::string& name, double& value, const std::string& help,
                     const Rule& rule = {}) = 0;
  virtual void value(const std::string& name, std::string& value, const std::string& help,
                     const Rule& rule = {}) = 0;
  // Null or empty (`key=`): none.
  virtual void value(const std::string& name, std::optional<int64_t>& value,
                     const std::string& help, const Rule& rule = {}) = 0;
  virtual void value(const std::string& name, std::optional<double>& value, const std::string& help,
                     const Rule& rule = {}) = 0;
  virtual void value(const std::string& name, std::vector<std::string>& value,
                     const std::string& help) = 0;
  virtual void value(const std::string& name, std::vector<double>& value,
                     const std::string& help) = 0;
  virtual void value(const std::string& name, std::map<std::string, double>& value,
                     const std::string& help) = 0;
  // Single values of any kind, as texts; null is the empty one.
  virtual void value(const std::string& name, std::map<std::string, std::string>& value,
                     const std::string& help) = 0;
  // Values of any kind, each kept as the YAML that it was written in.
  virtual void value(const std::string& name,
                     std::map<std::string, std::vector<std::string>>& value,
                     const std::string& help) = 0;
  virtual void value(const std::string& name,
                     std::vector<std::map<std::string, std::string>>& value,
                     const std::string& help) = 0;

  // A name that others give to what this group reads, or to what it has not: `hint` goes to who
  // writes it, here or in a group around.
  virtual void elsewhere(const std::string& /*name*/, const std::string& /*hint*/) {}

  template <class Struct>
  void group(const std::string& name, Struct& value, const std::string& help) {
    begin(name, help);
    value.fields(*this);
    end();
  }
  // Named structs of one kind; a reader makes an entry for each key of the file.
  template <class Struct>
  void map(const std::string& name, std::map<std::string, Struct>& values,
           const std::string& help) {
    begin(name, help);
    for (const std::string& key : keys()) values.try_emplace(key);
    for (auto& [key, value] : values) group(key, value, "");
    end();
  }

  // Structs of one kind in order; overrides name them by number (data.0.weight=2). One alone may
  // stand without the list, and a plain text for its field `shorthand`.
  template <class Struct>
  void list(const std::string& name, std::vector<Struct>& values, const std::string& shorthand,
            const std::string& help) {
    if (const auto anew = begin_list(name, shorthand, help)) values.assign(*anew, Struct{});
    for (size_t i = 0; i < values.size(); ++i) {
      begin_item(i);
      values[i].fields(*this);
      end_item();
    }
    end_list();
  }

 protected:
  virtual void begin(const std::string& name, const std::string& help) = 0;
  virtual void end() = 0;
  // How many items to make anew; nothing: go through those there are.
  virtual std::optional<size_t> begin_list(const std::string& name, const std::string& shorthand,
                                           const std::string& help) = 0;
  virtual void begin_item(size_t index) = 0;
  virtual void end_item() = 0;
  virtual void end_list() = 0;
  virtual std::vector<std::string> keys() const { return {}; }  // of the group that has just begun
};

// A configuration file with its base and overrides merged, each value remembering where it came
// from.
class Source {
 public:
  struct Impl;
  explicit Source(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const Impl& impl() const { return *impl_; }
  bool has(const std::string& key) const;  // at the top level
  // Where a key was written; the file alone for one that was not.
  Where where(const std::string& dotted_key) const;
  Source with(const std::vector<struct Override>& overrides) const;

 private:
  std::shared_ptr<Impl> impl_;
};

struct Override {
  std::string text;                    // "key.sub=value"
  Where where = {.file = "override"};  // that it was written at, for messages
};
std::vector<Override> as_overrides(const std::vector<std::string>& texts);
Source load_config(const fs::path& file, const std::vector<Override>& overrides);
Source load_config(const fs::path& file, const std::vector<std::string>& overrides = {});
// The file by itself: `base` is a key as any other.
Source load_config_alone(const fs::path& file, const std::vector<std::string>& overrides = {});

// The values of a configuration shown as YAML, in its order: dotted key → scalar or list as text.
std::vector<std::pair<std::string, std::string>> flatten(const std::string& yaml);

std::unique_ptr<Fields> reader(const Source& source);
void check_all_known(Fields& reader);  // throws for top-level keys that no field has claimed

template <class Struct>
void read(const Source& source, Struct& config) {
  const auto fields = reader(source);
  config.fields(*fields);
  check_all_known(*fields);
}

// The ways to show a struct: resolved YAML (which loads back to the same), YAML with each value's
// origin (default, file:line, override), a JSON Schema (draft 2020-12), and a plain list of keys
// for --help.
enum class Style { yaml, origins, schema, help };
class Printer {
 public:
  virtual ~Printer() = default;
  virtual Fields& fields() = 0;
  virtual std::string text() = 0;
};
std::unique_ptr<Printer> printer(Style style, const Source* source);

template <class Struct>
std::string show(const Struct& given, Style style = Style::yaml, const Source* source = nullptr) {
  const auto out = printer(style, source);
  Struct config = given;
  config.fields(out->fields());
  return out->text();
}

}  // namespace inoculum
