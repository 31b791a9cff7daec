#include "core/model/sampler.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>

#include "core/base/error.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/kernels.h"
#include "core/model/parallel.h"
#include "core/model/transformer.h"

namespace inoculum {
namespace {

// A token to be drawn: by the weights of this row, with a number of this stream.
struct Draw {
  int64_t row;
  Random* random;
};

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

// The same for many rows of `weights`, float [row, vocabulary], where they lie.
std::vector<int32_t> draw(const SamplingConfig& config, const Tensor& weights,
                          const std::vector<Draw>& draws) {
  const auto count = static_cast<int64_t>(draws.size());
  const int64_t vocabulary = weights.size(1);
  std::vector<int32_t> drawn(draws.size());
  if (weights.is_cpu()) {
    const float* const all = weights.const_data_ptr<float>();
    parallel_ranges(count, 8, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        drawn[i] = draw(config, all + draws[i].row * vocabulary, vocabulary, *draws[i].random);
    });
    return drawn;
  }
  // On a GPU: weights of a large vocabulary stay there, and the tokens alone come back.
  const Tensor rows = at::empty({count}, at::kLong), uniform = at::empty({count, 1}, at::kDouble);
  for (int64_t i = 0; i < count; ++i) {
    const Draw& each = draws[static_cast<size_t>(i)];
    rows.data_ptr<int64_t>()[i] = each.row;
    uniform.data_ptr<double>()[i] = config.temperature == 0 ? 0 : each.random->uniform();
  }
  Tensor mass = weights.index_select(0, to_device(rows, weights.device())), likeliest, ids;
  if (config.temperature == 0) {
    ids = mass.argmax(-1);
  } else {
    if (config.top_p < 1 || config.top_k > 0) {
      std::tie(mass, likeliest) = mass.sort(/*stable=*/true, -1, /*descending=*/true);
      if (config.top_k > 0) mass = mass.narrow(1, 0, std::min(config.top_k, vocabulary));
      const Tensor before = mass.cumsum(1, at::kDouble) - mass;
      mass = mass.masked_fill(before >= config.top_p, 0);
    }
    const Tensor sums = mass.cumsum(1, at::kDouble);
    const Tensor target =
        to_device(uniform, weights.device()) * sums.narrow(1, sums.size(1) - 1, 1);
    ids = at::searchsorted(sums, target, /*out_int32=*/false, /*right=*/true)
              .clamp_max(sums.size(1) - 1);
    if (likeliest.defined()) ids = likeliest.gather(1, ids);
  }
  const Tensor host = ids.flatten().to(at::kInt).cpu();
  std::copy_n(host.const_data_ptr<int32_t>(), count, drawn.begin());
  return drawn;
}

// Many rows are a multiple of so many (see round_up); those behind the last one are padding.
int64_t grain(int64_t rows) { return rows > 16 ? 16 : 1; }
int64_t padded_rows(int64_t rows) { return round_up(rows, grain(rows)); }

// Rows are computed in blocks of nearly equal size, each by one thread; their number alone says
// where they are cut.
struct Blocks {
  int64_t rows, most, grain = 1;
  int64_t count() const { return (rows + most - 1) / most; }
  int64_t begin(int64_t block) const {
    return block == count() ? rows : rows * block / count() / grain * grain;
  }
  int64_t size(int64_t block) const { return begin(block + 1) - begin(block); }
};

constexpr int64_t kRowsABlock = 128, kPromptsABlock = 8;

// What ends a completion: tokens by their ids, longer strings where they stand in the decoded text.
struct Stops {
  std::vector<int32_t> ids;
  std::vector<std::string> strings;
  size_t longest = 0;  // of the strings

  Stops(const std::vector<std::string>& stop, const Tokenizer& tokenizer)
      : ids(tokenizer.end_ids()) {
    for (const std::string& each : stop) {
      if (const auto id = tokenizer.id_of(each)) ids.push_back(*id);
      else strings.push_back(each), longest = std::max(longest, each.size());
    }
  }
  // Where in the text one of the strings begins.
  std::optional<size_t> find(const std::string& text) const {
    for (const std::string& each : strings)
      if (const size_t at = text.find(each); at != std::string::npos) return at;
    return std::nullopt;
  }
};

// A sample whose prompt has been read and that waits for a row.
struct Waiting {
  size_t request;
  int64_t sample;
  int64_t prompt;  // the slot of its prompt's keys and values
};

// A sample under way, in the cache's slot of the same index.
struct Row {
  size_t request;
  int64_t sample;
  Random random;
  int64_t position;   // where the next token goes
  int32_t token = 0;  // the token to feed there
  Completion completion = {};

  bool finished() const { return !completion.finish_reason.empty(); }
};

// Generates the samples of `requests`, a token a step:
//
//   while (generation.admit()) {
//     generation.step();
//     generation.retire();
//   }
class Generation {
 public:
  Generation(const Transformer& model, const Tokenizer& tokenizer,
             const std::vector<SampleRequest>& requests, const SamplingConfig& config,
             uint64_t seed);

  bool admit();   // fills the free rows with samples that wait; false: all are done
  void step();    // one more token for every row
  void retire();  // takes finished rows out
  std::vector<std::vector<Completion>> take() { return std::move(done_); }

 private:
  bool on_cpu() const { return device_.is_cpu(); }
  bool has_free_row() const { return static_cast<int64_t>(rows_.size()) < slots_; }
  void read_prompts();   // as many as their cache holds; their samples wait
  void start_waiting();  // as many as there are free rows for
  Tensor weights(const Tensor& hidden) const;
  bool may_end_a_stop(const std::vector<int32_t>& ids) const;
  void accept(Row& row, int32_t token) const;
  void finish(Row& row);

  const Transformer& model_;
  const Tokenizer& tokenizer_;
  const std::vector<SampleRequest>& requests_;
  const SamplingConfig& config_;
  const Random stream_;
  const Stops stops_;
  const int64_t vocabulary_, context_;
  const at::Device device_;
  int64_t longest_prompt_ = 0, slots_ = 0, prompt_slots_ = 0;
  std::optional<KeyValueCache> cache_, prompt_cache_;

  std::vector<Row> rows_;
  std::vector<Waiting> waiting_;  // samples of the prompts in prompt_cache_, the next one last
  Tensor prompt_weights_;         // of what may follow each of those: float [prompt, vocabulary]
  size_t next_request_ = 0;       // the first one whose prompt has not been read
  std::vector<std::vector<Completion>> done_;
};

Generation::Generation(const Transformer& model, const Tokenizer& tokenizer,
                       const std::vector<SampleRequest>& requests, const SamplingConfig& config,
                       uint64_t seed)
    : model_(model),
      tokenizer_(tokenizer),
      requests_(requests),
      config_(config),
      stream_(seed, "sampling"),
      stops_(config.stop, tokenizer),
      vocabulary_(model.config().vocab_size),
      context_(model.config().max_position_embeddings),
      device_(model.embedding.device()) {
  int64_t samples = 0;
  for (const SampleRequest& request : requests) {
    longest_prompt_ = std::max(longest_prompt_, static_cast<int64_t>(request.prompt.size()));
    samples += request.samples;
    done_.emplace_back(static_cast<size_t>(request.samples));
  }
  slots_ = std::max<int64_t>(1, std::min(config.rows, samples));
  prompt_slots_ = std::min<int64_t>(slots_, 32);
  // One place more than is used, for padding.
  const int64_t longest = std::min(context_, longest_prompt_ + config.max_new_tokens);
  cache_.emplace(model.config(), on_cpu() ? padded_rows(slots_) : slots_, longest + 1,
                 model.options());
  prompt_cache_.emplace(model.config(), prompt_slots_, longest_prompt_ + 1, model.options());
}

bool Generation::admit() {
  while (has_free_row() && (!waiting_.empty() || next_request_ < requests_.size())) {
    if (waiting_.empty()) read_prompts();
    start_waiting();
  }
  return !rows_.empty();
}

void Generation::read_prompts() {
  const size_t first = next_request_;
  next_request_ = std::min(requests_.size(), first + static_cast<size_t>(prompt_slots_));
  const auto count = static_cast<int64_t>(next_request_ - first);
  int64_t time = 0;
  for (size_t request = first; request < next_request_; ++request)
    time = std::max(time, static_cast<int64_t>(requests_[request].prompt.size()));
  time = round_up(time, kLengthMultiple);
  PaddedTexts prompts(count, time);
  const Tensor ends = at::empty({count}, at::kLong);  // of each prompt, in its row
  for (int64_t row = 0; row < count; ++row) {
    const std::vector<int32_t>& prompt = requests_[first + static_cast<size_t>(row)].prompt;
    prompts.put(row, prompt);
    ends.data_ptr<int64_t>()[row] = static_cast<int64_t>(prompt.size()) - 1;
  }
  prompt_weights_ = at::empty({count, vocabulary_}, model_.options().dtype(at::kFloat));
  const Blocks blocks{count, on_cpu() ? kPromptsABlock : count};
  parallel(blocks.count(), [&](int64_t block) {
    const int64_t begin = blocks.begin(block), size = blocks.size(block);
    const auto part = [&](const Tensor& all) { return all.narrow(0, begin, size); };
    KeyValueCache of_block = prompt_cache_->rows(begin, size);
    const Tensor kept = part(ends) + at::arange(size) * time;
    const Tensor hidden =
        model_.hidden(part(prompts.ids), part(prompts.positions), of_block, kept).squeeze(0);
    prompt_weights_.narrow(0, begin, size).copy_(weights(hidden));
  });
  for (size_t request = next_request_; request-- > first;)
    for (int64_t sample = requests_[request].samples; sample-- > 0;)
      waiting_.push_back({request, sample, static_cast<int64_t>(request - first)});
}

void Generation::start_waiting() {
  std::vector<Row> begun;
  std::vector<int64_t> prompts;
  while (static_cast<int64_t>(rows_.size() + begun.size()) < slots_ && !waiting_.empty()) {
    const Waiting next = waiting_.back();
    waiting_.pop_back();
    const SampleRequest& request = requests_[next.request];
    begun.push_back({next.request, next.sample,
                     stream_.fork(request.id).fork(static_cast<uint64_t>(next.sample)),
                     static_cast<int64_t>(request.prompt.size())});
    prompts.push_back(next.prompt);
  }
  std::vector<Draw> draws;
  for (size_t i = 0; i < begun.size(); ++i) draws.push_back({prompts[i], &begun[i].random});
  const std::vector<int32_t> first = draw(config_, prompt_weights_, draws);
  std::vector<int64_t> from, to;  // slots of prompts, and of rows
  for (size_t i = 0; i < begun.size(); ++i) {
    accept(begun[i], first[i]);
    if (begun[i].finished()) {
      finish(begun[i]);
      continue;
    }
    from.push_back(prompts[i]);
    to.push_back(static_cast<int64_t>(rows_.size()));
    rows_.push_back(std::move(begun[i]));
  }
  if (!from.empty()) cache_->copy(*prompt_cache_, from, to, longest_prompt_);
}

void Generation::step() {
  const auto count = static_cast<int64_t>(rows_.size());
  const int64_t padded = on_cpu() ? padded_rows(count) : count;
  const Blocks blocks{padded, on_cpu() ? kRowsABlock : padded, grain(padded)};
  PaddedTexts next(padded, 1);
  for (int64_t r = 0; r < count; ++r) {
    Row& row = rows_[static_cast<size_t>(r)];
    next.put(r, {&row.token, 1}, row.position++);
  }
  std::vector<int32_t> drawn(rows_.size());
  parallel(blocks.count(), [&](int64_t block) {
    const int64_t begin = blocks.begin(block), size = blocks.size(block);
    const auto part = [&](const Tensor& all) { return all.narrow(0, begin, size); };
    KeyValueCache of_block = cache_->rows(begin, size);
    const Tensor of_next =
        weights(model_.hidden(part(next.ids), part(next.positions), of_block).squeeze(1));
    std::vector<Draw> draws;
    for (int64_t r = 0; r < std::min(size, count - begin); ++r)
      draws.push_back({r, &rows_[static_cast<size_t>(begin + r)].random});
    const std::vector<int32_t> of_block_drawn = draw(config_, of_next, draws);
    std::copy(of_block_drawn.begin(), of_block_drawn.end(), drawn.begin() + begin);
  });
  for (size_t r = 0; r < rows_.size(); ++r) accept(rows_[r], drawn[r]);
}

void Generation::retire() {
  for (size_t r = rows_.size(); r-- > 0;) {
    if (!rows_[r].finished()) continue;
    finish(rows_[r]);
    // The last row takes the free slot, so that the rows under way are always the first ones.
    const size_t last = rows_.size() - 1;
    if (r != last) {
      cache_->copy(*cache_, {static_cast<int64_t>(last)}, {static_cast<int64_t>(r)},
                   rows_[last].position);
      rows_[r] = std::move(rows_.back());
    }
    rows_.pop_back();
  }
}

// What `draw` draws from. [row, hidden] → float [row, vocabulary]
Tensor Generation::weights(const Tensor& hidden) const {
  const Tensor logits = model_.logits(hidden).to(at::kFloat);
  if (config_.temperature == 0) return logits.contiguous();
  return at::softmax(config_.temperature == 1 ? logits : logits / config_.temperature, -1)
      .contiguous();
}

// Whether a stop string may end in the last token. The end of the text tells: to decode all of it
// for every token would take the square of its length.
bool Generation::may_end_a_stop(const std::vector<int32_t>& ids) const {
  const std::span<const int32_t> all(ids);
  // A tokenizer may drop a space, or a part of a character, where a text begins.
  const size_t enough = stops_.longest + tokenizer_.decode(all.last(1)).size() + 8;
  for (size_t count = 16;; count *= 2) {
    const std::string text = tokenizer_.decode(all.last(std::min(count, all.size())));
    if (count >= all.size() || text.size() >= enough) return stops_.find(text).has_value();
  }
}

void Generation::accept(Row& row, int32_t token) const {
  Completion& c = row.completion;
  if (std::find(stops_.ids.begin(), stops_.ids.end(), token) != stops_.ids.end()) {
    c.finish_reason = "stop";
    c.text = tokenizer_.decode(c.ids);
    return;
  }
  c.ids.push_back(token);
  if (!stops_.strings.empty() && may_end_a_stop(c.ids)) {
    const std::string text = tokenizer_.decode(c.ids);
    if (const auto at = stops_.find(text)) {
      c.finish_reason = "stop";
      c.text = text.substr(0, *at);
      return;
    }
  }
  row.token = token;
  if (static_cast<int64_t>(c.ids.size()) < config_.max_new_tokens && row.position < context_)
    return;
  c.finish_reason = "length";
  c.text = tokenizer_.decode(c.ids);
}

void Generation::finish(Row& row) {
  done_[row.request][static_cast<size_t>(row.sample)] = std::move(row.completion);
}

void check_prompts(const Transformer& model, const Tokenizer& tokenizer,
                   const std::vector<SampleRequest>& requests) {
  check_vocabulary(model, tokenizer);
  const int64_t context = model.config().max_position_embeddings;
  for (const SampleRequest& request : requests) {
    check_ids(model, tokenizer, request.prompt);
    if (request.prompt.empty() || static_cast<int64_t>(request.prompt.size()) >= context)
      throw Error("the prompt \"" + request.id + "\" has " + std::to_string(request.prompt.size()) +
                      " tokens; the model's context is " + std::to_string(context),
                  {}, "shorten the prompt");
  }
}

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
  check_prompts(model, tokenizer, requests);
  Generation generation(model, tokenizer, requests, config, seed);
  while (generation.admit()) {
    generation.step();
    generation.retire();
  }
  return generation.take();
}

}  // namespace inoculum
