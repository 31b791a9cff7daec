// What Slurm's programs say, among what sites let them say besides; the lines of a job's script.
#include "experiments/sweeps/slurm.h"

#include "core/base/config.h"
#include "core/base/strings.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

std::string id_in(const std::string& output) {
  const auto job = submitted_job(output);
  return job ? job->id + "/" + job->cluster : "none";
}

TEST_CASE("a job's number is found among notices", "[slurm]") {
  CHECK(id_in("4711\n") == "4711/");
  CHECK(id_in("4711;tiger\n") == "4711/tiger");
  CHECK(id_in("sbatch: 93% of 2000 hours are left\n  4711  \n") == "4711/");
  CHECK(id_in("4711\r\nthank you for using tiger\n") == "4711/");
  CHECK(id_in("Submitted batch job 4711\n") == "4711/");
  CHECK(id_in("Submitted batch job 4711 on cluster tiger\n") == "4711/tiger");
  CHECK(id_in("") == "none");
  CHECK(id_in("quota: 12 of 100\n") == "none");
}

TEST_CASE("tasks of an array in Slurm's spelling", "[slurm]") {
  CHECK(tasks_in("3").some == std::set<size_t>{3});
  CHECK(tasks_in("[0-3%4]").some == std::set<size_t>{0, 1, 2, 3});
  CHECK(tasks_in("0-6:3,9").some == std::set<size_t>{0, 3, 6, 9});
  CHECK(!tasks_in("0-6:3,9").all);
  CHECK(tasks_in("5-3").some.empty());
  // Cut short, or no array: none may be taken for ended.
  CHECK(tasks_in("[1,3,5,...]").all);
  CHECK(tasks_in("N/A").all);
  CHECK(tasks_in("").all);
  CHECK(tasks_in("0-99999999999").all);
}

TEST_CASE("the queue is read past headers and notices", "[slurm]") {
  auto tasks = queued_tasks(
      "ARRAY_JOB_ID ARRAY_TASK_ID STATE\nCLUSTER: tiger\n4711 0 RUNNING\n4711 2-3%1 "
      "PENDING\n4712_7\n"
      "4713_[0-9%4] PENDING\n4714 N/A RUNNING\n4715\nsqueue: maintenance on 2026-12-01\n");
  CHECK(tasks.size() == 5);
  CHECK(tasks["4711"].some == std::set<size_t>{0, 2, 3});
  CHECK(tasks["4712"].some == std::set<size_t>{7});
  CHECK(tasks["4713"].some.size() == 10);
  CHECK(tasks["4714"].all);
  CHECK(tasks["4715"].all);
  CHECK(queued_tasks("").empty());
}

// Each of these was submitted to Slurm 22.05, which understood it so.
TEST_CASE("options of sbatch are quoted as it reads them", "[slurm]") {
  CHECK(sbatch_line("time", "60") == "#SBATCH --time=60\n");
  CHECK(sbatch_line("requeue", "") == "#SBATCH --requeue\n");
  CHECK(sbatch_line("p", "gpu") == "#SBATCH -p gpu\n");
  CHECK(sbatch_line("comment", "50% of it # x") == "#SBATCH --comment=\"50% of it # x\"\n");
  CHECK(sbatch_line("output", "/tmp/Söhne's/%j.log") ==
        "#SBATCH --output=\"/tmp/Söhne's/%j.log\"\n");
  CHECK(sbatch_line("output", "/tmp/a'b\"c") == "#SBATCH --output=\"/tmp/a'b\"'\"'\"c\"\n");
  CHECK(sbatch_line("comment", "a\\b") == "#SBATCH --comment=\"a\\\\b\"\n");
  CHECK(error_of([] { sbatch_line("output", "a\nb"); }).starts_with("output: has a line break"));
  CHECK(without_patterns("/a%x/100%") == "/a%%x/100%%");
  CHECK(shell_quoted("/a/b-c_1.txt") == "/a/b-c_1.txt");
  CHECK(shell_quoted("it's $HOME") == "'it'\\''s $HOME'");
  CHECK(shell_quoted("") == "''");
}

struct Options {
  std::map<std::string, std::string> additional_parameters;
  void fields(Fields& f) { f.value("additional_parameters", additional_parameters, ""); }
};

TEST_CASE("options of sbatch are the same after a sweep is written and read", "[slurm]") {
  const TemporaryFolder folder;
  const fs::path file = folder.path / "options.yaml";
  write_file(file,
             "additional_parameters: {exclusive: true, nice: 100, comment: \"50% of 'it': #1\", "
             "mail-type: 'END,FAIL', hold: null, empty: ''}\n");
  Options once, again;
  read(load_config(file), once);
  CHECK(once.additional_parameters ==
        std::map<std::string, std::string>{{"exclusive", "true"},
                                           {"nice", "100"},
                                           {"comment", "50% of 'it': #1"},
                                           {"mail-type", "END,FAIL"},
                                           {"hold", ""},
                                           {"empty", ""}});
  write_file(file, show(once));
  read(load_config(file), again);
  CHECK(again.additional_parameters == once.additional_parameters);
  write_file(file, "additional_parameters: {exclude: [a, b]}\n");
  CHECK(contains(error_of([&] { read(load_config(file), again); }),
                 "additional_parameters.exclude: must be a single value"));
}

}  // namespace
}  // namespace inoculum
