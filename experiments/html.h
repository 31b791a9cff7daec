// What the HTML reports share: pages of one file, readable with no network, light and dark.
#pragma once

#include <string>

namespace inoculum {

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...);
std::string escape_html(const std::string& text);                                // for text and attributes of HTML
std::string csv_field(const std::string& text);                                  // quoted where it must be
extern const char* const kColours;                                               // the style sheet's variables, for charts too
std::string page_head(const std::string& title, const std::string& style = {});  // up to <body>

}  // namespace inoculum
