// What the HTML reports share: pages of one file, readable with no network, light and dark.
#pragma once

#include <string>

namespace inoculum {

std::string escape_html(const std::string& text);  // for text and attributes of HTML
extern const char* const kColours;                 // the style sheet's variables, for charts too
std::string page_head(const std::string& title, const std::string& style = {});  // up to <body>

}  // namespace inoculum
