// Batches: what one forward pass sees.
//
// `SupervisedExamples` deals examples into steps of an equal number of supervised tokens. They lie
// end to end, without padding, and each sees itself alone; masked prompts make it fine-tuning,
// whole documents pretraining. A batch is a pure function of the step, so that a run resumes from a
// step number alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/model/torch.h"
#include "core/text/chat_template.h"

namespace inoculum {

inline constexpr const char* kBatchTokensHelp =
    "most tokens in a micro-batch: lower it where memory is short, or for more of them to share "
    "among threads; 0: 512 on a CPU, 8192 on a GPU";
// On a CPU each micro-batch is computed by one thread and several at once; a GPU wants them large.
inline int64_t micro_batch_tokens(int64_t configured, at::Device device) {
  return configured > 0 ? configured : device.is_cpu() ? 512 : 8192;
}

struct Batch {
  Tensor input_ids;  // int64 [1, time]: the examples end to end, each without its last token
  Tensor labels;     // int64 [1, time]: the next token, or −100 where it is not supervised
  std::vector<int64_t> lengths;  // of the examples
  int64_t supervised = 0;        // labels other than −100
};

// What the steps show of the examples, and what of them is left out.
struct Dealing {
  int64_t steps = 0, supervised_tokens = 0;  // of each step
  int64_t examples = 0;                      // that have a supervised token
  int64_t shown = 0;                         // different ones, of those
  int64_t dealt = 0;                         // each as often as it is
  int64_t cut = 0;                           // of those, ended by their step
  int64_t cut_tokens = 0;                    // the supervised tokens that this masks
  int64_t longer = 0;  // examples of more supervised tokens than a step: they are always cut
  int64_t empty = 0;   // without a supervised token: never dealt

  bool operator==(const Dealing&) const = default;
};
// In one line, of conversations; what there is none of is not mentioned.
std::string describe(const Dealing& dealing);

// A step takes examples, in a shuffled order (a new one each pass) or as they come, until it has
// exactly `supervised_tokens` of them; the labels of its last example beyond that are masked. Arms
// with equal completions therefore get equal steps, and all arms the same number of supervised
// tokens.
class SupervisedExamples {
 public:
  // passes: the fewest steps after which every example was dealt so often, in place of `steps`;
  // 0: `steps`.
  SupervisedExamples(std::vector<Encoded> examples, int64_t steps, int64_t supervised_tokens,
                     std::optional<Random> order, int64_t passes = 0);
  int64_t steps() const { return static_cast<int64_t>(steps_.size()); }
  // The step's micro-batches, nearly equal in tokens and of at most `tokens` each (a longer example
  // has one of its own); their number is a power of two where there are examples enough. What
  // follows an example's last supervised token is left out. Of `size` ranks, `rank` takes its share
  // of the examples: of nearly equal numbers of tokens, or none where there are too few.
  std::vector<Batch> step(int64_t step, int64_t tokens, int64_t rank = 0, int64_t size = 1) const;
  // Indices of the examples that a step uses, in order.
  std::vector<size_t> used(int64_t step) const;
  Dealing dealing() const;

 private:
  struct Use {
    size_t example;
    int64_t supervised;  // how many of its supervised tokens count
  };
  size_t length(const Use& use) const;
  std::vector<Use> share(int64_t step, int64_t rank, int64_t size) const;
  std::vector<std::vector<Use>> cut(const std::vector<Use>& uses, size_t most) const;
  Batch batch(const std::vector<Use>& uses) const;

  std::vector<Encoded> examples_;
  std::vector<int64_t> supervised_;  // tokens of each example
  int64_t supervised_tokens_;
  std::vector<std::vector<Use>> steps_;
};

}  // namespace inoculum
