// The tokens of chat templates (core/text/jinja/jinja.h).
#pragma once

#include <string>
#include <vector>

#include "core/text/jinja/values.h"

namespace inoculum::jinja {

enum class Tok {
  data,
  block_begin,
  block_end,
  variable_begin,
  variable_end,
  name,
  string,
  integer,
  real,
  op,
  end
};

struct Token {
  Tok type;
  std::string text;
  int line;
  Value value = {};
};

// Error with the name and the line.
std::vector<Token> tokens_of(const std::string& source, const std::string& name);

}  // namespace inoculum::jinja
