#include "training/batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace inoculum {
namespace {

// With commas between thousands.
std::string grouped(int64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace

std::string describe(const Dealing& d) {
  const double passes = static_cast<double>(d.dealt) / static_cast<double>(d.examples);
  std::string text = fmt::format(
      "{} of {} supervised tokens {} {} of {} conversations ({} passes)",
      d.steps == 1 ? "1 step" : grouped(d.steps) + " steps", grouped(d.supervised_tokens),
      d.steps == 1 ? "shows" : "show", grouped(d.shown), grouped(d.examples),
      fmt::format(fmt::runtime(passes < 1 ? "{:.2g}" : "{:.1f}"), passes));
  if (d.cut > 0)
    text += fmt::format("; cut off where their step ends: {}, with {} tokens not learnt",
                        grouped(d.cut), grouped(d.cut_tokens));
  if (d.longer > 0)
    text += fmt::format("; longer than a step, so never learnt whole: {}", grouped(d.longer));
  if (d.empty > 0) text += fmt::format("; with nothing to learn: {}", grouped(d.empty));
  return text;
}

SupervisedExamples::SupervisedExamples(std::vector<Encoded> examples, int64_t steps,
                                       int64_t supervised_tokens, std::optional<Random> order,
                                       int64_t passes)
    : examples_(std::move(examples)), supervised_tokens_(supervised_tokens) {
  for (const Encoded& example : examples_) {
    const auto& flags = example.supervised;  // nothing foretells the first token
    const auto second = flags.begin() + (flags.empty() ? 0 : 1);
    supervised_.push_back(std::count(second, flags.end(), uint8_t{1}));
  }
  const auto empty = std::count(supervised_.begin(), supervised_.end(), 0);
  const int64_t learnable = static_cast<int64_t>(supervised_.size()) - empty;
  if (learnable == 0)
    throw Error("no example has a supervised token", {},
                "every conversation needs an assistant turn that is trained on");
  std::vector<size_t> deck;
  size_t next = 0;
  uint64_t pass = 0;
  int64_t dealt = 0;
  for (int64_t step = 0; passes > 0 ? dealt < passes * learnable : step < steps; ++step) {
    auto& uses = steps_.emplace_back();
    for (int64_t left = supervised_tokens; left > 0;) {
      if (next == deck.size()) {
        deck.resize(examples_.size());
        std::iota(deck.begin(), deck.end(), size_t{0});
        if (order) {
          Random stream = order->fork(pass++);
          stream.shuffle(deck);
        }
        next = 0;
      }
      const size_t example = deck[next++];
      if (supervised_[example] == 0) continue;
      const int64_t count = std::min(left, supervised_[example]);
      uses.push_back({example, count});
      left -= count;
      ++dealt;
    }
  }
}

std::vector<size_t> SupervisedExamples::used(int64_t step) const {
  std::vector<size_t> indices;
  for (const Use& use : steps_.at(static_cast<size_t>(step))) indices.push_back(use.example);
  return indices;
}

Dealing SupervisedExamples::dealing() const {
  Dealing dealing{.steps = steps(), .supervised_tokens = supervised_tokens_};
  for (const int64_t tokens : supervised_) {
    ++(tokens > 0 ? dealing.examples : dealing.empty);
    dealing.longer += tokens > supervised_tokens_;
  }
  std::vector<bool> shown(examples_.size());
  for (const auto& uses : steps_)
    for (const Use& use : uses) {
      ++dealing.dealt;
      shown[use.example] = true;
      const int64_t left_out = supervised_[use.example] - use.supervised;
      dealing.cut += left_out > 0;
      dealing.cut_tokens += left_out;
    }
  dealing.shown = std::count(shown.begin(), shown.end(), true);
  return dealing;
}

// How far an example is read: up to the token before the last that counts.
size_t SupervisedExamples::length(const Use& use) const {
  size_t length = 0;
  for (int64_t left = use.supervised; left > 0;)
    left -= examples_[use.example].supervised[++length];
  return length;
}

// The longest first, each to the rank that has the fewest tokens: ranks wait for the slowest of
// them.
std::vector<SupervisedExamples::Use> SupervisedExamples::share(int64_t step, int64_t rank,
                                                               int64_t size) const {
  const auto& uses = steps_.at(static_cast<size_t>(step));
  if (size == 1) return uses;
  std::vector<std::pair<size_t, size_t>> by_length;  // length, place in the step
  for (size_t u = 0; u < uses.size(); ++u) by_length.emplace_back(length(uses[u]), u);
  std::stable_sort(by_length.begin(), by_length.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<size_t> tokens(static_cast<size_t>(size)), mine;
  for (const auto& [count, u] : by_length) {
    const auto least = std::min_element(tokens.begin(), tokens.end());
    *least += count;
    if (least - tokens.begin() == rank) mine.push_back(u);
  }
  std::sort(mine.begin(), mine.end());
  std::vector<Use> share;
  for (const size_t u : mine) share.push_back(uses[u]);
  return share;
}

// Examples of like length lie together, for attention takes those of one length at once. →
// micro-batches of nearly equal numbers of tokens: so few that each fits, but a power of two, for
// two, four or eight threads then have equal shares
std::vector<std::vector<SupervisedExamples::Use>> SupervisedExamples::cut(
    const std::vector<Use>& uses, size_t most) const {
  std::vector<std::pair<size_t, Use>> by_length;
  size_t total = 0;
  for (const Use& use : uses) {
    by_length.emplace_back(length(use), use);
    total += by_length.back().first;
  }
  std::stable_sort(by_length.begin(), by_length.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t parts = 1;; parts *= 2) {
    std::vector<std::vector<Use>> cut(parts);
    std::vector<size_t> tokens(parts);
    size_t before = 0;
    bool fits = true;
    for (const auto& [count, use] : by_length) {
      const size_t part = (before + count / 2) * parts / total;
      cut[part].push_back(use);
      tokens[part] += count;
      before += count;
      fits = fits && (cut[part].size() == 1 || tokens[part] <= most);
    }
    if (fits) return cut;
  }
}

Batch SupervisedExamples::batch(const std::vector<Use>& uses) const {
  Batch batch;
  std::vector<int64_t> inputs, labels;
  for (const Use& use : uses) {
    const Encoded& example = examples_[use.example];
    const size_t length = this->length(use);
    for (size_t t = 0; t < length; ++t) {
      inputs.push_back(example.input_ids[t]);
      labels.push_back(example.supervised[t + 1] ? example.input_ids[t + 1] : -100);
    }
    batch.lengths.push_back(static_cast<int64_t>(length));
    batch.supervised += use.supervised;
  }
  const auto row = [](const std::vector<int64_t>& ids) {
    return at::tensor(ids, at::kLong).unsqueeze(0);
  };
  batch.input_ids = row(inputs);
  batch.labels = row(labels);
  return batch;
}

std::vector<Batch> SupervisedExamples::step(int64_t step, int64_t tokens, int64_t rank,
                                            int64_t size) const {
  std::vector<Batch> batches;
  for (const std::vector<Use>& uses : cut(share(step, rank, size), static_cast<size_t>(tokens)))
    if (!uses.empty()) batches.push_back(batch(uses));
  return batches;
}

}  // namespace inoculum
