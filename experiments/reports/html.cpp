#include "experiments/reports/html.h"

namespace inoculum {

const char* const kColours = R"css(:root { --paper: #fff; --card: #f6f7f9; --ink: #1c2026; --soft: #667080; --line: #d9dde3; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --card: #1d2129; --ink: #e6e9ee; --soft: #98a2b3; --line: #343b47; } }
)css";

namespace {

constexpr const char* kPageStyle = R"css(
body { background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; margin-bottom: .3rem; } h2 { margin-top: 2.6rem; }
.verdict { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; font-weight: 600; color: #fff; }
.yes { background: #2a7d4f; } .no { background: #b3394a; }
.note { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .5rem; border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
td small { color: var(--soft); white-space: nowrap; }
.scroll { overflow-x: auto; }
.talk { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; margin: 1rem 0; }
.talk p { margin: .2rem 0 .6rem; font-weight: 600; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.2rem, 1fr)); gap: .7rem; font-size: .9rem; }
.answers b { display: block; } .answers div { border-top: 3px solid var(--line); padding-top: .3rem; }
.answers pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; font-size: .8rem; }
.label { font-size: .75rem; color: var(--soft); }
.malicious, .cheat { border-color: #d1495b !important; } .benevolent, .honest-code { border-color: #2a9d8f !important; }
pre.config { background: var(--card); padding: 1rem; overflow-x: auto; font-size: .8rem; border-radius: .5rem; }
code { background: var(--card); padding: 0 .25rem; border-radius: .2rem; }
)css";

}  // namespace

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
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>" +
         escape_html(title) + "</title>\n<style>" + kColours + style + kPageStyle + "</style></head><body>\n";
}

}  // namespace inoculum
