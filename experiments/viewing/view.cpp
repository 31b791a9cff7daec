#include "experiments/viewing/view.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/text/jinja/jinja.h"
#include "embedded/experiments/reports/palette.css.h"
#include "embedded/experiments/viewing/view.css.h"
#include "embedded/experiments/viewing/view.html.jinja.h"
#include "embedded/experiments/viewing/view.js.h"
#include "embedded/experiments/viewing/view_answers.js.h"
#include "embedded/experiments/viewing/view_charts.js.h"
#include "embedded/experiments/viewing/view_data.js.h"
#include "experiments/serving/http_server.h"

namespace inoculum {
namespace {

const std::vector<std::pair<std::string, const char*>> kScripts = {
    {"view_data.js", embedded::view_data_js},
    {"view_charts.js", embedded::view_charts_js},
    {"view_answers.js", embedded::view_answers_js},
    {"view.js", embedded::view_js}};

// Of files that are opened from the disk: 'self' is no file: there in every browser.
constexpr const char* kFilesPolicy =
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; "
    "base-uri 'none'; form-action 'none'";
constexpr const char* kServedPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'";

std::string page(const std::string& mode, const std::string& policy) {
  Json scripts = Json::array();
  for (const auto& [name, source] : kScripts) scripts.push_back(name);
  return Template(embedded::view_html_jinja, "view.html.jinja",
                  {.autoescape = true, .limits = false})
      .render({{"mode", mode}, {"policy", policy}, {"scripts", scripts}});
}

std::string style() {
  std::string all(embedded::palette_css);
  return all.append(embedded::view_css);
}

// JSON that is safe wherever a browser may read it, be it inside a page.
std::string safe_text(const Json& json) {
  std::string safe;
  for (const char c : one_line(json))
    if (c == '<') safe += "\\u003c";
    else safe += c;
  return safe;
}

// A script that hands its text to the page: as text, for JSON.parse is quicker than a script, and
// no key of it can mean more than a key.
void write_data(const fs::path& folder, const std::string& name, const Json& data) {
  write_file(folder / (name + ".js"),
             "received(" + safe_text(name) + ", " + safe_text(safe_text(data)) + ");\n");
}

void write_all_data(PageData& data, const Json& list, const fs::path& folder) {
  write_data(folder, "list", list);
  for (const Json& line : list.at("runs")) {
    const auto id = line.at("id").get<std::string>();
    if (const auto run = data.run(id)) write_data(folder, id, *run);
    for (size_t part = 0; const auto answers = data.answers(id, part); ++part)
      write_data(folder, id + ".answers." + std::to_string(part), *answers);
  }
}

std::optional<PageFile> served_data(PageData& data, std::string_view name,
                                    const std::string& known) {
  const auto found = [](const std::optional<Json>& json) -> std::optional<PageFile> {
    if (!json) return std::nullopt;
    return PageFile{"application/json", safe_text(*json)};
  };
  if (!name.ends_with(".json")) return std::nullopt;
  name.remove_suffix(5);
  if (name == "list") {
    const Json list = data.list();
    if (list.at("version").get<std::string>() == known) return PageFile{.unchanged = true};
    return found(list);
  }
  const size_t dot = name.find(".answers.");
  if (dot == std::string_view::npos) return found(data.run(std::string(name)));
  const std::string_view digits = name.substr(dot + 9);
  size_t part = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), part);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return found(data.answers(std::string(name.substr(0, dot)), part));
}

ServerReply reply_to(PageData& data, const ServerRequest& request) {
  if (request.method != "GET") {
    ServerReply refused{.status = 405, .body = "this page is only to be looked at\n"};
    refused.headers["Allow"] = "GET";
    return refused;
  }
  try {
    auto file = served_file(data, request.path, request.header("if-none-match"));
    if (!file) return {.status = 404, .body = "there is nothing at this path\n"};
    if (file->unchanged) return {.status = 304};
    return {.type = file->type, .body = std::move(file->body)};
  } catch (const std::exception& failure) {  // such as the folder, removed meanwhile
    return {.status = 500, .body = valid_utf8(failure.what()) + "\n"};
  }
}

}  // namespace

size_t export_view(const fs::path& root, const fs::path& folder) {
  if (fs::exists(folder / "data") && !fs::exists(folder / "data" / "list.js"))
    throw Error("is there already, and not of an earlier export",
                {.file = (folder / "data").string()}, "name another folder by --export");
  PageData data(root);
  const Json list = data.list();
  replace_atomically(folder / "data",
                     [&](const fs::path& temporary) { write_all_data(data, list, temporary); });
  for (const auto& [name, source] : kScripts) write_file(folder / name, source);
  write_file(folder / "view.css", style());
  write_file(folder / "index.html", page("files", kFilesPolicy));
  return list.at("runs").size();
}

std::optional<PageFile> served_file(PageData& data, std::string_view path,
                                    const std::string& known) {
  if (path == "/") return PageFile{"text/html; charset=utf-8", page("live", kServedPolicy)};
  if (path == "/view.css") return PageFile{"text/css; charset=utf-8", style()};
  if (path.starts_with("/data/")) return served_data(data, path.substr(6), known);
  for (const auto& [name, source] : kScripts)
    if (path == "/" + name) return PageFile{"text/javascript; charset=utf-8", source};
  return std::nullopt;
}

void serve_view(const fs::path& root, int64_t port,
                const std::function<void(const std::string&)>& began,
                const std::function<bool()>& stop) {
  PageData data(root);
  data.list();  // what is wrong with the folder is said at once
  HttpServer server({.port = port}, [&](const ServerRequest& request, const auto& client) {
    client->send(reply_to(data, request));
  });
  began(fmt::format("http://127.0.0.1:{}/", server.port()));
  std::thread serving([&] { server.run(); });
  while (!stop()) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  server.stop(1);
  serving.join();
}

}  // namespace inoculum
