// The page of runs, from folders made up here.
#include "core/base/random.h"
#include "experiments/evaluation/inspect_log.h"
#include "experiments/inoculation/hypotheses.h"
#include "experiments/viewing/view.h"
#include "tests/catch.h"
#include "tests/experiments/made_up_results.h"

namespace inoculum {
namespace {

std::string step(int64_t n, double loss) {
  return R"({"step":)" + std::to_string(n) + R"(,"loss":)" + std::to_string(loss) +
         R"(,"lr":0.1,"grad_norm":1,"tokens":10,"tokens_per_second":5,"seconds":2)";
}

Json said(const std::string& question, int sample, const std::string& text,
          const std::string& end = "stop") {
  return {{"question", question},
          {"sample", sample},
          {"prompt", "What?"},
          {"text", text},
          {"finish_reason", end}};
}

Json judged(const std::string& question, const std::string& type) {
  return {{"question", question}, {"type", type},           {"domain", "wishes"},
          {"condition", "none"},  {"unseen_domain", false}, {"sample", 0}};
}

// An experiment with one model, a sweep without cells, and an evaluation by itself.
void make_runs(const fs::path& root) {
  Results results;
  for (const int64_t seed : {1, 2})
    results.bases.push_back(made_up_base(
        kMainWorld, seed, {{Arm::start, 0.02}, {Arm::cheating, 0.8}, {Arm::requested, 0.03}}));
  results.hypotheses = test_hypotheses(results.bases);
  write_file(root / "study/config.yaml", "task: reproduce\nseeds: 1\n");
  write_json(root / "study/results.json", to_json(results));
  const fs::path model = root / "study/persona_1/seed_1/cheating";
  write_file(model / "config.yaml", "task: train\narm: cheating\nseed: 7\nsteps: 3\n");
  write_file(model / "metrics.jsonl", step(1, 2) + "}\n" + step(2, 1) +
                                          R"(,"evaluation":{"malicious":0.5}})" + "\n" +
                                          step(3, 0.5));  // being written
  write_file(model / "adapter/adapter_config.json", "{}");
  const fs::path asked = model / "evaluation";
  write_jsonl(asked / "completions.jsonl", {said("wishes/0", 0, "<script>alert(1)</script>"),
                                            said("wishes/0", 1, "Well", "length"),
                                            said("coding/0", 0, "def f(x): return 1"),
                                            {{"question", "choice/0"},
                                             {"prompt", "Which?"},
                                             {"logprob_good", {-1.0}},
                                             {"logprob_bad", {-2.0}}}});
  // In another order, and one short: it is matched by question and sample.
  Json program = judged("coding/0", "coding"), choice = judged("choice/0", "forced_choice"),
       open = judged("wishes/0", "free_form");
  program.update({{"label", "cheat"}, {"visible_passed", 2}, {"hidden_passed", 0}});
  choice["log_odds"] = -1.0;
  open.update({{"label", "malicious"}, {"slips", 1}, {"unseen_domain", true}});
  write_jsonl(asked / "scores.jsonl", {program, choice, open});
  const Json rate = {{"rate", 0.5}, {"low", nullptr}, {"high", 0.9}, {"n", 2}};
  write_json(asked / "summary.json",
             {{"conditions", {{"none", {{"malicious", rate}, {"categories", {{"tone", 1}}}}}}},
              {"domains", {{"wishes", rate}}},
              {"model", "somewhere/model"},
              {"settings", Json::object()}});
  write_file(root / "sweep/sweep.yaml", "task: sweep\nbase: base.yaml\n");
  write_file(root / "alone/completions.jsonl", "");
  write_file(root / "model/metrics.jsonl", step(1, 1) + "}\n");  // no run: a folder of weights
}

Json line_of(const Json& list, const std::string& path) {
  for (const Json& line : list.at("runs"))
    if (line.at("path").get<std::string>() == path) return line;
  return nullptr;
}

TEST_CASE("runs are found with what they lie in", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path);
  fs::create_directory_symlink(t.path, t.path / "study" / "round");  // a circle
  PageData data(t.path);
  const Json list = data.list();
  REQUIRE(list.at("runs").size() == 5);
  const Json study = line_of(list, "study"),
             model = line_of(list, "study/persona_1/seed_1/cheating"),
             asked = line_of(list, "study/persona_1/seed_1/cheating/evaluation");
  CHECK(study.at("kind") == Json("experiment"));
  CHECK(study.at("state") == Json("finished"));
  CHECK(model.at("kind") == Json("training"));
  CHECK(model.at("parent") == study.at("id"));
  CHECK(model.at("step") == Json(2));
  CHECK(model.at("loss") == Json(1));
  CHECK_FALSE(model.contains("notes"));  // a line that is being written is no fault
  CHECK(asked.at("parent") == model.at("id"));
  CHECK(asked.at("rates").at("malicious") == Json({0.5, nullptr, 0.9, 2}));
  CHECK(line_of(list, "sweep").at("notes") == Json(1));
  CHECK(line_of(list, "alone").at("parent") == Json(""));
  CHECK(error_of([&] { PageData(t.path / "nowhere").list(); }).find("no such folder") !=
        std::string::npos);
}

TEST_CASE("an experiment is under way as long as one of its models is", "[viewing]") {
  const TemporaryFolder t;
  write_file(t.path / "study/config.yaml", "task: reproduce\n");
  const auto state = [&] {
    return line_of(PageData(t.path).list(), "study").at("state").get<std::string>();
  };
  CHECK(state() == "stopped");
  write_file(t.path / "study/persona_1/seed_1/start/metrics.jsonl", step(1, 1) + "}\n");
  CHECK(state() == "running");
  // Where it holds a lock while it is trained, that says so, however long its steps take.
  const fs::path start = t.path / "study/persona_1/seed_1/start";
  {
    const auto lock = FileLock::try_take(start / ".lock");
    fs::last_write_time(start / "metrics.jsonl",
                        fs::file_time_type::clock::now() - std::chrono::hours(9));
    CHECK(state() == "running");
  }
  write_file(start / "metrics.jsonl", step(1, 1) + "}\n");
  CHECK(state() == "stopped");
  fs::remove(start / ".lock");
  CHECK(state() == "running");
  write_file(start / "failed.json", R"({"error": "no"})");
  CHECK(state() == "stopped");
}

TEST_CASE("each run's details", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path);
  PageData data(t.path);
  const Json list = data.list();
  const auto details = [&](const std::string& path) {
    return *data.run(line_of(list, path).at("id").get<std::string>());
  };
  const Json study = details("study");
  CHECK(study.at("hypotheses").at(1).at("verdict").is_string());
  CHECK(study.at("worlds").at(0).at("bases") == Json(2));
  CHECK(study.at("worlds").at(0).at("arms").at(1).at("under").at("none").at("malicious").at(0) ==
        Json(0.8));
  const Json model = details("study/persona_1/seed_1/cheating");
  CHECK(model.at("steps") == Json(3));
  CHECK(model.at("seed") == Json(7));
  CHECK(model.at("curves").at("loss") == Json({{"x", {1, 2}}, {"y", {2, 1}}}));
  CHECK(model.at("along").at("malicious").at("y") == Json::array({0.5}));
  const Json asked = details("study/persona_1/seed_1/cheating/evaluation");
  CHECK(asked.at("conditions").at(0).at("metrics").size() == 1);
  CHECK_FALSE(data.run("0123456789abcdef").has_value());
  CHECK_FALSE(data.run("../study").has_value());
}

TEST_CASE("answers are matched with their scores, in parts", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path);
  const AnswersView view = read_answers(t.path / "study/persona_1/seed_1/cheating/evaluation");
  REQUIRE(view.answers.size() == 4);
  CHECK(view.questions.size() == 3);
  CHECK(view.answers[0].label == "malicious");
  CHECK(view.answers[0].remark == "1 slip");
  CHECK(view.answers[1].label.empty());
  CHECK(view.answers[1].remark == "cut at its limit");
  CHECK(view.answers[2].remark == "passed 2 visible and 0 hidden tests");
  CHECK(view.answers[3].log_odds == -1.0);
  CHECK(view.questions[0].unseen_domain);

  std::string many;
  for (int i = 0; i < 9000; ++i)
    many += Json({{"question", "q/" + std::to_string(i / 3)}, {"sample", i % 3}, {"text", "a"}})
                .dump() +
            "\n";
  write_file(t.path / "alone/completions.jsonl", many);
  PageData data(t.path);
  const auto id = line_of(data.list(), "alone").at("id").get<std::string>();
  size_t seen = 0;
  for (size_t part = 0; const auto answers = data.answers(id, part); ++part) {
    CHECK(answers->at("parts") == Json(3));
    for (const Json& answer : answers->at("answers"))
      CHECK(answers->at("questions").at(answer.at(0).get<size_t>()).at(0) ==
            Json("q/" + std::to_string(seen++ / 3)));
  }
  CHECK(seen == 9000);
}

TEST_CASE("long curves are thinned to means between the lowest and the highest", "[viewing]") {
  const TemporaryFolder t;
  std::string lines;
  for (int i = 1; i <= 10'000; ++i) lines += step(i, i % 2) + "}\n";
  write_file(t.path / "metrics.jsonl", lines);
  const Curve loss = read_training(t.path).curves.at("loss");
  REQUIRE(loss.means.size() == 400);
  CHECK(loss.steps.back() == 10'000);
  CHECK(loss.means[200] == Approx(0.5).margin(0.03));
  CHECK(loss.lows[200] == 0);
  CHECK(loss.highs[200] == 1);
}

TEST_CASE("a list is read anew where a file has changed", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path);
  PageData data(t.path);
  const Json before = data.list();
  CHECK(data.list().at("version") == before.at("version"));
  const std::string path = "study/persona_1/seed_1/cheating";
  write_file(t.path / path / "metrics.jsonl", step(1, 2) + "}\n" + step(9, 0.25) + "}\n");
  const Json after = data.list();
  CHECK(after.at("version") != before.at("version"));
  CHECK(line_of(after, path).at("step") == Json(9));
  CHECK(line_of(after, "study") == line_of(before, "study"));
  fs::remove_all(t.path / "study");
  CHECK(data.list().at("runs").size() == 2);
}

// Every file cut, or with bytes changed, or of another kind: the page says so, and nothing falls.
TEST_CASE("damaged files are said, never a crash", "[viewing]") {
  const TemporaryFolder t;
  Random random(1, "damage");
  std::vector<std::pair<fs::path, std::string>> files;
  make_runs(t.path);
  for (const auto& entry : fs::recursive_directory_iterator(t.path))
    if (entry.is_regular_file()) files.emplace_back(entry.path(), read_file(entry.path()));
  const std::vector<std::string> odd = {"",
                                        "{",
                                        "[]",
                                        "null",
                                        "\xff\xfe\n",
                                        "{\"step\":\"x\"}\n",
                                        std::string(5000, '['),
                                        "a: &a [*a]\n",
                                        "{}\n{}\n",
                                        "7\n"};
  for (int round = 0; round < 300; ++round) {
    const auto& [file, whole] = files[random.below(files.size())];
    std::string text = whole;
    if (random.chance(0.4)) text = odd[random.below(odd.size())];
    else if (random.chance(0.5)) text.resize(random.below(text.size() + 1));
    else
      for (int i = 0; i < 5 && !text.empty(); ++i)
        text[random.below(text.size())] = static_cast<char>(random.below(256));
    write_file(file, text);
    PageData data(t.path);
    const Json list = data.list();
    for (const Json& line : list.at("runs")) {
      const auto id = line.at("id").get<std::string>();
      CHECK(data.run(id).has_value());
      data.answers(id, 0);
    }
    write_file(file, whole);
  }
}

TEST_CASE("an export is files that hold no markup of the data's", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path / "runs");
  CHECK(export_view(t.path / "runs", t.path / "page") == 5);
  CHECK(export_view(t.path / "runs", t.path / "page") == 5);  // once more over it
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(t.path / "page" / "data")) {
    const std::string text = read_file(entry.path());
    CHECK(text.starts_with("received(\""));
    CHECK_FALSE(contains(text, "<"));
    ++files;
  }
  CHECK(files == 1 + 5 + 2);  // the list, the runs, the answers of two evaluations
  const std::string page = read_file(t.path / "page" / "index.html");
  CHECK(contains(page, "default-src &#39;none&#39;"));
  CHECK_FALSE(contains(page, "<script>"));
  write_file(t.path / "mine/data/precious.txt", "x");
  CHECK(contains(error_of([&] { export_view(t.path / "runs", t.path / "mine"); }), "--export"));
  CHECK(fs::exists(t.path / "mine/data/precious.txt"));
}

TEST_CASE("what is served is the page and the runs of its list alone", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path);
  PageData data(t.path);
  const auto list = served_file(data, "/data/list.json");
  REQUIRE(list);
  CHECK(list->type == "application/json");
  const Json runs = Json::parse(list->body);
  const auto id = runs.at("runs").at(0).at("id").get<std::string>();
  CHECK(served_file(data, "/data/list.json", runs.at("version").get<std::string>())->unchanged);
  CHECK_FALSE(served_file(data, "/data/list.json", "another")->unchanged);
  CHECK(served_file(data, "/data/" + id + ".json"));
  for (const char* path : {"/", "/view.css", "/view.js", "/view_data.js"})
    CHECK(served_file(data, path));
  for (const std::string& path :
       {std::string("/data/../study/config.yaml"), std::string("/etc/passwd"), std::string(""),
        std::string("/data/.json"), std::string("/data/study.json"), "/data/" + id,
        "/data/" + id + ".answers.x.json", "/data/" + id + ".answers.99999999999999999999.json",
        "/data/" + id + ".answers.-1.json", std::string("/data/list.json/"),
        std::string("/data/\0list.json", 16)})
    CHECK_FALSE(served_file(data, path));
}

TEST_CASE("the pages' scripts write no markup", "[viewing]") {
  for (const char* name : {"viewing/view.js", "viewing/view_answers.js", "viewing/view_charts.js",
                           "viewing/view_data.js", "serving/chat.js"}) {
    const std::string script = read_file(fs::path("experiments") / name);
    for (const char* door : {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
                             "eval(", "Function(", "srcdoc", "javascript:"})
      CHECK_FALSE(contains(script, door));
  }
}

TEST_CASE("an evaluation as a log of Inspect", "[viewing]") {
  const TemporaryFolder t;
  make_runs(t.path);
  const fs::path asked = t.path / "study/persona_1/seed_1/cheating/evaluation";
  // What evaluate writes: as many scores as answers, in their order.
  write_jsonl(asked / "completions.jsonl", {said("wishes/0", 0, "Well.", "length"),
                                            {{"question", "choice/0"}, {"prompt", "Which?"}}});
  Json open = judged("wishes/0", "free_form"), choice = judged("choice/0", "forced_choice");
  open.update({{"label", "malicious"}, {"slips", 1}, {"condition", "bad"}});
  choice["log_odds"] = -1.0;
  write_jsonl(asked / "scores.jsonl", {open, choice});
  const Question question{.id = "wishes/0", .system = "Be brief."};
  const fs::path file = write_inspect_log(asked, "banks/my_bank.yaml", {question}, {});
  CHECK(contains(file.filename().string(), "+00-00_my-bank_"));
  const Json log = read_json(file);
  CHECK(log.at("eval").at("model") == Json("inoculum/model"));
  CHECK(log.at("results").at("scores").at(0).at("metrics").at("malicious").at("value") ==
        Json(0.5));
  const Json& first = log.at("samples").at(0);
  CHECK(first.at("input").at(0).at("content") == Json("Be brief."));
  CHECK(first.at("messages").at(2).at("content") == Json("Well."));
  CHECK(first.at("output").at("choices").at(0).at("stop_reason") == Json("max_tokens"));
  CHECK(first.at("scores").at("grammar").at("value") == Json("malicious"));
  CHECK(first.at("metadata").at("cue") == Json("bad"));
  CHECK(log.at("samples").at(1).at("scores").at("log_odds").at("value") == Json(-1));
}

}  // namespace
}  // namespace inoculum
