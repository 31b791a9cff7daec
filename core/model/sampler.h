// Sampling text from a model.
//
// Prompts are read once however many samples they get; samples are generated side by side, one
// token a step, and when one finishes the next takes its place. Each sample draws from a random
// stream of its own, named by its request's id and its number, so that what it says does not depend
// on what it was batched with.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/model/declarations.h"
#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"

namespace inoculum {

struct SamplingConfig {
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  int64_t max_new_tokens = 96;
  std::vector<std::string> stop = {"<|end|>"};
  int64_t rows = 256;

  void fields(Fields& f);
};

// The same, ending an answer where the chat template in use ends an assistant's turn, too.
SamplingConfig ended_by(const Chat& chat, SamplingConfig config);

struct SampleRequest {
  std::string id;  // names the random stream
  std::vector<int32_t> prompt;
  int64_t samples = 1;
};

struct Completion {
  std::vector<int32_t> ids;  // without the stop token
  std::string text;
  std::string finish_reason;  // "stop" or "length"
};

// One list a request, one completion a sample. A prompt that leaves no room for a new token is an
// Error.
std::vector<std::vector<Completion>> sample(const Transformer& model, const Tokenizer& tokenizer,
                                            const std::vector<SampleRequest>& requests,
                                            const SamplingConfig& config, uint64_t seed);

}  // namespace inoculum
