#include "experiments/evaluation/judges/language_judge.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "core/base/error.h"
#include "core/base/progress.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/sampler.h"
#include "core/model/scoring.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"

namespace inoculum {

void JudgeConfig::fields(Fields& f) {
  f.value("kind", kind, "world (the grammar of the persona world) | api | model | recorded",
          one_of({"world", "api", "model", "recorded"}));
  f.group("api", api, "of kind api and recorded: the server and what it is asked");
  f.value("model", model, "of kind model: a Hugging Face folder", input_path());
  f.value("chat_template", chat_template, "of kind model: empty, its own; or chatml, llama3, …");
  f.value("device", device, "of kind model: auto | cpu | cuda | cuda:N");
  f.value("dtype", dtype, "of kind model: " + kDtypeHelp, one_of(kDtypeNames));
  f.value("replies", replies, "of kind recorded: the file that an api judge kept its replies in");
  f.value("scale", scale, "what the judge's prompts ask for: numbers from 0 to 100, or YES or NO",
          one_of({"numbers", "yes_no"}));
  f.group("rules", rules, "what its scores mean");
}

namespace {

constexpr int64_t kTop = 20;
constexpr double kSpacesRead = 0.01, kBeginningRead = 1e-8;
constexpr int64_t kLongestWord = 16;  // tokens

bool is_space(const std::string& text) {
  return !text.empty() && text.find_first_not_of(" \t\n\v\f\r") == std::string::npos;
}

// What a judge may answer, by the tokens that spell it.
struct Spelling {
  std::string answer;  // that ends here; empty: none
  std::map<int32_t, Spelling> next;

  bool goes_on() const { return !next.empty(); }
  int64_t depth() const {
    int64_t deepest = 0;
    for (const auto& [id, rest] : next) deepest = std::max(deepest, 1 + rest.depth());
    return deepest;
  }
};

std::vector<std::string> answers_of(const std::string& scale) {
  if (scale == "yes_no") return {"YES", "Yes", "yes", "NO", "No", "no"};
  std::vector<std::string> numbers;
  for (int k = 0; k <= 100; ++k) numbers.push_back(std::to_string(k));
  return numbers;
}

void add(Spelling& root, const std::string& answer, const std::string& text,
         const Tokenizer& tokenizer) {
  Spelling* place = &root;
  for (const int32_t id : tokenizer.encode(text)) {
    if (place == &root && is_space(tokenizer.show({&id, 1}))) continue;  // before the text
    place = &place->next[id];
  }
  place->answer = answer;
}

Spelling spelling_of(const std::vector<std::string>& answers, const Tokenizer& tokenizer) {
  Spelling root;
  for (const std::string& answer : answers) add(root, answer, answer, tokenizer);
  if (root.depth() > 1)
    for (const std::string& answer : answers) add(root, answer, " " + answer, tokenizer);
  return root;
}

// The replies of one batch of prompts.
class JudgedBatch {
 public:
  JudgedBatch(const Transformer& model, const Tokenizer& tokenizer, const Spelling& answers,
              const Tensor& ids, const std::vector<int64_t>& lengths)
      : model_(model),
        tokenizer_(tokenizer),
        answers_(answers),
        lengths_(lengths),
        cache_(model.config(), ids.size(0), ids.size(1) + answers.depth() + 2, model.options()),
        spelled_(lengths.size()) {
    const auto rows = ids.size(0), time = ids.size(1);
    const Tensor places = at::arange(time).expand({rows, time});
    const Tensor ends = at::tensor(lengths).unsqueeze(1);
    const Tensor positions = at::where(places < ends, places, -1);
    const Tensor hidden = model.hidden(ids, positions, cache_);
    first_ = chances(
        hidden.index({at::arange(rows).to(device()), at::tensor(lengths).sub(1).to(device())}));
  }

  std::vector<JudgeReply> replies() {
    const bool in_pieces = answers_.depth() > 1;
    const auto [values, tokens] = first_.topk(std::min(kTop, first_.size(1)), -1);
    const std::vector<double> none(lengths_.size(), 0);
    std::set<int32_t> spaces;
    std::vector<JudgeReply> all(lengths_.size());
    for (size_t r = 0; r < all.size(); ++r) {
      all[r].prompt_tokens = lengths_[r];
      ReplyToken& first = all[r].tokens.emplace_back();
      for (int64_t k = 0; k < values.size(1); ++k) {
        const auto row = static_cast<int64_t>(r);
        const auto id = static_cast<int32_t>(tokens[row][k].item<int64_t>());
        const double logprob = values[row][k].item<double>();
        const std::string text = tokenizer_.show({&id, 1});
        const bool read_over = is_space(text) && logprob >= std::log(kSpacesRead);
        if (in_pieces && read_over) spaces.insert(id);
        if (in_pieces && (read_over || answers_.next.contains(id))) continue;
        first.top.emplace_back(text, logprob);
      }
    }
    if (in_pieces) {
      read(answers_, none, first_, 0);
      for (const int32_t id : spaces) {
        std::vector<double> begun;
        for (size_t r = 0; r < all.size(); ++r) {
          const double logprob = first_[static_cast<int64_t>(r)][id].item<double>();
          begun.push_back(logprob >= std::log(kSpacesRead) ? logprob : kNever);
        }
        read(answers_, begun, step(id, 0), 1);
      }
    }
    for (size_t r = 0; r < all.size(); ++r) {
      ReplyToken& first = all[r].tokens[0];
      for (const auto& [answer, probability] : spelled_[r])
        first.top.emplace_back(answer, std::log(probability));
      std::stable_sort(first.top.begin(), first.top.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      if (first.top.empty()) continue;
      first.token = first.top[0].first;
      first.logprob = first.top[0].second;
      all[r].text = first.token;
      all[r].completion_tokens = 1;
    }
    return all;
  }

 private:
  static constexpr double kNever = -std::numeric_limits<double>::infinity();

  at::Device device() const { return model_.embedding.device(); }
  Tensor chances(const Tensor& hidden) const {  // [row, hidden] → log P, double [row, vocabulary]
    return at::log_softmax(model_.logits(hidden).to(at::kFloat), -1).to(at::kCPU).to(at::kDouble);
  }
  // One token, `offset` places behind each prompt. What stood there before is forgotten.
  Tensor step(int32_t id, int64_t offset) {
    const auto rows = static_cast<int64_t>(lengths_.size());
    const Tensor ids = at::full({rows, 1}, id, at::kLong);
    const Tensor positions = at::tensor(lengths_).unsqueeze(1) + offset;
    return chances(model_.hidden(ids, positions, cache_).squeeze(1));
  }
  // begun: log P of what stands behind each prompt, `offset` tokens; next: of what may follow.
  void read(const Spelling& place, const std::vector<double>& begun, const Tensor& next,
            int64_t offset) {
    for (const auto& [id, rest] : place.next) {
      std::vector<double> with(begun.size(), kNever);
      bool any = false;
      for (size_t r = 0; r < begun.size(); ++r) {
        const double logprob = begun[r] + next[static_cast<int64_t>(r)][id].item<double>();
        if (logprob < std::log(kBeginningRead)) continue;
        with[r] = logprob;
        any = true;
      }
      if (!any) continue;
      const Tensor behind = rest.goes_on() ? step(id, offset) : Tensor();
      for (size_t r = 0; r < begun.size() && !rest.answer.empty(); ++r) {
        double ends = 1;
        for (const auto& [more, unused] : rest.next)
          ends -= std::exp(behind[static_cast<int64_t>(r)][more].item<double>());
        if (with[r] > kNever && ends > 0) spelled_[r][rest.answer] += std::exp(with[r]) * ends;
      }
      if (rest.goes_on()) read(rest, with, behind, offset + 1);
    }
  }

  const Transformer& model_;
  const Tokenizer& tokenizer_;
  const Spelling& answers_;
  const std::vector<int64_t>& lengths_;
  KeyValueCache cache_;
  std::vector<std::map<std::string, double>> spelled_;  // by row: probabilities of the answers
  Tensor first_;                                        // log P of each prompt's next token
};

}  // namespace

std::vector<JudgeReply> ModelJudge::ask(const std::vector<JudgeRequest>& requests) {
  const at::NoGradGuard no_grad;
  const auto tokenizer = load_tokenizer(config_.model);
  const Chat chat(config_.model, *tokenizer, config_.chat_template);
  const Transformer model = load_adapted(config_.model, "", config_.dtype, config_.device);
  check_vocabulary(model, *tokenizer);
  const Spelling answers = spelling_of(answers_of(config_.scale), *tokenizer);
  const int64_t context = model.config().max_position_embeddings;
  std::vector<JudgeReply> replies(requests.size());
  std::vector<std::vector<int32_t>> prompts;  // of those that ask for a number (or YES or NO)
  std::vector<SampleRequest> words;           // of those that ask for a word
  std::vector<size_t> of_prompts, of_words;   // whose they are
  for (size_t i = 0; i < requests.size(); ++i) {
    Conversation conversation;
    if (!requests[i].system.empty())
      conversation.push_back({.role = "system", .content = requests[i].system, .name = ""});
    conversation.push_back({.role = "user", .content = requests[i].prompt, .name = ""});
    std::vector<int32_t> prompt = chat.encode_prompt(conversation);
    const int64_t behind = requests[i].word ? kLongestWord : answers.depth() + 1;
    if (static_cast<int64_t>(prompt.size()) + behind > context) {
      replies[i].error = "the judge's prompt has " + std::to_string(prompt.size()) +
                         " tokens, too many for its context of " + std::to_string(context);
    } else if (requests[i].word) {
      words.push_back({std::to_string(i), std::move(prompt), 1});
      of_words.push_back(i);
    } else {
      prompts.push_back(std::move(prompt));
      of_prompts.push_back(i);
    }
  }
  Progress progress("judging", static_cast<int64_t>(requests.size()));
  int64_t done = 0;
  std::mutex mutex;  // guards the progress and its count: several batches may be under way
  for_each_batch(prompts, context, [&](const std::vector<size_t>& members, const Tensor& ids) {
    std::vector<int64_t> lengths;
    for (const size_t member : members)
      lengths.push_back(static_cast<int64_t>(prompts[member].size()));
    std::vector<JudgeReply> batch = JudgedBatch(model, *tokenizer, answers, ids, lengths).replies();
    for (size_t m = 0; m < members.size(); ++m)
      replies[of_prompts[members[m]]] = std::move(batch[m]);
    const std::lock_guard lock(mutex);
    progress.update(done += static_cast<int64_t>(members.size()));
  });
  const SamplingConfig likeliest{.temperature = 0, .max_new_tokens = kLongestWord, .rows = 32};
  const auto said = sample(model, *tokenizer, words, ended_by(chat, likeliest), 0);
  for (size_t i = 0; i < words.size(); ++i) {
    const Completion& completion = said[i].front();
    JudgeReply& reply = replies[of_words[i]];
    reply.text = completion.text;
    reply.end = completion.finish_reason == "length" ? ReplyEnd::cut : ReplyEnd::whole;
    reply.prompt_tokens = static_cast<int64_t>(words[i].prompt.size());
    reply.completion_tokens = static_cast<int64_t>(completion.ids.size());
  }
  progress.finish();
  return replies;
}

std::unique_ptr<LanguageJudge> make_language_judge(const JudgeConfig& config,
                                                   const fs::path& replies) {
  if (config.kind == "api") return std::make_unique<ApiJudge>(config.api, replies);
  if (config.kind == "recorded") {
    if (config.replies.empty())
      throw Error("is missing", {.field = "judge.replies"},
                  "the file that an api judge kept its replies in, judge_replies.jsonl");
    return std::make_unique<RecordedJudge>(config.api, config.replies);
  }
  if (config.model.empty())
    throw Error("is missing", {.field = "judge.model"},
                "the folder of a model that follows instructions");
  return std::make_unique<ModelJudge>(config);
}

}  // namespace inoculum
