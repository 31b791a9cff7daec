// The reports as pages: each a template beside this file, in one file of HTML, readable with no
// network, light and dark. Every value is escaped; text of models can do no harm.
#pragma once

#include <string>

#include "core/base/files.h"

namespace inoculum {

// `source` is a template's text, `name` its file's name. It sees `context`, the macros of
// page.html.jinja and charts.svg.jinja, and the style sheets.
std::string render_page(const char* source, const std::string& name, Json context);

}  // namespace inoculum
