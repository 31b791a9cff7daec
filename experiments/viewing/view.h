// The page of all runs below a folder: curves, tables, answers side by side. Written as files that
// a browser opens from the disk, or served and asked again while runs go on. It needs no network
// and no build step: a page, a style sheet, four scripts beside this file, and data as JSON.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/files.h"
#include "experiments/viewing/page_data.h"

namespace inoculum {

// index.html and what it needs, in `folder`; its data/ is written anew. Each run, and each part of
// an evaluation's answers, is a file of its own, which the page loads when it is looked at.
// → how many runs there are.
size_t export_view(const fs::path& root, const fs::path& folder);

struct PageFile {
  std::string type;  // such as text/html
  std::string body;
  bool unchanged = false;  // it is what the asker has: HTTP's 304, without a body
};
// What a server answers for "/", "/view.css", "/data/list.json", "/data/<id>.json", …. Nothing: the
// page has no such file. No part of a path is looked for on the disk. `known`: the version of the
// list that the asker has.
std::optional<PageFile> served_file(PageData& data, std::string_view path,
                                    const std::string& known = "");

// Serves the page on this machine alone (127.0.0.1; port 0: one that is free) until `stop` says so.
// Runs that go on are looked at anew whenever the page asks. `began` hears the page's address.
void serve_view(const fs::path& root, int64_t port,
                const std::function<void(const std::string&)>& began,
                const std::function<bool()>& stop);

}  // namespace inoculum
