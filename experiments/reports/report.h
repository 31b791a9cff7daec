// The results for people: a table on the terminal, one self-contained HTML file, one figure.
#pragma once

#include <string>

#include "core/base/files.h"

namespace inoculum {

struct Sweep;

std::string text_report(const Json& results);
std::string html_report(const Json& results);
std::string figure_svg(const Json& results);  // the arms of the experiment, as a file of its own

// Reads results.json and writes report.html and figure.svg beside it.
void write_report(const fs::path& folder);

// report.html of a training run's folder: its curves, its evaluation where it has one, its
// configuration.
void write_run_report(const fs::path& folder);

// sweep.csv and report.html of a sweep, beside sweep.yaml.
void write_sweep_report(const Sweep& sweep);

}  // namespace inoculum
