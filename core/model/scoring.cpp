#include "core/model/scoring.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "core/base/error.h"
#include "core/model/device.h"
#include "core/model/kernels.h"
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

// Several groups at once: their prompts, a row each, into a cache; then every text's own tokens
// behind a copy of its prompt's keys and values.
void score_behind_prompts(const Transformer& model, const std::vector<Continuation>& texts,
                          std::span<const Group> groups, Scores& scores) {
  std::vector<size_t> members;
  std::vector<int64_t> prompt;  // of each member: its group's place
  int64_t longest_prompt = 0, longest = 1;
  for (size_t g = 0; g < groups.size(); ++g)
    for (const size_t member : groups[g]) {
      members.push_back(member);
      prompt.push_back(static_cast<int64_t>(g));
      const auto size = static_cast<int64_t>(texts[member].ids.size()),
                 first = static_cast<int64_t>(texts[member].first);
      longest_prompt = std::max(longest_prompt, first);
      longest = std::max(longest, size - first);
    }
  const auto prompts = static_cast<int64_t>(groups.size()),
             rows = static_cast<int64_t>(members.size());
  const int64_t time = round_up(std::max<int64_t>(1, longest - 1), kLengthMultiple);
  longest_prompt = round_up(longest_prompt, kLengthMultiple);
  KeyValueCache of_prompts(model.config(), prompts, longest_prompt + 1, model.options());
  PaddedTexts padded_prompts(prompts, longest_prompt);
  std::vector<int64_t> ends;  // of the prompts
  for (int64_t g = 0; g < prompts; ++g) {
    const Continuation& text = texts[groups[static_cast<size_t>(g)][0]];
    padded_prompts.put(g, std::span(text.ids).first(text.first));
    ends.push_back(g * longest_prompt + static_cast<int64_t>(text.first) - 1);
  }
  const Tensor at_prompts =
      model.hidden(padded_prompts.ids, padded_prompts.positions, of_prompts, at::tensor(ends))
          .squeeze(0);

  KeyValueCache cache(model.config(), rows, longest_prompt + time + 1, model.options());
  std::vector<int64_t> all(members.size());
  std::iota(all.begin(), all.end(), int64_t{0});
  cache.copy(of_prompts, prompt, all, longest_prompt);
  PaddedTexts padded(rows, time);
  for (int64_t r = 0; r < rows; ++r) {
    const Continuation& text = texts[members[static_cast<size_t>(r)]];
    // Nothing follows the last token.
    const auto own = std::span(text.ids).subspan(text.first, text.ids.size() - text.first - 1);
    padded.put(r, own, static_cast<int64_t>(text.first));
  }
  // A text's first token follows its prompt, the others follow one another.
  Followed followed;  // places: of the prompts' ends, and behind them those of `kept`
  std::vector<int64_t> kept;
  for (size_t r = 0; r < members.size(); ++r) {
    const Continuation& text = texts[members[r]];
    followed.add(prompt[r], text.ids[text.first]);
    for (size_t t = text.first + 1; t < text.ids.size(); ++t) {
      followed.add(prompts + static_cast<int64_t>(kept.size()), text.ids[t]);
      kept.push_back(static_cast<int64_t>(r) * time + static_cast<int64_t>(t - text.first) - 1);
    }
  }
  Tensor hidden = at_prompts;
  if (!kept.empty())
    hidden = at::cat(
        {hidden, model.hidden(padded.ids, padded.positions, cache, at::tensor(kept)).squeeze(0)});
  const Tensor index = to_device(at::tensor(followed.places), hidden.device());
  const Tensor losses = followed.losses(model, hidden.index_select(0, index));
  const double* loss = losses.const_data_ptr<double>();
  for (const size_t member : members)
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
  constexpr size_t kRows = 64;    // texts of a batch, but for a group that has more
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
  for (size_t g = 0, rows = 0; g < groups.size(); ++g) {
    if (batches.empty() || rows + groups[g].size() > kRows) batches.emplace_back(g, g), rows = 0;
    batches.back().second = g + 1;
    rows += groups[g].size();
  }
  parallel(static_cast<int64_t>(batches.size()), [&](int64_t batch) {
    const auto [begin, end] = batches[static_cast<size_t>(batch)];
    score_behind_prompts(model, texts, std::span(groups).subspan(begin, end - begin), scores);
  });
  score_apart(model, texts, apart, scores);
  return scores;
}

}  // namespace inoculum
