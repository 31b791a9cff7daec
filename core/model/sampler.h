// Sampling text from a model.
//
// Prompts are read once however many samples they get; samples are generated side by side, one
// token a step, and when one finishes the next takes its place (generation.h). Each sample draws
// from a random stream of its own, named by its request's id and its number, so that what it says
// does not depend on what it was batched with.
#pragma once

#include <string>
#include <vector>

#include "core/model/generation.h"
#include "core/text/chat_template.h"

namespace inoculum {

// The same, ending an answer where the chat template in use ends an assistant's turn, too.
SamplingConfig ended_by(const Chat& chat, SamplingConfig config);

struct SampleRequest {
  std::string id;  // names the random stream
  std::vector<int32_t> prompt;
  int64_t samples = 1;
};

// The stream of a request; its sample i draws from fork(i) of that.
Random sampling_stream(uint64_t seed, const std::string& id);

// One list a request, one completion a sample. A prompt that leaves no room for a new token is an
// Error.
std::vector<std::vector<Completion>> sample(const Transformer& model, const Tokenizer& tokenizer,
                                            const std::vector<SampleRequest>& requests,
                                            const SamplingConfig& config, uint64_t seed);

}  // namespace inoculum
