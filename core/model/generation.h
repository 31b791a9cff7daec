// Text from models, a token a step, for many requests at once (continuous batching, Yu et al.
// 2022).
//
//   Generation generation(tokenizer, {.rows = 64});
//   generation.add({.model = &model, .prompt = ids, .random = Random(seed, "sampling").fork("0")});
//   while (generation.busy())
//     for (const GenerationEvent& event : generation.step()) show(event);
//
// Requests may be added and cancelled between any two steps. They wait in one queue, first come,
// first served. A prompt is read once however many samples it gets; then each sample takes a row of
// the batch, and leaves it when it ends. Models that share their weights, such as a base and its
// adapters, are served side by side: the rows of each are computed by themselves.
//
// Each sample draws from a random stream of its own. What it says depends on its batch in the
// rounding of products alone, which goes by the number of rows. Shapes say what is done about that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/model/draw.h"
#include "core/text/tokenizer.h"

namespace inoculum {

enum class Shapes {
  // As the work of the moment asks for: prompts of like length are read together, and rows that are
  // free cost nothing. The quickest, where the whole work is known; its bytes follow from that.
  fitted,
  // The same for whatever is asked: steps in blocks of so many rows, each prompt alone and in
  // chunks, a few in each step. On the CPU, in float and bfloat16 and where no layer caps its
  // scores, the bits of an answer do not depend on what else is served. Recent prompts are kept,
  // and
  // what they share with a new one is not read again.
  fixed,
};

struct GenerationConfig {
  int64_t rows = 256;  // samples side by side, at most
  Shapes shapes = Shapes::fitted;
};

struct GenerationRequest {
  const Transformer* model = nullptr;  // lives as long as the Generation
  std::vector<int32_t> prompt = {};
  SamplingConfig sampling = {};  // `rows` is not looked at; max_new_tokens may be 0
  Random random;                 // sample i draws from random.fork(i)
  int64_t samples = 1;
  std::optional<int64_t> logprobs = {};  // of every token, with so many of the likeliest
  bool prompt_logprobs = false;          // of the prompt's tokens too, with Shapes::fixed
  bool stream = false;                   // text as it comes
};

struct Completion {
  // Without the token that stopped it; the tokens of a stop string stay, whose text does not.
  std::vector<int32_t> ids;
  std::string text;
  std::string finish_reason;                // "stop" or "length"
  std::vector<TokenLogprob> logprobs = {};  // of `ids`, where they are asked for
};

// What a step brought to a sample; or to a request, whose prompt has been read: then `sample` is −1
// and `logprobs` are of the prompt's tokens but the first.
struct GenerationEvent {
  uint64_t request = 0;
  int64_t sample = 0;
  // Of a stream: more of its text, in whole characters none of which belongs to a stop string, and
  // its next tokens, where log-probabilities are asked for.
  std::string text = {};
  std::vector<TokenLogprob> logprobs = {};
  std::optional<Completion> completion = {};  // all of it, at its end
  bool last = false;                          // of its request
};

// An Error where the model cannot take it: empty, ids that are not its own, or too long to leave
// room for a new token, where some are wanted.
void check_prompt(const Transformer& model, const Tokenizer& tokenizer,
                  const std::vector<int32_t>& prompt, int64_t max_new_tokens = 1);

class Generation {
 public:
  Generation(const Tokenizer& tokenizer, GenerationConfig config);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Returns 0, 1, 2, … An Error where the model cannot take the prompt.
  uint64_t add(GenerationRequest request);
  void cancel(uint64_t request);  // its rows are free at once; no more events of it
  // Begins what there are rows for, and computes one more token for every row.
  std::vector<GenerationEvent> step();

  bool busy() const;
  int64_t waiting() const;             // samples in the queue
  int64_t rows() const;                // samples under way
  int64_t prompt_tokens_read() const;  // since the beginning, without those that were shared

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace inoculum
