#include "core/model/sampler.h"

#include "core/base/error.h"

namespace inoculum {

SamplingConfig ended_by(const Chat& chat, SamplingConfig config) {
  if (std::string end = chat.end_of_turn(); !end.empty()) config.stop.push_back(std::move(end));
  return config;
}

Random sampling_stream(uint64_t seed, const std::string& id) {
  return Random(seed, "sampling").fork(id);
}

std::vector<std::vector<Completion>> sample(const Transformer& model, const Tokenizer& tokenizer,
                                            const std::vector<SampleRequest>& requests,
                                            const SamplingConfig& config, uint64_t seed) {
  Generation generation(tokenizer, {.rows = config.rows});
  std::vector<std::vector<Completion>> done;
  for (const SampleRequest& request : requests) {
    done.emplace_back(static_cast<size_t>(request.samples));
    try {
      generation.add({.model = &model,
                      .prompt = request.prompt,
                      .sampling = config,
                      .random = sampling_stream(seed, request.id),
                      .samples = request.samples});
    } catch (const Error& error) {
      throw Error("the prompt \"" + request.id + "\": " + error.fault(), error.where(),
                  error.hint());
    }
  }
  while (generation.busy())
    for (GenerationEvent& event : generation.step())
      done[event.request][static_cast<size_t>(event.sample)] = std::move(*event.completion);
  return done;
}

}  // namespace inoculum
