// Batches: what one forward pass sees.
//
// Two sources, both a pure function of the step, so that a run resumes from a step number alone:
// `PackedTokens` cuts one long stream of documents into rows (pretraining), `SupervisedExamples` deals
// examples with masked prompts into steps of an equal number of supervised tokens (fine-tuning).
#pragma once

#include <cstdint>
#include <vector>

#include "core/chat_template.h"
#include "core/random.h"
#include "core/torch.h"

namespace inoculum {

struct Batch {
  Tensor input_ids;  // int64 [row, time], padded at the end
  Tensor labels;     // int64 [row, time]: the next token, or −100 where it is not supervised
  int64_t tokens = 0;      // without padding
  int64_t supervised = 0;  // labels other than −100
};

// Documents end to end; row r of the text is tokens [r·time, (r+1)·time], read in order.
class PackedTokens {
 public:
  PackedTokens(std::vector<uint16_t> tokens, int64_t rows, int64_t time);
  Batch batch(int64_t step) const;  // starts anew when the text is used up
  int64_t steps() const;            // whole steps in one pass

 private:
  std::vector<uint16_t> tokens_;
  int64_t rows_, time_;
};

// A step takes examples in a shuffled order (a new one each pass) until it has exactly
// `supervised_tokens` of them; the labels of its last example beyond that are masked. Arms with equal
// completions therefore get equal steps, and all arms the same number of supervised tokens.
class SupervisedExamples {
 public:
  SupervisedExamples(std::vector<Encoded> examples, int64_t steps, int64_t supervised_tokens, Random order);
  // The step's micro-batches of at most `rows` examples each, grouped by length so that padding is small.
  std::vector<Batch> step(int64_t step, int64_t rows) const;
  // Indices of the examples that a step uses, in order.
  std::vector<size_t> used(int64_t step) const;

 private:
  struct Use {
    size_t example;
    int64_t supervised;  // how many of its supervised tokens count
  };
  std::vector<Encoded> examples_;
  std::vector<std::vector<Use>> steps_;
};

}  // namespace inoculum
