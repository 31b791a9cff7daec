#include "experiments/reports/pages.h"

#include "core/text/jinja/jinja.h"
#include "embedded/experiments/reports/charts.css.h"
#include "embedded/experiments/reports/charts.svg.jinja.h"
#include "embedded/experiments/reports/page.css.h"
#include "embedded/experiments/reports/page.html.jinja.h"
#include "embedded/experiments/reports/palette.css.h"

namespace inoculum {

std::string render_page(const char* source, const std::string& name, Json context) {
  std::string chart_style(embedded::palette_css);
  context["chart_style"] = chart_style.append(embedded::charts_css);
  context["page_style"] = embedded::page_css;
  std::string all(embedded::page_html_jinja);  // the macros, and what uses them
  all.append(embedded::charts_svg_jinja).append(source);
  const std::string page =
      Template(all, name, {.autoescape = true, .limits = false}).render(context);
  return page.substr(page.find('<'));  // without the empty lines of the macros' definitions
}

}  // namespace inoculum
