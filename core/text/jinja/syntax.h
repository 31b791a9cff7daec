// The syntax of chat templates (core/text/jinja/jinja.h): from text to a tree.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/text/jinja/values.h"

namespace inoculum::jinja {

enum class Op {
  literal,
  name,
  member,
  tuple,
  list,
  dict,
  attribute,
  item,
  slice,
  call,
  filter,
  test,
  negate,
  plus,
  invert,
  both,
  either,
  binary,
  concat,
  compare,
  condition,
  data,
  output,
  branch,
  loop,
  set,
  set_block,
  macro,
  filter_block,
  with,
  generation,
  leave,
  proceed
};

using NodePtr = std::unique_ptr<Node>;
using Body = std::vector<NodePtr>;

struct Node {
  Op op;
  int line;
  std::string text = {};  // a name, an operator, text outside tags
  Value value = {};
  Body kids = {};  // a part that may be left out can be null
  std::vector<std::pair<std::string, NodePtr>> named = {};
  std::vector<Body> bodies = {};
  std::vector<std::string> hidden = {};  // names that its body hides from the context, see Program
  int depth = 1;
};

// Jinja settles before it runs to which scope a name belongs: where a scope sets a name that
// neither it nor one around it has read before, the name is undefined there until it is set,
// whatever the context holds. Inner scopes can see that. `hidden` holds these names.
struct Program {
  std::string name;
  Body body;
  std::vector<std::string> hidden;
  bool marks_generation = false;
  std::set<std::string> words = {};  // names and texts inside tags
};

// Error with the name and the line.
Program parse(const std::string& source, const std::string& name);

}  // namespace inoculum::jinja
