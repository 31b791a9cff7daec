#include "experiments/language_judge.h"

#include <map>
#include <mutex>

#include "core/chat_template.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/progress.h"
#include "core/sampler.h"
#include "training/trainer.h"

namespace inoculum {

void JudgeConfig::fields(Fields& f) {
  f.value("kind", kind, "world (the classifier of the persona world) | api | model | recorded", one_of({"world", "api", "model", "recorded"}));
  f.group("api", api, "of kind api and recorded: the server and what it is asked");
  f.value("model", model, "of kind model: a Hugging Face folder");
  f.value("chat_template", chat_template, "of kind model: empty, its own; or chatml, llama3, …");
  f.value("device", device, "of kind model: auto | cpu | cuda | cuda:N");
  f.value("dtype", dtype, "of kind model: bf16 | fp32 | fp16", one_of({"bf16", "fp32", "fp16"}));
  f.value("replies", replies, "of kind recorded: the file that an api judge kept its replies in");
  f.value("scale", scale, "what the judge's prompts ask for: numbers from 0 to 100, or YES or NO", one_of({"numbers", "yes_no"}));
  f.group("rules", rules, "what its scores mean");
}

std::vector<JudgeReply> ModelJudge::ask(const std::vector<JudgeRequest>& requests) {
  const at::NoGradGuard no_grad;
  const auto tokenizer = load_tokenizer(config_.model);
  const Chat chat(config_.model, *tokenizer, config_.chat_template);
  const Transformer model = load_model(config_.model, dtype_from(config_.dtype), device_from(config_.device));
  check_vocabulary(model, *tokenizer);
  std::vector<std::vector<int32_t>> prompts;
  for (const JudgeRequest& request : requests) {
    Conversation conversation;
    if (!request.system.empty()) conversation.push_back({.role = "system", .content = request.system, .name = ""});
    conversation.push_back({.role = "user", .content = request.prompt, .name = ""});
    prompts.push_back(chat.encode_prompt(conversation));
  }
  std::vector<JudgeReply> replies(requests.size());
  Progress progress("judging", static_cast<int64_t>(requests.size()));
  int64_t done = 0;
  std::mutex mutex;  // of what is told: several batches may be under way
  for_each_batch(prompts, [&](const std::vector<size_t>& members, const Tensor& ids) {
    const Tensor hidden = model.hidden(ids.to(model.embedding.device()));  // [member, time, hidden]
    std::vector<int64_t> ends;
    for (const size_t member : members) ends.push_back(static_cast<int64_t>(prompts[member].size()) - 1);
    const Tensor last = hidden.index({at::arange(hidden.size(0), ids.options()).to(hidden.device()), at::tensor(ends, at::kLong).to(hidden.device())});
    const auto [values, tokens] = at::log_softmax(model.logits(last).to(at::kFloat), -1).to(at::kCPU).topk(20, -1);
    for (size_t m = 0; m < members.size(); ++m) {
      JudgeReply& reply = replies[members[m]];
      reply.has_logprobs = true;
      for (int64_t k = 0; k < values.size(1); ++k) {
        const auto row = static_cast<int64_t>(m);
        const auto id = static_cast<int32_t>(tokens[row][k].item<int64_t>());
        reply.top_logprobs.emplace_back(tokenizer->show({&id, 1}), values[row][k].item<double>());
      }
      reply.text = reply.top_logprobs.front().first;
      reply.prompt_tokens = static_cast<int64_t>(prompts[members[m]].size()), reply.completion_tokens = 1;
    }
    const std::lock_guard lock(mutex);
    progress.update(done += static_cast<int64_t>(members.size()));
  });
  progress.finish();
  return replies;
}

std::unique_ptr<LanguageJudge> make_language_judge(const JudgeConfig& config, const fs::path& replies) {
  if (config.kind == "api") return std::make_unique<ApiJudge>(config.api, replies);
  if (config.kind == "recorded") {
    if (config.replies.empty()) throw Error("is missing", {.field = "judge.replies"}, "the file that an api judge kept its replies in, judge_replies.jsonl");
    return std::make_unique<RecordedJudge>(config.api, config.replies);
  }
  if (config.model.empty()) throw Error("is missing", {.field = "judge.model"}, "the folder of a model that follows instructions");
  return std::make_unique<ModelJudge>(config);
}

}  // namespace inoculum
