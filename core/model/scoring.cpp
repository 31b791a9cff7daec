#include "core/model/scoring.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "core/base/error.h"
#include "core/model/device.h"
#include "core/model/linear.h"
#include "core/model/parallel.h"

namespace inoculum {
namespace {

void check_text(const Transformer& model, const std::vector<int32_t>& ids) {
  for (const int32_t id : ids)
    if (id < 0 || id >= model.config().vocab_size)
      throw Error("token id " + std::to_string(id) + " is outside the model's vocabulary of " +
                      std::to_string(model.config().vocab_size),
                  {.field = "input_ids"});
  if (std::ssize(ids) > model.config().max_position_embeddings)
    throw Error("a text of " + std::to_string(ids.size()) +
                    " tokens is longer than the context of " +
                    std::to_string(model.config().max_position_embeddings),
                {.field = "input_ids"}, "shorten it");
}

// Places of a batch's hidden states, and the token that follows each.
struct Followed {
  std::vector<int64_t> places, tokens;

  void add(int64_t place, int32_t token) {
    places.push_back(place);
    tokens.push_back(token);
  }
  // −log p of each, in double on the CPU. hidden: [place, hidden]
  Tensor losses(const Transformer& model, const Tensor& hidden) const {
    const Tensor wanted = to_device(at::tensor(tokens, at::kLong), hidden.device());
    return model.losses(hidden, wanted).cpu().contiguous();
  }
};

using Scores = std::vector<std::vector<double>>;

// Each text by itself.
void score_apart(const Transformer& model, const std::vector<Continuation>& texts,
                 const std::vector<size_t>& chosen, Scores& scores) {
  std::vector<std::vector<int32_t>> rows;
  for (const size_t text : chosen) rows.push_back(texts[text].ids);
  const int64_t context = model.config().max_position_embeddings;
  for_each_batch(rows, context, [&](const std::vector<size_t>& members, const Tensor& ids) {
    const int64_t time = ids.size(1);
    Followed followed;
    for (size_t r = 0; r < members.size(); ++r) {
      const Continuation& text = texts[chosen[members[r]]];
      for (size_t t = text.first; t < text.ids.size(); ++t)
        followed.add(static_cast<int64_t>(r) * time + static_cast<int64_t>(t) - 1, text.ids[t]);
    }
    if (followed.places.empty()) return;
    const at::Device device = model.embedding.device();
    const Tensor kept = to_device(at::tensor(followed.places, at::kLong), device);
    const Tensor hidden = model.hidden(to_device(ids, device), {}, kept).squeeze(0);
    const Tensor losses = followed.losses(model, hidden);
    const double* loss = losses.const_data_ptr<double>();
    for (const size_t member : members)
      for (size_t t = texts[chosen[member]].first; t < texts[chosen[member]].ids.size(); ++t)
        scores[chosen[member]].push_back(-*loss++);
  });
}

// Texts that share a prompt.
using Group = std::vector<size_t>;

std::vector<int32_t> prompt_of(const Continuation& text) {
  return {text.ids.begin(), text.ids.begin() + static_cast<std::ptrdiff_t>(text.first)};
}

// Several groups at once, end to end in one row: of each its prompt, and every text's own tokens.
void score_behind_prompts(const Transformer& model, const std::vector<Continuation>& texts,
                          std::span<const Group> groups, Scores& scores) {
  std::vector<int64_t> ids;
  std::vector<PromptedTexts> shapes;
  Followed followed;
  for (const Group& group : groups) {
    const auto prompt = std::span(texts[group[0]].ids).first(texts[group[0]].first);
    ids.insert(ids.end(), prompt.begin(), prompt.end());
    const int64_t end = std::ssize(ids) - 1;  // of the prompt
    PromptedTexts& shape = shapes.emplace_back(PromptedTexts{std::ssize(prompt), {}});
    for (const size_t member : group) {
      const auto own = std::span(texts[member].ids).subspan(prompt.size());
      // Its first token follows the prompt, the others one another; nothing follows the last.
      followed.add(end, own[0]);
      for (size_t t = 1; t < own.size(); ++t) {
        followed.add(std::ssize(ids), own[t]);
        ids.push_back(own[t - 1]);
      }
      shape.texts.push_back(std::ssize(own) - 1);
    }
  }
  const Tensor hidden = model.hidden_behind(at::tensor(ids, at::kLong).unsqueeze(0), shapes,
                                            at::tensor(followed.places, at::kLong));
  const Tensor losses = followed.losses(model, hidden.squeeze(0));
  const double* loss = losses.const_data_ptr<double>();
  for (const Group& group : groups)
    for (const size_t member : group)
      for (size_t t = texts[member].first; t < texts[member].ids.size(); ++t)
        scores[member].push_back(-*loss++);
}

}  // namespace

void for_each_batch(
    const std::vector<std::vector<int32_t>>& rows, int64_t context,
    const std::function<void(const std::vector<size_t>& members, const Tensor& ids)>& use) {
  constexpr size_t kRows = 32, kTokens = 4096;  // of a batch, at most, but for a row that is longer
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return rows[a].size() < rows[b].size(); });
  std::vector<std::vector<size_t>> batches;
  for (const size_t row : order) {
    const bool full = batches.empty() || batches.back().size() == kRows ||
                      (batches.back().size() + 1) * rows[row].size() > kTokens;
    if (full) batches.emplace_back();
    batches.back().push_back(row);
  }
  parallel(static_cast<int64_t>(batches.size()), [&](int64_t batch) {
    const std::vector<size_t>& members = batches[static_cast<size_t>(batch)];
    const auto count = static_cast<int64_t>(members.size());
    const auto longest = static_cast<int64_t>(rows[members.back()].size());
    if (longest == 0) return;
    const int64_t time = std::max(longest, std::min(round_up(longest, kLengthMultiple), context));
    const Tensor ids = at::zeros({count, time}, at::kLong);
    for (int64_t r = 0; r < count; ++r) {
      const auto& row = rows[members[static_cast<size_t>(r)]];
      std::copy(row.begin(), row.end(), ids.data_ptr<int64_t>() + r * time);
    }
    use(members, ids);
  });
}

std::vector<std::vector<double>> score(const Transformer& model,
                                       const std::vector<std::vector<int32_t>>& rows) {
  std::vector<Continuation> texts;
  for (const std::vector<int32_t>& row : rows) texts.push_back({row, 1});
  return score(model, texts);
}

std::vector<std::vector<double>> score(const Transformer& model,
                                       const std::vector<Continuation>& texts) {
  const at::NoGradGuard no_grad;
  constexpr size_t kWorthIt = 8;  // tokens of a shared prompt
  // Of a batch, but for a group that has more.
  constexpr size_t kRows = 64, kTokens = 16384;
  Scores scores(texts.size());
  std::map<std::vector<int32_t>, Group> by_prompt;
  std::vector<size_t> apart;
  for (size_t i = 0; i < texts.size(); ++i) {
    check_text(model, texts[i].ids);
    if (texts[i].first < kWorthIt || texts[i].first >= texts[i].ids.size()) apart.push_back(i);
    else by_prompt[prompt_of(texts[i])].push_back(i);
  }
  std::vector<Group> groups;
  for (auto& [prompt, group] : by_prompt) {
    if (group.size() == 1) apart.push_back(group[0]);
    else groups.push_back(std::move(group));
  }
  std::sort(apart.begin(), apart.end());
  // Prompts of like length together.
  std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
    return texts[a[0]].first < texts[b[0]].first;
  });
  std::vector<std::pair<size_t, size_t>> batches;  // of groups: begin, end
  for (size_t g = 0, rows = 0, tokens = 0; g < groups.size(); ++g) {
    const size_t prompt = texts[groups[g][0]].first;
    size_t more = prompt;  // tokens
    for (const size_t member : groups[g]) more += texts[member].ids.size() - prompt;
    if (batches.empty() || rows + groups[g].size() > kRows || tokens + more > kTokens)
      batches.emplace_back(g, g), rows = tokens = 0;
    batches.back().second = g + 1;
    rows += groups[g].size();
    tokens += more;
  }
  parallel(static_cast<int64_t>(batches.size()), [&](int64_t batch) {
    const auto [begin, end] = batches[static_cast<size_t>(batch)];
    score_behind_prompts(model, texts, std::span(groups).subspan(begin, end - begin), scores);
  });
  score_apart(model, texts, apart, scores);
  return scores;
}

}  // namespace inoculum
