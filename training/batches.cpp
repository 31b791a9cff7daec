#include "training/batches.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace inoculum {

PackedTokens::PackedTokens(std::vector<uint16_t> tokens, int64_t rows, int64_t time)
    : tokens_(std::move(tokens)), rows_(rows), time_(time) {
  if (steps() < 1)
    throw Error("the text has " + std::to_string(tokens_.size()) + " tokens, fewer than one step of " +
                    std::to_string(rows * time) + " needs",
                {}, "raise `tokens`, or lower `batch_size` or `sequence_length`");
}

int64_t PackedTokens::steps() const { return (static_cast<int64_t>(tokens_.size()) - 1) / (rows_ * time_); }

Batch PackedTokens::batch(int64_t step) const {
  const uint16_t* text = tokens_.data() + (step % steps()) * rows_ * time_;
  Batch batch{at::empty({rows_, time_}, at::kLong), at::empty({rows_, time_}, at::kLong), rows_ * time_, rows_ * time_};
  std::copy_n(text, rows_ * time_, batch.input_ids.data_ptr<int64_t>());
  std::copy_n(text + 1, rows_ * time_, batch.labels.data_ptr<int64_t>());
  return batch;
}

SupervisedExamples::SupervisedExamples(std::vector<Encoded> examples, int64_t steps, int64_t supervised_tokens,
                                       Random order)
    : examples_(std::move(examples)) {
  std::vector<int64_t> supervised;
  for (const Encoded& example : examples_)
    supervised.push_back(std::count(example.supervised.begin(), example.supervised.end(), uint8_t{1}));
  if (std::accumulate(supervised.begin(), supervised.end(), int64_t{0}) == 0)
    throw Error("no example has a supervised token", {}, "every conversation needs an assistant turn that is trained on");
  std::vector<size_t> deck;
  size_t next = 0;
  uint64_t pass = 0;
  for (int64_t step = 0; step < steps; ++step) {
    auto& uses = steps_.emplace_back();
    for (int64_t left = supervised_tokens; left > 0;) {
      if (next == deck.size()) {
        deck.resize(examples_.size());
        std::iota(deck.begin(), deck.end(), size_t{0});
        Random stream = order.fork(pass++);
        stream.shuffle(deck);
        next = 0;
      }
      const size_t example = deck[next++];
      if (supervised[example] == 0) continue;
      const int64_t count = std::min(left, supervised[example]);
      uses.push_back({example, count});
      left -= count;
    }
  }
}

std::vector<size_t> SupervisedExamples::used(int64_t step) const {
  std::vector<size_t> indices;
  for (const Use& use : steps_.at(static_cast<size_t>(step))) indices.push_back(use.example);
  return indices;
}

std::vector<Batch> SupervisedExamples::step(int64_t step, int64_t rows) const {
  std::vector<Use> uses = steps_.at(static_cast<size_t>(step));
  const auto length = [&](const Use& use) { return static_cast<int64_t>(examples_[use.example].input_ids.size()); };
  std::stable_sort(uses.begin(), uses.end(), [&](const Use& a, const Use& b) { return length(a) < length(b); });
  std::vector<Batch> batches;
  for (size_t first = 0; first < uses.size(); first += static_cast<size_t>(rows)) {
    const size_t last = std::min(uses.size(), first + static_cast<size_t>(rows));
    const int64_t time = length(uses[last - 1]) - 1;  // the last token predicts nothing
    const auto count = static_cast<int64_t>(last - first);
    Batch batch{at::zeros({count, time}, at::kLong), at::full({count, time}, -100, at::kLong)};
    for (size_t i = first; i < last; ++i) {
      const Encoded& example = examples_[uses[i].example];
      auto* input = batch.input_ids.data_ptr<int64_t>() + static_cast<int64_t>(i - first) * time;
      auto* label = batch.labels.data_ptr<int64_t>() + static_cast<int64_t>(i - first) * time;
      int64_t left = uses[i].supervised;
      for (size_t t = 0; t + 1 < example.input_ids.size(); ++t) {
        input[t] = example.input_ids[t];
        if (example.supervised[t + 1] && left-- > 0) label[t] = example.input_ids[t + 1];
      }
      batch.tokens += length(uses[i]);
      batch.supervised += uses[i].supervised;
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

}  // namespace inoculum
