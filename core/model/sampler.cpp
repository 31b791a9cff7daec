#include "core/model/sampler.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "core/base/error.h"
#include "core/model/checkpoint.h"
#include "core/model/kernels.h"
#include "core/model/parallel.h"

namespace inoculum {
namespace {

// Draws a token by its weight: a probability, or at temperature 0 a logit, of which the largest is
// taken. Nucleus: the smallest set whose probability reaches top_p (Holtzman et al. 2020).
int32_t draw(const SamplingConfig& config, const float* weights, int64_t vocabulary,
             Random& random) {
  if (config.temperature == 0)
    return static_cast<int32_t>(std::max_element(weights, weights + vocabulary) - weights);
  // Sums of blocks, so that the walk below skips most tokens.
  constexpr int64_t block = 64;
  std::vector<double> sums(static_cast<size_t>((vocabulary + block - 1) / block));
  for (int64_t i = 0; i < vocabulary; i += block) {
    double sum = 0;
    const int64_t end = std::min(i + block, vocabulary);
#pragma omp simd reduction(+ : sum)
    for (int64_t k = i; k < end; ++k) sum += static_cast<double>(weights[k]);
    sums[static_cast<size_t>(i / block)] = sum;
  }
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  if (config.top_p >= 1 && config.top_k == 0) {
    double left = random.uniform() * total;
    int64_t i = 0;
    for (size_t b = 0; b + 1 < sums.size() && left >= sums[b]; ++b, i += block) left -= sums[b];
    for (; i < vocabulary; ++i)
      if ((left -= static_cast<double>(weights[i])) < 0) return static_cast<int32_t>(i);
    return static_cast<int32_t>(vocabulary - 1);
  }
  std::vector<int32_t> order(static_cast<size_t>(vocabulary));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return weights[a] > weights[b]; });
  std::vector<double> kept;
  for (double mass = 0; const int32_t id : order) {
    if (config.top_k > 0 && static_cast<int64_t>(kept.size()) == config.top_k) break;
    if (mass >= config.top_p * total) break;
    kept.push_back(static_cast<double>(weights[id]));
    mass += kept.back();
  }
  return order[random.weighted(kept)];
}

// Rows are computed in blocks of nearly equal size, each by one thread; their number alone says
// where they are cut.
struct Blocks {
  int64_t rows, most;
  int64_t count() const { return (rows + most - 1) / most; }
  int64_t begin(int64_t block) const { return rows * block / count(); }
  int64_t size(int64_t block) const { return begin(block + 1) - begin(block); }
};

constexpr int64_t kRowsABlock = 128, kPromptsABlock = 8;

// A sample under way, in the cache's slot of the same index.
struct Row {
  size_t request;
  int64_t sample;
  Random random;
  int64_t position;  // where the next token goes
  int32_t token;     // the token to feed there
  Completion completion;
};

}  // namespace

void SamplingConfig::fields(Fields& f) {
  f.value("temperature", temperature,
          "1 samples from the model's own distribution, 0 takes the likeliest token", at_least(0));
  f.value("top_p", top_p, "sample from the smallest set of tokens with this probability",
          between(0, 1));
  f.value("top_k", top_k, "sample from the k likeliest tokens; 0: all", at_least(0));
  f.value("max_new_tokens", max_new_tokens, "longest completion", at_least(1));
  f.value("stop", stop, "a completion ends before any of these strings");
  f.value("rows", rows, "samples generated side by side", at_least(1));
}

SamplingConfig ended_by(const Chat& chat, SamplingConfig config) {
  if (std::string end = chat.end_of_turn(); !end.empty()) config.stop.push_back(std::move(end));
  return config;
}

std::vector<std::vector<Completion>> sample(const Transformer& model, const Tokenizer& tokenizer,
                                            const std::vector<SampleRequest>& requests,
                                            const SamplingConfig& config, uint64_t seed) {
  const at::NoGradGuard no_grad;
  const int64_t context = model.config().max_position_embeddings,
                vocabulary = model.config().vocab_size;
  check_vocabulary(model, tokenizer);
  size_t longest = 0;
  for (const SampleRequest& request : requests) {
    check_ids(model, tokenizer, request.prompt);
    longest = std::max(longest, request.prompt.size());
    if (request.prompt.empty() || static_cast<int64_t>(request.prompt.size()) >= context)
      throw Error("the prompt \"" + request.id + "\" has " + std::to_string(request.prompt.size()) +
                      " tokens; the model's context is " + std::to_string(context),
                  {}, "shorten the prompt");
  }
  // A stop string that is one token is found by its id, the others in the decoded text.
  std::vector<int32_t> stop_ids;
  std::vector<std::string> stop_strings;
  for (const std::string& stop : config.stop) {
    if (const auto id = tokenizer.id_of(stop)) stop_ids.push_back(*id);
    else stop_strings.push_back(stop);
  }
  for (const int32_t id : tokenizer.end_ids()) stop_ids.push_back(id);

  const Random seed_stream(seed, "sampling");
  const int64_t capacity =
      std::min(context, static_cast<int64_t>(longest) + config.max_new_tokens) + 1;
  int64_t wanted = 0;
  for (const SampleRequest& request : requests) wanted += request.samples;
  const int64_t slots = std::max<int64_t>(1, std::min(config.rows, wanted)),
                prompts_a_time = std::max<int64_t>(1, std::min<int64_t>(slots, 32));
  const at::Device device = model.embedding.device();
  KeyValueCache cache(model.config(), slots, capacity, model.options());
  KeyValueCache prompt_cache(model.config(), prompts_a_time, capacity, model.options());
  std::vector<std::vector<Completion>> done(requests.size());
  for (size_t i = 0; i < requests.size(); ++i)
    done[i].resize(static_cast<size_t>(requests[i].samples));

  std::vector<Row> rows;
  size_t next_request = 0;  // the first one whose prompt has not been read
  struct Waiting {
    size_t request;
    int64_t sample;
    int64_t slot;
  };
  std::vector<Waiting> waiting;  // samples of the prompts in `prompt_cache`, the next one last
  Tensor prompt_weights;         // of what may follow each prompt: [prompt, vocabulary]

  // What `draw` draws from. [row, hidden] → float [row, vocabulary]
  const auto weigh = [&](const Tensor& hidden) {
    const Tensor logits = model.logits(hidden).to(at::kFloat);
    if (config.temperature == 0) return logits.to(at::kCPU).contiguous();
    return at::softmax(config.temperature == 1 ? logits : logits / config.temperature, -1)
        .to(at::kCPU)
        .contiguous();
  };

  // Takes one more token; true when the sample is finished.
  const auto accept = [&](Row& row, int32_t token) {
    Completion& c = row.completion;
    if (std::find(stop_ids.begin(), stop_ids.end(), token) != stop_ids.end()) {
      c.finish_reason = "stop";
      c.text = tokenizer.decode(c.ids);
      return true;
    }
    c.ids.push_back(token);
    if (!stop_strings.empty()) {
      const std::string text = tokenizer.decode(c.ids);
      for (const std::string& stop : stop_strings)
        if (const size_t at = text.find(stop); at != std::string::npos) {
          c.finish_reason = "stop";
          c.text = text.substr(0, at);
          return true;
        }
    }
    row.token = token;
    if (static_cast<int64_t>(c.ids.size()) < config.max_new_tokens && row.position < context)
      return false;
    c.finish_reason = "length";
    c.text = tokenizer.decode(c.ids);
    return true;
  };
  const auto finish = [&](Row& row) {
    done[row.request][static_cast<size_t>(row.sample)] = std::move(row.completion);
  };

  const auto read_prompts = [&] {
    const size_t last =
        std::min(requests.size(), next_request + static_cast<size_t>(prompts_a_time));
    const auto count = static_cast<int64_t>(last - next_request);
    int64_t time = 0;
    for (size_t i = next_request; i < last; ++i)
      time = std::max(time, static_cast<int64_t>(requests[i].prompt.size()));
    Tensor ids = at::zeros({count, time}, at::kLong),
           positions = at::full({count, time}, -1, at::kLong);
    std::vector<int64_t> last_token;
    for (int64_t r = 0; r < count; ++r) {
      const auto& prompt = requests[next_request + static_cast<size_t>(r)].prompt;
      for (size_t t = 0; t < prompt.size(); ++t) {
        ids.data_ptr<int64_t>()[r * time + static_cast<int64_t>(t)] = prompt[t];
        positions.data_ptr<int64_t>()[r * time + static_cast<int64_t>(t)] = static_cast<int64_t>(t);
      }
      last_token.push_back(static_cast<int64_t>(prompt.size()) - 1);
    }
    const Tensor last_tokens = at::tensor(last_token, at::kLong);
    prompt_weights = at::empty({count, vocabulary}, at::kFloat);
    const Blocks blocks{count, kPromptsABlock};
    parallel(blocks.count(), [&](int64_t block) {
      const int64_t begin = blocks.begin(block), size = blocks.size(block);
      const auto part = [&](const Tensor& all) { return all.narrow(0, begin, size).to(device); };
      KeyValueCache of_block = prompt_cache.rows(begin, size);
      const Tensor hidden =
          model.hidden(part(ids), part(positions), of_block);  // [row, time, hidden]
      const Tensor index = part(last_tokens).view({-1, 1, 1}).expand({-1, 1, hidden.size(2)});
      prompt_weights.narrow(0, begin, size).copy_(weigh(hidden.gather(1, index).squeeze(1)));
    });
    for (size_t i = last; i-- > next_request;)
      for (int64_t s = requests[i].samples; s-- > 0;)
        waiting.push_back({i, s, static_cast<int64_t>(i - next_request)});
    next_request = last;
  };

  const auto admit = [&] {
    std::vector<int64_t> from, to;
    while (static_cast<int64_t>(rows.size()) < slots) {
      if (waiting.empty()) {
        // Keys of the prompts read last are still to be copied before the next prompts overwrite
        // them.
        if (!from.empty() || next_request == requests.size()) break;
        read_prompts();
        continue;
      }
      const Waiting w = waiting.back();
      waiting.pop_back();
      const SampleRequest& request = requests[w.request];
      Row row{w.request,
              w.sample,
              seed_stream.fork(request.id).fork(static_cast<uint64_t>(w.sample)),
              static_cast<int64_t>(request.prompt.size()),
              0,
              {}};
      const int32_t first = draw(config, prompt_weights.data_ptr<float>() + w.slot * vocabulary,
                                 vocabulary, row.random);
      if (accept(row, first)) {
        finish(row);
        continue;
      }
      from.push_back(w.slot);
      to.push_back(static_cast<int64_t>(rows.size()));
      rows.push_back(std::move(row));
    }
    if (from.empty()) return;
    const Tensor source = at::tensor(from).to(device), target = at::tensor(to).to(device);
    const int64_t length = static_cast<int64_t>(longest);
    for (size_t layer = 0; layer < cache.keys.size(); ++layer) {
      cache.keys[layer]
          .narrow(2, 0, length)
          .index_copy_(0, target,
                       prompt_cache.keys[layer].narrow(2, 0, length).index_select(0, source));
      cache.values[layer]
          .narrow(2, 0, length)
          .index_copy_(0, target,
                       prompt_cache.values[layer].narrow(2, 0, length).index_select(0, source));
    }
  };

  while (true) {
    while (static_cast<int64_t>(rows.size()) < slots &&
           (!waiting.empty() || next_request < requests.size()))
      admit();
    if (rows.empty()) break;
    const auto count = static_cast<int64_t>(rows.size());
    Tensor ids = at::empty({count, 1}, at::kLong), positions = at::empty({count, 1}, at::kLong);
    for (int64_t r = 0; r < count; ++r) {
      Row& row = rows[static_cast<size_t>(r)];
      ids.data_ptr<int64_t>()[r] = row.token;
      positions.data_ptr<int64_t>()[r] = row.position++;
    }
    std::vector<int32_t> drawn(rows.size());
    const Blocks blocks{count, kRowsABlock};
    parallel(blocks.count(), [&](int64_t block) {
      const int64_t begin = blocks.begin(block), size = blocks.size(block);
      const auto part = [&](const Tensor& all) { return all.narrow(0, begin, size).to(device); };
      KeyValueCache of_block = cache.rows(begin, size);
      const Tensor weights = weigh(model.hidden(part(ids), part(positions), of_block).squeeze(1));
      parallel_ranges(size, 8, [&](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
          const auto row = static_cast<size_t>(begin + r);
          drawn[row] = draw(config, weights.const_data_ptr<float>() + r * vocabulary, vocabulary,
                            rows[row].random);
        }
      });
    });
    for (int64_t r = count; r-- > 0;) {
      Row& row = rows[static_cast<size_t>(r)];
      if (!accept(row, drawn[static_cast<size_t>(r)])) continue;
      finish(row);
      // The last row takes the free slot, so that the rows under way are always the first ones.
      const auto end = static_cast<int64_t>(rows.size()) - 1;
      if (r != end) {
        for (auto* side : {&cache.keys, &cache.values})
          for (Tensor& layer : *side) layer[r].copy_(layer[end]);
        rows[static_cast<size_t>(r)] = std::move(rows.back());
      }
      rows.pop_back();
    }
  }
  return done;
}

void for_each_batch(
    const std::vector<std::vector<int32_t>>& rows,
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
    const auto count = static_cast<int64_t>(members.size()),
               time = static_cast<int64_t>(rows[members.back()].size());
    if (time == 0) return;
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
  const at::NoGradGuard no_grad;
  std::vector<std::vector<double>> scores(rows.size());
  for_each_batch(rows, [&](const std::vector<size_t>& members, const Tensor& ids) {
    const int64_t time = ids.size(1);
    std::vector<int64_t> kept, next;  // the places that a token follows, and which
    for (size_t r = 0; r < members.size(); ++r) {
      const std::vector<int32_t>& row = rows[members[r]];
      for (size_t t = 0; t < row.size(); ++t) {
        if (row[t] < 0 || row[t] >= model.config().vocab_size)
          throw Error("token id " + std::to_string(row[t]) +
                          " is outside the model's vocabulary of " +
                          std::to_string(model.config().vocab_size),
                      {.field = "input_ids"});
        if (t == 0) continue;
        kept.push_back(static_cast<int64_t>(r) * time + static_cast<int64_t>(t) - 1);
        next.push_back(row[t]);
      }
    }
    if (kept.empty()) return;
    const at::Device device = model.embedding.device();
    const Tensor hidden = model.hidden(ids.to(device))
                              .flatten(0, 1)
                              .index_select(0, at::tensor(kept, at::kLong).to(device));
    const Tensor losses =
        model.losses(hidden, at::tensor(next, at::kLong).to(device)).to(at::kCPU).contiguous();
    const double* loss = losses.const_data_ptr<double>();
    for (const size_t member : members)
      for (size_t t = 1; t < rows[member].size(); ++t) scores[member].push_back(-*loss++);
  });
  return scores;
}

}  // namespace inoculum
