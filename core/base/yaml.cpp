#include "core/base/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"

namespace inoculum {
namespace {

constexpr size_t kMostAliased = 1'000'000;  // values that a file's aliases stand for
const char* const kMergeKey = "<<";

// Follows the parser, and refuses what the tree of nodes would no longer show.
class Checker final : public YAML::EventHandler {
 public:
  explicit Checker(const std::string& file) : file_(file) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 1) return;
    fail(mark, "a second document begins here, and one file holds one",
         "what stands behind ---, ... or a closing bracket would be left out: put it into a file "
         "of its own, or the text into quotes");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    begin(mark, "", anchor);
    end();
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string&) override {
    begin(mark, tag, anchor);
    end();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = sizes_.find(anchor);
    if (found == sizes_.end()) fail(mark, "an alias stands inside what it refers to", "");
    aliased_ += found->second;
    values_ += found->second;
    if (aliased_ > kMostAliased)
      fail(mark, "aliases stand for more than a million values", "write the values out");
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor);
  }
  void OnMapEnd() override { end(); }

 private:
  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what,
                         const std::string& hint) const {
    throw Error(what, {.file = file_, .line = mark.line + 1}, hint);
  }
  void begin(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    static const std::set<std::string> types = {"str",  "int", "float", "bool",
                                                "null", "seq", "map"};
    static const std::string yaml = "tag:yaml.org,2002:";  // written !!
    const bool is_yaml = tag.starts_with(yaml);
    const std::string name = is_yaml ? tag.substr(yaml.size()) : tag;
    const bool is_none = tag.empty() || tag == "?" || tag == "!";  // plain, or in quotes
    if (!is_none && !(is_yaml && types.contains(name)))
      fail(mark, "the tag " + (is_yaml ? "!!" + name : tag) + " is not known",
           "put a text that begins with ! into quotes");
    open_.push_back({anchor, values_++});
  }
  void end() {
    const auto [anchor, before] = open_.back();
    open_.pop_back();
    if (anchor != YAML::NullAnchor) sizes_[anchor] = values_ - before;
  }

  const std::string& file_;
  size_t documents_ = 0, values_ = 0, aliased_ = 0;      // aliased values are counted in both
  std::vector<std::pair<YAML::anchor_t, size_t>> open_;  // and the values before each
  std::map<YAML::anchor_t, size_t> sizes_;               // values in what an anchor names
};

[[noreturn]] void fail(const YAML::Node& node, const std::string& file, const std::string& field,
                       const std::string& what, const std::string& hint) {
  throw Error(what, {file, node.Mark().line + 1, field}, hint);
}

bool is_merge_key(const YAML::Node& key) {
  return key.Scalar() == kMergeKey && key.Tag() == "?";  // not in quotes
}

// The keys of `from`, which are not there yet, are put into `map`.
void merge_into(YAML::Node map, const YAML::Node& from) {
  std::set<std::string> own;
  for (const auto& entry : map) own.insert(entry.first.Scalar());
  for (const auto& entry : from)
    if (!own.contains(entry.first.Scalar())) map.force_insert(entry.first, entry.second);
}

// Checks the keys of all maps, and takes merge keys apart.
void settle_maps(YAML::Node node, const std::string& file, const std::string& path) {
  const auto inside = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  if (node.IsSequence())
    for (size_t i = 0; i < node.size(); ++i) settle_maps(node[i], file, inside(std::to_string(i)));
  if (!node.IsMap()) return;
  std::set<std::string> seen;
  YAML::Node merged;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar())
      fail(entry.first, file, path, "a key must be a plain text",
           "put a value that holds { or ? into quotes");
    const std::string key = entry.first.Scalar(), full = inside(key);
    if (!seen.insert(key).second)
      fail(entry.first, file, full, "the key is given twice", "remove one of them");
    settle_maps(entry.second, file, full);
    if (is_merge_key(entry.first)) merged.reset(entry.second);
  }
  if (!seen.contains(kMergeKey) || merged.IsNull()) return;
  const auto need_map = [&](const YAML::Node& from) {
    if (!from.IsMap())
      fail(from, file, inside(kMergeKey), "a merge key needs a map, or a list of maps",
           "<<: *name");
  };
  YAML::Node own(YAML::NodeType::Map);
  for (const auto& entry : node)
    if (!is_merge_key(entry.first)) own.force_insert(entry.first, entry.second);
  if (merged.IsSequence()) {
    for (const auto& from : merged) {
      need_map(from);
      merge_into(own, from);
    }
  } else {
    need_map(merged);
    merge_into(own, merged);
  }
  while (node.size() > 0) node.remove(node.begin()->first);
  for (const auto& entry : own) node.force_insert(entry.first, entry.second);
}

}  // namespace

YAML::Node parse_yaml(const std::string& text, const std::string& file) {
  int lines = 1;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (!c.valid)
      throw Error("holds bytes that are not UTF-8", {.file = file, .line = lines},
                  "convert the file to UTF-8");
    lines += c.code == '\n';
    at += c.bytes;
  }
  try {
    // The mark of an end shows whether a quote is still open there: the parser itself would take
    // all the rest of the file for the text.
    std::stringstream ended(text + "\n...\n");
    YAML::Parser parser(ended);
    Checker checker(file);
    while (parser.HandleNextDocument(checker)) {
    }
    YAML::Node root = YAML::Load(text);
    settle_maps(root, file, "");
    return root;
  } catch (const YAML::Exception& failure) {
    const bool open =
        failure.mark.line >= lines && failure.msg.find("in scalar") != std::string::npos;
    throw Error(open ? "a quote is not closed" : failure.msg,
                {.file = file, .line = std::min(failure.mark.line + 1, lines)},
                "this is not valid YAML; a text that holds \": \", \" #\" or begins with one of "
                "'\"&*!|>%@`{[ needs quotes");
  }
}

YAML::Node read_yaml(const fs::path& file) { return parse_yaml(read_file(file), file.string()); }

YAML::Node copy_of(const YAML::Node& node) {
  if (node.IsScalar()) {
    YAML::Node copy(node.Scalar());
    copy.SetTag(node.Tag());
    return copy;
  }
  YAML::Node copy(node.Type());
  if (node.IsSequence())
    for (const auto& item : node) copy.push_back(copy_of(item));
  if (node.IsMap())
    for (const auto& entry : node) copy.force_insert(copy_of(entry.first), copy_of(entry.second));
  return copy;
}

}  // namespace inoculum
