#include "experiments/reports/html.h"

#include "embedded/experiments/reports/colours.css.h"
#include "embedded/experiments/reports/page.css.h"

namespace inoculum {

const char* const kColours = embedded::colours_css;

namespace {}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += c;
  }
  return out;
}

std::string page_head(const std::string& title, const std::string& style) {
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
         "content=\"width=device-width, initial-scale=1\"><title>" +
         escape_html(title) + "</title>\n<style>" + kColours + style + embedded::page_css +
         "</style></head><body>\n";
}

}  // namespace inoculum
