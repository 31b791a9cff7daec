// The rows of a file: JSON Lines or one JSON list, with comments, and with the numbers that
// Python's json module writes and JSON does not have. Every fault is an Error with file and line.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "core/base/files.h"

namespace inoculum {

// Refuses files that are no text at all, told by their first bytes.
void refuse_other_kinds(std::string_view text, const std::string& file);

// Calls `row(text, line)` for each row of a JSON list, or else for each line that holds anything.
void for_each_row(std::string_view text, const std::string& file,
                  const std::function<void(std::string_view, int)>& row);

// `offset` is the row's place in its file, in bytes, and `where` its file and line. A key given
// twice in one object is refused: the parser would take the last.
Json parse_row(std::string_view row, size_t offset, const Where& where);

}  // namespace inoculum
