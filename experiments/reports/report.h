// The results for people: tables on the terminal, self-contained HTML files, one figure.
#pragma once

#include <string>

#include "core/base/files.h"
#include "experiments/inoculation/results.h"

namespace inoculum {

struct Sweep;

std::string text_report(const Results& results);
std::string html_report(const Results& results);
std::string figure_svg(const Results& results);  // the arms of the experiment, as a file of its own

// Reads results.json and writes report.html, figure.svg and results.csv beside it.
Results write_report(const fs::path& folder);

// report.html of a training run's folder: its curves, its evaluation where it has one, its
// configuration.
void write_run_report(const fs::path& folder);

// sweep.csv and report.html of a sweep, beside sweep.yaml.
void write_sweep_report(const Sweep& sweep);

// Tables for the terminal, of the very JSON that the commands give with --json.
// Of summary.json: conditions and metrics with their intervals.
std::string text_summary(const Json& summary);
// Of sweep_status(): how many cells are in each state, the best, each failed one with its error.
std::string text_status(const Json& status);
// Of run_benchmarks().
std::string text_benchmarks(const Json& timings);

}  // namespace inoculum
