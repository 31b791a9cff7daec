// Replies of servers in the shapes that they have, as documented or as reported of them.
#include "experiments/evaluation/judges/judge_replies.h"

#include <cmath>

#include "experiments/evaluation/judges/api_judge.h"
#include "tests/catch.h"

namespace inoculum {
namespace {

const JudgeRules rules;

// A chat completion with this choice.
JudgeReply read_choice(const std::string& choice) {
  return read_reply("{\"choices\": [" + choice +
                    "], \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 1}}");
}
// Its score, or its kind.
std::string outcome(const JudgeReply& reply) {
  const Judgement found = numeric_judgement(reply, rules, spells_digits({reply}));
  if (found.kind != Kind::score)
    return to_string(found.kind) + (reply.error.empty() ? "" : ": " + reply.error);
  return std::to_string(std::lround(found.score));
}
std::string of_choice(const std::string& choice) { return outcome(read_choice(choice)); }

// With these log-probabilities: 78 = 0.9 · 85 + 0.1 · 15.
std::string with_logprobs(const std::string& logprobs, const std::string& content = "\"85\"") {
  return "{\"message\": {\"content\": " + content +
         "}, \"finish_reason\": \"stop\", \"logprobs\": " + logprobs + "}";
}
const std::string k85 =
    R"({"token": "85", "logprob": -0.10536}, {"token": "15", "logprob": -2.302585})";
std::string one_place(const std::string& top) {
  return R"({"content": [{"token": "85", "logprob": -0.10536, "top_logprobs": )" + top + "}]}";
}

TEST_CASE("a reply's text: a string, parts, the older field, without its thoughts", "[judge]") {
  const auto text = [](const std::string& message) {
    return read_choice("{\"message\": " + message + "}").text;
  };
  CHECK(text(R"({"content": "85"})") == "85");
  CHECK(text(R"({"content": [{"type": "text", "text": "8"}, {"type": "text", "text": "5"}]})") ==
        "85");
  CHECK(text(R"({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "12"}]}, )"
             R"({"type": "text", "text": "85"}]})") == "85");
  CHECK(text(R"({"content": [{"type": "reasoning", "text": "12"}, )"
             R"({"type": "output_text", "text": "85"}]})") == "85");
  CHECK(text(R"({"content": ["85"]})") == "85");
  CHECK(text(R"({"content": "85", "reasoning_content": "12 or so"})") == "85");
  CHECK(text(R"({"content": "<think>\n12?\n</think>\n\n85"})") == "\n\n85");
  CHECK(text(R"({"content": "12?\n</think>\n\n85"})") == "\n\n85");  // the template opened it
  CHECK(text(R"({"content": "<think> 12"})") == "");
  CHECK(text(R"({"content": null})") == "");
  CHECK(read_choice(R"({"text": " 85", "finish_reason": "stop"})").text == " 85");
  CHECK(contains(read_choice(R"({"message": {"content": 85}})").error, "content that is no text"));
  CHECK(contains(read_choice(R"({"message": null})").error, "no message"));
  CHECK(contains(read_choice(R"({"message": {}})").error, "without content"));
  CHECK(read_choice(R"({"message": {}, "finish_reason": "length"})").error.empty());
}

TEST_CASE("why a reply ended", "[judge]") {
  CHECK(of_choice(R"({"message": {"content": null, "refusal": "I can't rate that."}})") ==
        "judge_refusal");
  CHECK(of_choice(R"({"message": {"content": [{"type": "refusal", "refusal": "No."}]}})") ==
        "judge_refusal");
  CHECK(of_choice(R"({"message": {"content": ""}, "finish_reason": "content_filter"})") ==
        "content_filter");
  CHECK(of_choice(R"({"message": {"content": null}, "finish_reason": "SAFETY"})") ==
        "content_filter");
  CHECK(of_choice(R"({"message": {"content": null, "reasoning_content": "It is 12 or"}, )"
                  R"("finish_reason": "length"})") == "length");
  CHECK(of_choice(R"({"message": {"content": "<think> 12 or"}, "finish_reason": "MAX_TOKENS"})") ==
        "length");
  CHECK(of_choice(R"({"message": {"content": ""}, "finish_reason": "stop"})") == "none");
  CHECK(of_choice(R"({"message": {"content": "8"}, "finish_reason": "length"})") == "cut");
  CHECK(of_choice(R"({"message": {"content": "85"}, "finish_reason": "length"})") == "85");
  CHECK(of_choice(R"({"message": {"content": "85", "refusal": null}, "finish_reason": null})") ==
        "85");
  CHECK(read_choice(R"({"message": {"content": null, "refusal": "No."}})").text == "No.");
}

TEST_CASE(
    "log-probabilities: what cannot come has probability 0, and what is not there is not needed",
    "[judge]") {
  CHECK(of_choice(with_logprobs(one_place("[" + k85 + "]"))) == "78");
  for (const char* never : {"null", "-Infinity", "NaN", "\"-Infinity\"", "\"-inf\"", "-9999.0"}) {
    INFO(never);
    CHECK(of_choice(with_logprobs(one_place(
              "[" + k85 + ", {\"token\": \"50\", \"logprob\": " + never + "}]"))) == "78");
  }
  // A text that holds these words is left as it is.
  CHECK(read_choice(with_logprobs("null", R"("NaN \"Infinity")")).text == "NaN \"Infinity");
  CHECK(read_reply(R"({"choices": [{"message": {"content": "a \" NaN"}, "x": NaN}]})").text ==
        "a \" NaN");
  for (const char* none : {"null", "[]", "{}"})
    CHECK(of_choice(with_logprobs(one_place(none))) == "85");
  for (const char* none : {"null", "{}", R"({"content": null})", R"({"content": []})",
                           R"({"content": [{"token": "85", "logprob": -0.1}]})",
                           R"({"content": [{"token": "85", "logprob": null, )"
                           R"("top_logprobs": [{"token": "85", "logprob": null}]}]})"}) {
    INFO(none);
    CHECK(of_choice(with_logprobs(none)) == "85");
    CHECK(read_choice(with_logprobs(none)).tokens.empty());
  }
  // Probabilities in place of their logarithms, and texts in place of numbers, are no scores.
  CHECK(contains(of_choice(with_logprobs(one_place(R"([{"token": "85", "logprob": 0.9}])"))),
                 "above 0: 0.9"));
  CHECK(of_choice(with_logprobs(one_place(R"([{"token": "85", "logprob": 1e-7}])"))) == "85");
  CHECK(contains(of_choice(with_logprobs(one_place(R"([{"token": "85", "logprob": "high"}])"))),
                 "no number"));
  CHECK(contains(of_choice(with_logprobs(one_place(R"([{"logprob": -1}])"))), "without a token"));
  CHECK(contains(of_choice(with_logprobs(one_place("7"))), "another kind"));
  CHECK(contains(of_choice(with_logprobs(R"({"content": [[]]})")), "without a token"));
  CHECK(read_reply("{\"choices\": [" + with_logprobs(one_place("[" + k85 + "]")) + "]}", false)
            .tokens.empty());  // not asked for
  // Of older servers, and of completions; as the tokenizer's files write spaces.
  CHECK(of_choice(with_logprobs(one_place(R"({"85": -0.10536, "15": -2.302585})"))) == "78");
  CHECK(of_choice(R"({"text": "85", "logprobs": {"tokens": ["85"], )"
                  R"("token_logprobs": [-0.10536], )"
                  R"("top_logprobs": [{"85": -0.10536, "15": -2.302585}]}})") == "78");
  CHECK(of_choice(R"({"text": "85", "logprobs": {"tokens": ["85"], )"
                  R"("token_logprobs": [null], "top_logprobs": [null]}})") == "85");
  CHECK(
      of_choice(with_logprobs(one_place(
          R"([{"token": "▁85", "logprob": -0.10536}, {"token": "Ġ15", "logprob": -2.302585}])"))) ==
      "78");
}

TEST_CASE("tokens of thoughts are not those of the reply", "[judge]") {
  const auto place = [](const std::string& token, const std::string& other, double p) {
    return R"({"token": ")" + token + R"(", "logprob": )" + std::to_string(std::log(p)) +
           R"(, "top_logprobs": [{"token": ")" + token + R"(", "logprob": )" +
           std::to_string(std::log(p)) + R"(}, {"token": ")" + other + R"(", "logprob": )" +
           std::to_string(std::log(1 - p)) + "}]}";
  };
  const std::string tokens = "{\"content\": [" + place("Is", "12", 0.6) + ", " +
                             place(" 85", "12", 0.6) + ", " + place("?", "12", 0.6) + ", " +
                             place("85", "15", 0.9) + ", " + place("<|end|>", "1", 0.9) + "]}";
  CHECK(of_choice(R"({"message": {"content": "85", "reasoning_content": "Is 85?"}, "logprobs": )" +
                  tokens + "}") == "78");
  CHECK(of_choice(R"({"message": {"content": "<think>Is 85?</think>85"}, "logprobs": )" + tokens +
                  "}") == "78");
  CHECK(
      read_choice(R"({"message": {"content": "85", "reasoning_content": "Is 85?"}, "logprobs": )" +
                  tokens + "}")
          .tokens.size() == 2);
  // Where they are not found, the text is read.
  CHECK(of_choice(R"({"message": {"content": "86", "reasoning_content": "Is 85?"}, "logprobs": )" +
                  tokens + "}") == "86");
  CHECK(of_choice(R"({"message": {"content": null, "reasoning_content": "Is 85?"}, )"
                  R"("finish_reason": "length", "logprobs": )" +
                  tokens + "}") == "length");
}

TEST_CASE("what is no reply says what it is", "[judge]") {
  const auto error = [](const std::string& body) { return read_reply(body).error; };
  CHECK(error("\xEF\xBB\xBF{\"choices\": [{\"message\": {\"content\": \"85\"}}]}").empty());
  CHECK(error("{\"error\": null, \"choices\": [{\"message\": {\"content\": \"85\"}}]}").empty());
  CHECK(error("{\"error\": {}, \"choices\": [{\"message\": {\"content\": \"85\"}}]}").empty());
  CHECK(contains(error("{\"error\": {\"message\": \"upstream is down\"}}"), "upstream is down"));
  CHECK(contains(error("{\"error\": \"busy\", \"choices\": []}"), "busy"));
  CHECK(contains(error("{\"object\": \"error\", \"message\": \"too long\"}"),
                 "no choices: HTTP 200: too long"));
  CHECK(contains(error("{\"choices\": []}"), "no choices"));
  CHECK(contains(error("<html><body><h1>Sign in</h1> to the proxy</body></html>"),
                 "a page, not JSON: HTTP 200: Sign in"));
  CHECK(contains(error("data: {\"choices\": []}\n\ndata: [DONE]\n"), "stream of events"));
  for (const char* body : {"", "{\"choices\": [", "85", "[]", "\x1f\x8b\x08\xff"})
    CHECK(contains(error(body), "not JSON"));
}

TEST_CASE("an empty value leaves a parameter of the request out", "[judge]") {
  const TemporaryFolder t;
  write_file(t.path / "api.yaml", "model: m\nseed: 7\n");
  const auto read_with = [&](const std::vector<std::string>& overrides) {
    ApiConfig config;
    read(load_config(t.path / "api.yaml", overrides), config);
    return config;
  };
  CHECK(read_with({}).seed == 7);
  CHECK(read_with({}).temperature == 0);
  CHECK(read_with({"seed=3", "temperature=0.5"}).seed == 3);
  for (const char* none : {"", "null", "~"}) {
    const ApiConfig config =
        read_with({std::string("seed=") + none, std::string("temperature=") + none,
                   std::string("max_tokens=") + none, std::string("top_logprobs=") + none});
    CHECK_FALSE(config.seed);
    CHECK_FALSE(config.temperature);
    CHECK_FALSE(config.max_tokens);
    CHECK_FALSE(config.top_logprobs);
    // Shown, it reads back as it is.
    write_file(t.path / "shown.yaml", show(config));
    ApiConfig again;
    read(load_config(t.path / "shown.yaml"), again);
    CHECK(show(again) == show(config));
    CHECK_FALSE(again.seed);
  }
  CHECK(contains(error_of([&] { read_with({"seed=soon"}); }), "seed: must be a whole number"));
  CHECK(
      contains(error_of([&] { read_with({"temperature=3"}); }), "temperature: must be at most 2"));
  CHECK(contains(error_of([&] { read_with({"max_tokens=0"}); }), "max_tokens: must be at least 1"));
}

TEST_CASE("replies come back from their file as they were", "[judge]") {
  const TemporaryFolder t;
  const fs::path file = t.path / "replies.jsonl";
  std::vector<JudgeReply> replies = {
      read_choice(with_logprobs(one_place("[" + k85 + "]"))),
      read_choice(
          R"({"message": {"content": "85"}, "finish_reason": "length", "logprobs": {"content": [)"
          R"({"token": "8", "logprob": -0.25, "top_logprobs": [{"token": "8", )"
          R"("logprob": -0.25}]}, {"token": "5", "logprob": null, "top_logprobs": []}]}})"),
      {.text = "I can't.", .end = ReplyEnd::refused, .without = {"seed", "temperature"}},
      {.end = ReplyEnd::filtered},
      {.text = "85"}};
  Replies kept(file);
  for (size_t i = 0; i < replies.size(); ++i) kept.add(std::to_string(i), "m", replies[i]);
  const Replies again(file);
  for (size_t i = 0; i < replies.size(); ++i) {
    const JudgeReply* found = again.find(std::to_string(i));
    REQUIRE(found);
    const JudgeReply& reply = replies[i];
    CHECK(found->cached);
    CHECK(found->text == reply.text);
    CHECK(found->end == reply.end);
    CHECK(found->without == reply.without);
    REQUIRE(found->tokens.size() == reply.tokens.size());
    for (size_t k = 0; k < reply.tokens.size(); ++k) {
      CHECK(found->tokens[k].token == reply.tokens[k].token);
      CHECK(found->tokens[k].logprob == reply.tokens[k].logprob);
      CHECK(found->tokens[k].top == reply.tokens[k].top);
    }
  }
  CHECK(replies[1].tokens.size() == 2);
  // As files were before replies had ends and more than one token.
  write_file(file, R"({"key":"k","model":"m","reply":{"text":"85","top_logprobs":[["85",-0.5]],)"
                   R"("prompt_tokens":1,"completion_tokens":1}})"
                   "\n");
  const Replies older(file);
  REQUIRE(older.find("k"));
  CHECK(older.find("k")->tokens.at(0).top == TokenChances{{"85", -0.5}});
}

}  // namespace
}  // namespace inoculum
