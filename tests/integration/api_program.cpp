// What tests/integration/api.py drives: judging and fetching from the command line.
//
//   api_program judge|recorded config.yaml prompts.jsonl replies.jsonl output.jsonl
//   api_program fetch repo revision output endpoint
#include <cstdio>

#include "core/base/error.h"
#include "core/base/signals.h"
#include "core/model/hub.h"
#include "experiments/evaluation/judges/api_judge.h"

using namespace inoculum;

namespace {

int judge(const std::string& kind, const fs::path& config_file, const fs::path& prompts,
          const fs::path& replies, const fs::path& output) {
  ApiConfig config;
  read(load_config(config_file), config);
  std::vector<JudgeRequest> requests;
  read_jsonl(prompts, [&](const Json& row, int) {
    requests.push_back({.prompt = row.at("prompt"), .system = row.value("system", "")});
  });
  std::vector<Json> rows;
  const auto put = [&](const std::vector<JudgeReply>& all) {
    const bool digits = spells_digits(all);
    for (const JudgeReply& each : all) {
      const Judgement judgement = numeric_judgement(each, {}, digits);
      rows.push_back({{"text", each.text},
                      {"error", each.error},
                      {"cached", each.cached},
                      {"kind", to_string(judgement.kind)},
                      {"score", judgement.score},
                      {"logprobs", each.tokens.empty() ? 0 : each.tokens[0].top.size()}});
    }
  };
  if (kind == "recorded") {
    put(RecordedJudge(config, replies).ask(requests));
  } else {
    ApiJudge api(config, replies);
    put(api.ask(requests));
    const JudgeTotals& t = api.totals();
    std::printf("%s\n", Json({{"asked", t.asked},
                              {"cached", t.cached},
                              {"retried", t.retried},
                              {"failed", t.failed},
                              {"prompt_tokens", t.prompt_tokens},
                              {"completion_tokens", t.completion_tokens},
                              {"cost", t.cost}})
                            .dump()
                            .c_str());
  }
  write_jsonl(output, rows);
  return stop_requested() ? 130 : 0;
}

int fetch(const FetchConfig& config) {
  const Fetched done = fetch_model(config);
  static const std::vector<std::string> outcomes = {"finished", "already_done", "stopped",
                                                    "paused"};
  std::printf("%s\n", Json({{"outcome", outcomes[static_cast<size_t>(done.outcome)]},
                            {"sha", done.sha},
                            {"files", done.files},
                            {"kept", done.kept},
                            {"bytes", done.bytes}})
                          .dump()
                          .c_str());
  return done.outcome == Outcome::stopped ? 130 : 0;
}

}  // namespace

int main(int count, char** words) {
  const std::vector<std::string> w(words + 1, words + count);
  handle_signals();
  try {
    if (w.size() == 5 && (w[0] == "judge" || w[0] == "recorded"))
      return judge(w[0], w[1], w[2], w[3], w[4]);
    if (w.size() == 5 && w[0] == "fetch")
      return fetch({.repo = w[1], .revision = w[2], .output = w[3], .endpoint = w[4]});
    std::fprintf(stderr, "see the head of tests/integration/api_program.cpp\n");
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return 2;
}
