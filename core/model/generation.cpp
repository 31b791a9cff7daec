#include "core/model/generation.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <list>
#include <map>
#include <span>
#include <utility>

#include "core/base/error.h"
#include "core/base/strings.h"
#include "core/model/checkpoint.h"
#include "core/model/linear.h"
#include "core/model/parallel.h"
#include "core/model/transformer.h"

namespace inoculum {
namespace {

// Many rows are a multiple of so many (see round_up); those behind the last one are padding.
int64_t grain(int64_t rows) { return rows > 16 ? 16 : 1; }

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

constexpr int64_t kRowsABlock = 128, kPromptsABlock = 8, kPromptsAtOnce = 32;
// Of fixed shapes: rows of a block, tokens of a prompt's chunk, and chunks that are read in a step,
// or one for each thread: what is under way waits for them.
constexpr int64_t kFixedRows = 32, kChunk = 32, kChunksAStep = 8;
// Places of a new row at first: most answers are much shorter than they may be.
constexpr int64_t kFirstPlaces = 128;
// Of recent prompts that are kept.
constexpr size_t kKeptPrompts = 256, kKeptBytes = size_t{256} << 20;

// What ends a completion: tokens by their ids, other strings where they stand in the decoded text.
// A string that is a token as well may also be spelt by others: "Human" by a token " Human".
struct Stops {
  std::vector<int32_t> ids;
  std::vector<std::string> strings;
  size_t longest = 0;  // of the strings

  Stops(const SamplingConfig& sampling, const Tokenizer& tokenizer) {
    if (!sampling.ignore_ends) ids = tokenizer.end_ids();
    for (const std::string& each : sampling.stop) {
      const auto id = tokenizer.id_of(each);
      const std::string spelt = id ? tokenizer.decode(std::span(&*id, 1)) : "";
      if (id && (spelt.empty() || spelt == each)) ids.push_back(*id);
      if (id && spelt.empty()) continue;  // a control token, which no text has
      strings.push_back(each);
      longest = std::max(longest, each.size());
    }
  }
  // Where in the text the first of the strings begins.
  std::optional<size_t> find(const std::string& text) const {
    size_t first = std::string::npos;
    for (const std::string& each : strings) first = std::min(first, text.find(each));
    return first == std::string::npos ? std::nullopt : std::optional(first);
  }
  // The bytes at the text's end that may be the beginning of one of them.
  size_t begun(std::string_view text) const {
    for (size_t bytes = std::min(longest, text.size()); bytes > 0; --bytes)
      for (const std::string& each : strings)
        if (each.size() > bytes && text.ends_with(std::string_view(each).substr(0, bytes)))
          return bytes;
    return 0;
  }
};

// A request in the queue or under way.
struct Request : GenerationRequest {
  Request(uint64_t id_, GenerationRequest request, const Tokenizer& tokenizer)
      : GenerationRequest(std::move(request)), id(id_), stops(sampling, tokenizer), left(samples) {}
  int64_t context() const { return model->config().max_position_embeddings; }
  // Places of the cache that a sample may come to need, or so many more than its prompt's.
  int64_t length(int64_t more) const {
    return std::min(context(),
                    std::ssize(prompt) + std::min({more, sampling.max_new_tokens, context()}));
  }

  const uint64_t id;
  const Stops stops;
  int64_t left;  // samples that have not ended
};

// A prompt that has been read: its keys and values lie in this slot.
struct ReadPrompt {
  std::shared_ptr<const KeyValueCache> cache;
  int64_t slot = 0;
};

// A sample whose prompt has been read and that waits for a row.
struct Waiting {
  std::shared_ptr<Request> request;
  int64_t sample;
  int64_t prompt;  // the place of its prompt among those read last
};

// A sample under way, in the slot of the same index.
struct Row {
  std::shared_ptr<Request> request;
  int64_t sample;
  Random random;
  int64_t position;   // where the next token goes
  int32_t token = 0;  // the token to feed there
  Completion completion = {};
  // Of a stream: the text of the ids before `settled`, of which so many bytes have been shown. Text
  // is made from `anchor` on, for decoded by itself a token may lose its space.
  std::string text = {};
  size_t anchor = 0, settled = 0, shown = 0;
  bool finished = false;  // or nobody waits for it any more

  // Where its request wants log-probabilities: asks for that of its next token, and takes it of
  // what rows were given in their order.
  void ask(std::vector<LogprobRequest>& asked, int64_t at, int32_t id) const {
    if (request->logprobs) asked.push_back({at, id, *request->logprobs});
  }
  std::optional<TokenLogprob> taken_from(std::vector<TokenLogprob>::iterator& next) const {
    return request->logprobs ? std::optional(std::move(*next++)) : std::nullopt;
  }
};

// The rows of one model. Those under way are the first slots of its cache.
struct Lane {
  const Transformer* model;
  std::vector<Row> rows = {};
  std::optional<KeyValueCache> cache = {};

  bool on_cpu() const { return model->embedding.is_cpu(); }
};

// A prompt that was read not long ago, alone and in chunks.
struct KeptPrompt {
  const Transformer* model;
  std::vector<int32_t> ids;
  std::shared_ptr<KeyValueCache> cache;  // of one slot
  Tensor hidden;                         // [token, hidden]
  size_t bytes() const {
    size_t sum = hidden.nbytes() + ids.size() * sizeof(ids[0]);
    for (const auto* side : {&cache->keys, &cache->values})
      for (const Tensor& layer : *side) sum += layer.nbytes();
    return sum;
  }
};

int64_t shared_tokens(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::ranges::mismatch(a, b).in1 - a.begin();
}

// A prompt that is being read, from what a kept one has of it on.
struct Reading {
  std::shared_ptr<Request> request;
  int64_t shared = 0, read = 0;                  // tokens
  std::shared_ptr<KeptPrompt> begun = {};        // as far as it has come
  std::vector<Tensor> hidden = {};               // of its chunks
  std::shared_ptr<const KeptPrompt> whole = {};  // at its end
};

// Those that were read last, of all models.
class KeptPrompts {
 public:
  // The one that begins with the most whole chunks of these ids, or is all of them; and how many of
  // its tokens that are.
  std::pair<std::shared_ptr<const KeptPrompt>, int64_t> find(const Transformer* model,
                                                             std::span<const int32_t> ids) {
    auto best = kept_.end();
    int64_t most = 0;
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if ((*it)->model != model) continue;
      const int64_t shared = shared_tokens((*it)->ids, ids);
      const bool all = shared == std::ssize(ids) && ids.size() == (*it)->ids.size();
      const int64_t use = all ? shared : shared / kChunk * kChunk;
      if (use > most) best = it, most = use;
    }
    if (best == kept_.end()) return {nullptr, 0};
    kept_.splice(kept_.begin(), kept_, best);
    return {kept_.front(), most};
  }
  void keep(const std::shared_ptr<const KeptPrompt>& prompt) {
    kept_.push_front(prompt);
    bytes_ += prompt->bytes();
    while (kept_.size() > kKeptPrompts || (bytes_ > kKeptBytes && kept_.size() > 1)) {
      bytes_ -= kept_.back()->bytes();
      kept_.pop_back();
    }
  }

 private:
  std::list<std::shared_ptr<const KeptPrompt>> kept_;  // the last one used first
  size_t bytes_ = 0;
};

}  // namespace

struct Generation::Impl {
  Impl(const Tokenizer& tokenizer_, GenerationConfig config_)
      : tokenizer(tokenizer_), config(config_) {}

  void admit();  // fills the free rows with samples that wait
  bool read_prompts();
  void read_together(std::span<const std::shared_ptr<Request>> requests);
  std::vector<std::shared_ptr<Request>> read_apart();
  bool begin(Reading& reading);
  void score_prompt(const Request& request, const Tensor& hidden);
  void start_waiting();
  Lane& lane_of(const Transformer* model);
  void make_room(Lane& lane, int64_t more, int64_t length) const;
  void advance();  // one more token for every row
  void retire();   // takes finished rows out
  void remove(Lane& lane, size_t row) const;
  bool may_end_a_stop(const Row& row) const;
  void accept(Row& row, int32_t token, std::optional<TokenLogprob> logprob);
  void extend(Row& row, int32_t token) const;
  std::string shown_next(Row& row) const;
  int64_t under_way() const;
  // That a new row is given behind its prompt. Where the work is known, rows need not be moved.
  int64_t places() const {
    return config.shapes == Shapes::fixed ? kFirstPlaces : std::numeric_limits<int64_t>::max();
  }

  const Tokenizer& tokenizer;
  const GenerationConfig config;
  uint64_t next_id = 0;
  std::deque<std::shared_ptr<Request>> queue;
  std::vector<Reading> readings;  // of fixed shapes
  int64_t chunks_left = 0;        // to be read in this step
  std::deque<Waiting> waiting;    // samples of the prompts that were read last, the next one first
  std::vector<ReadPrompt> prompts;  // those prompts
  Tensor prompt_logits;             // of what may follow each of those: float [prompt, vocabulary]
  Tensor prompt_weights;            // the same by its request's settings
  std::list<Lane> lanes;
  KeptPrompts kept;
  int64_t tokens_read = 0;
  std::vector<GenerationEvent> events;
};

int64_t Generation::Impl::under_way() const {
  int64_t rows = 0;
  for (const Lane& lane : lanes) rows += std::ssize(lane.rows);
  return rows;
}

Lane& Generation::Impl::lane_of(const Transformer* model) {
  for (Lane& lane : lanes)
    if (lane.model == model) return lane;
  return lanes.emplace_back(Lane{.model = model});
}

// A cache for so many more rows, none of which is longer than this, and for those that wait: rows
// are moved as seldom as may be. One place more than is used, for padding.
void Generation::Impl::make_room(Lane& lane, int64_t more, int64_t length) const {
  const auto slots_of = [&](int64_t rows) {
    if (!lane.on_cpu()) return rows;
    return round_up(rows, config.shapes == Shapes::fixed ? kFixedRows : grain(rows));
  };
  int64_t rows = std::ssize(lane.rows) + more;
  const int64_t slots = lane.cache ? lane.cache->keys[0].size(0) : 0;
  if (slots >= slots_of(rows) && lane.cache->capacity > length) return;
  for (const Waiting& each : waiting) rows += each.request->model == lane.model;
  const auto count = [&](const Request& request) {
    if (request.model != lane.model) return;
    rows += request.samples;
    length = std::max(length, request.length(places()));
  };
  for (const Reading& each : readings) count(*each.request);
  for (const auto& request : queue) count(*request);
  KeyValueCache larger(lane.model->config(), std::max(slots, slots_of(std::min(rows, config.rows))),
                       std::max(length + 1, lane.cache ? lane.cache->capacity : 0),
                       lane.model->options());
  std::vector<int64_t> all;
  int64_t longest = 0;
  for (const Row& row : lane.rows) {
    all.push_back(std::ssize(all));
    longest = std::max(longest, row.position);
  }
  if (!all.empty()) larger.copy(*lane.cache, all, all, longest);
  lane.cache = std::move(larger);
}

void Generation::Impl::admit() {
  chunks_left = std::max(kChunksAStep, threads());
  while (under_way() < config.rows && (!waiting.empty() || !readings.empty() || !queue.empty())) {
    if (waiting.empty() && !read_prompts()) return;
    start_waiting();
  }
}

// False: none was read to its end, and the next step goes on.
bool Generation::Impl::read_prompts() {
  std::vector<std::shared_ptr<Request>> next;
  if (config.shapes == Shapes::fixed) {
    const int64_t most = std::min(config.rows - under_way(), kPromptsAtOnce);
    for (; std::ssize(readings) < most && !queue.empty(); queue.pop_front())
      readings.push_back({.request = std::move(queue.front())});
    next = read_apart();
    if (next.empty()) return false;
  } else {
    const int64_t most = std::min(config.rows, kPromptsAtOnce);
    for (; std::ssize(next) < most && !queue.empty(); queue.pop_front()) {
      if (!next.empty() && next[0]->model != queue[0]->model) break;
      next.push_back(std::move(queue.front()));
    }
    read_together(next);
  }
  std::vector<const SamplingConfig*> settings;
  for (const auto& request : next) settings.push_back(&request->sampling);
  prompt_weights = weights_of(prompt_logits, settings);
  for (size_t i = 0; i < next.size(); ++i)
    for (int64_t sample = 0; sample < next[i]->samples; ++sample)
      waiting.push_back({next[i], sample, static_cast<int64_t>(i)});
  return true;
}

// Prompts of one model side by side, padded at their ends.
void Generation::Impl::read_together(std::span<const std::shared_ptr<Request>> requests) {
  const Transformer& model = *requests[0]->model;
  const bool on_cpu = model.embedding.is_cpu();
  const auto count = std::ssize(requests);
  int64_t time = 0;
  for (const auto& request : requests) time = std::max(time, std::ssize(request->prompt));
  time = round_up(time, kLengthMultiple);
  PaddedTexts padded(count, time);
  const Tensor ends = at::empty({count}, at::kLong);  // of each prompt, in its row
  for (int64_t row = 0; row < count; ++row) {
    const std::vector<int32_t>& prompt = requests[static_cast<size_t>(row)]->prompt;
    padded.put(row, prompt);
    ends.data_ptr<int64_t>()[row] = std::ssize(prompt) - 1;
    tokens_read += std::ssize(prompt);
  }
  const auto cache =
      std::make_shared<KeyValueCache>(model.config(), count, time + 1, model.options());
  prompt_logits = at::empty({count, model.config().vocab_size}, model.options().dtype(at::kFloat));
  const Blocks blocks{count, on_cpu ? kPromptsABlock : count};
  parallel(blocks.count(), [&](int64_t block) {
    const int64_t begin = blocks.begin(block), size = blocks.size(block);
    const auto part = [&](const Tensor& all) { return all.narrow(0, begin, size); };
    KeyValueCache of_block = cache->rows(begin, size);
    const Tensor kept_places = part(ends) + at::arange(size) * time;
    const Tensor hidden =
        model.hidden(part(padded.ids), part(padded.positions), of_block, kept_places).squeeze(0);
    part(prompt_logits).copy_(model.logits(hidden));
  });
  prompts.clear();
  for (int64_t row = 0; row < count; ++row) prompts.push_back({cache, row});
}

// Each prompt by itself, chunk by chunk and a few in each step, so that a long one does not hold up
// what is under way. Returns those that were read to their end.
std::vector<std::shared_ptr<Request>> Generation::Impl::read_apart() {
  std::vector<std::shared_ptr<Request>> done;
  std::vector<Tensor> logits;
  prompts.clear();
  while (chunks_left > 0 && !readings.empty()) {
    std::vector<Reading*> now;
    for (Reading& each : readings) {
      if (std::ssize(now) == chunks_left) break;
      if ((each.begun || begin(each)) && !each.whole) now.push_back(&each);
    }
    chunks_left -= std::ssize(now);
    parallel(std::ssize(now), [&](int64_t i) {
      Reading& each = *now[static_cast<size_t>(i)];
      const std::vector<int32_t>& ids = each.begun->ids;
      const int64_t count = std::min(kChunk, std::ssize(ids) - each.read);
      PaddedTexts chunk(1, kChunk);
      chunk.put(0,
                std::span(ids).subspan(static_cast<size_t>(each.read), static_cast<size_t>(count)),
                each.read);
      each.hidden.push_back(
          each.begun->model->hidden(chunk.ids, chunk.positions, *each.begun->cache)
              .squeeze(0)
              .narrow(0, 0, count));
      each.read += count;
      if (each.read < std::ssize(ids)) return;
      each.begun->hidden = at::cat(each.hidden);
      each.whole = each.begun;
    });
    for (const Reading& each : readings) {
      if (!each.whole) continue;
      if (each.begun) kept.keep(each.whole);
      tokens_read += std::ssize(each.request->prompt) - each.shared;
      const Tensor& hidden = each.whole->hidden;
      const int64_t last = std::ssize(each.request->prompt) - 1;
      prompts.push_back({each.whole->cache, 0});
      logits.push_back(each.request->model->logits(hidden.narrow(0, last, 1)));
      if (each.request->prompt_logprobs) score_prompt(*each.request, hidden);
      done.push_back(each.request);
    }
    std::erase_if(readings, [](const Reading& each) { return each.whole != nullptr; });
  }
  if (!done.empty()) prompt_logits = at::cat(logits).to(at::kFloat);
  return done;
}

// False: it has more in common with one that is being read than with those that are kept, and is
// read behind that one.
bool Generation::Impl::begin(Reading& reading) {
  const Request& request = *reading.request;
  const auto [like, shared] = kept.find(request.model, request.prompt);
  reading.shared = reading.read = shared;
  if (shared == std::ssize(request.prompt)) {
    reading.whole = like;
    return true;
  }
  for (const Reading& other : readings) {
    if (!other.begun || other.request->model != request.model) continue;
    const int64_t common = shared_tokens(other.request->prompt, request.prompt);
    if (other.request->prompt == request.prompt || common / kChunk * kChunk > shared) return false;
  }
  reading.begun = std::make_shared<KeptPrompt>();
  reading.begun->model = request.model;
  reading.begun->ids = request.prompt;
  reading.begun->cache = std::make_shared<KeyValueCache>(
      request.model->config(), 1, std::ssize(request.prompt) + 1, request.model->options());
  if (shared > 0) {
    reading.begun->cache->copy(*like->cache, {0}, {0}, shared);
    reading.hidden.push_back(like->hidden.narrow(0, 0, shared));
  }
  return true;
}

void Generation::Impl::score_prompt(const Request& request, const Tensor& hidden) {
  GenerationEvent event{.request = request.id, .sample = -1};
  const std::span<const int32_t> followers = std::span(request.prompt).subspan(1);
  for (int64_t begin = 0; begin < std::ssize(followers); begin += kChunk) {
    const int64_t count = std::min(kChunk, std::ssize(followers) - begin);
    const Tensor logits = request.model->logits(hidden.narrow(0, begin, count)).to(at::kFloat);
    std::vector<LogprobRequest> asked;
    for (int64_t i = 0; i < count; ++i)
      asked.push_back({i, followers[static_cast<size_t>(begin + i)], request.logprobs.value_or(0)});
    std::ranges::move(logprobs_of(logits, asked), std::back_inserter(event.logprobs));
  }
  events.push_back(std::move(event));
}

void Generation::Impl::start_waiting() {
  std::vector<Row> begun;
  std::vector<int64_t> its_prompt;
  for (int64_t free = config.rows - under_way(); free > 0 && !waiting.empty();
       waiting.pop_front()) {
    const Waiting& next = waiting.front();
    Request& request = *next.request;
    if (request.sampling.max_new_tokens == 0) {  // of its prompt alone something was asked
      events.push_back({.request = request.id,
                        .sample = next.sample,
                        .completion = Completion{.finish_reason = "length"},
                        .last = --request.left == 0});
      continue;
    }
    begun.push_back({.request = next.request,
                     .sample = next.sample,
                     .random = request.random.fork(static_cast<uint64_t>(next.sample)),
                     .position = std::ssize(request.prompt)});
    its_prompt.push_back(next.prompt);
    --free;
  }
  std::vector<Draw> draws;
  for (size_t i = 0; i < begun.size(); ++i)
    draws.push_back({its_prompt[i], &begun[i].request->sampling, &begun[i].random});
  if (draws.empty()) return;
  const std::vector<int32_t> first = draw(prompt_weights, draws);
  struct Copy {
    std::vector<int64_t> from, to;  // slots of prompts, and of rows
    int64_t length = 0;
  };
  std::map<std::pair<Lane*, const KeyValueCache*>, Copy> copies;
  std::map<Lane*, std::pair<int64_t, int64_t>> room;  // rows, and the longest of them
  std::vector<LogprobRequest> asked;
  for (size_t i = 0; i < begun.size(); ++i) begun[i].ask(asked, its_prompt[i], first[i]);
  std::vector<TokenLogprob> logprobs = logprobs_of(prompt_logits, asked);
  auto next_logprob = logprobs.begin();
  for (size_t i = 0; i < begun.size(); ++i) {
    Row& row = begun[i];
    accept(row, first[i], row.taken_from(next_logprob));
    if (row.finished) continue;
    auto& [rows, length] = room[&lane_of(row.request->model)];
    ++rows;
    length = std::max(length, row.request->length(places()));
  }
  for (const auto& [lane, needed] : room) make_room(*lane, needed.first, needed.second);
  for (size_t i = 0; i < begun.size(); ++i) {
    if (begun[i].finished) continue;
    Lane& lane = lane_of(begun[i].request->model);
    const ReadPrompt& prompt = prompts[static_cast<size_t>(its_prompt[i])];
    Copy& copy = copies[{&lane, prompt.cache.get()}];
    copy.from.push_back(prompt.slot);
    copy.to.push_back(std::ssize(lane.rows));
    copy.length = std::max(copy.length, begun[i].position);
    lane.rows.push_back(std::move(begun[i]));
  }
  for (const auto& [between, copy] : copies)
    between.first->cache->copy(*between.second, copy.from, copy.to, copy.length);
}

void Generation::Impl::advance() {
  struct Block {
    Lane* lane;
    const PaddedTexts* next;
    int64_t begin, size;
  };
  std::list<PaddedTexts> next;
  std::vector<Block> blocks;
  for (Lane& lane : lanes) {
    const auto count = std::ssize(lane.rows);
    if (count == 0) continue;
    int64_t longest = 0;
    for (const Row& row : lane.rows) longest = std::max(longest, row.position + 1);
    if (longest >= lane.cache->capacity)
      make_room(lane, 0, std::min(2 * longest, lane.rows[0].request->context()));
    const bool fixed = config.shapes == Shapes::fixed && lane.on_cpu();
    const int64_t multiple = fixed ? kFixedRows : lane.on_cpu() ? grain(count) : 1;
    const int64_t padded = round_up(count, multiple);
    const Blocks cut{padded, fixed ? kFixedRows : lane.on_cpu() ? kRowsABlock : padded, multiple};
    PaddedTexts& tokens = next.emplace_back(padded, 1);
    for (int64_t r = 0; r < count; ++r) {
      Row& row = lane.rows[static_cast<size_t>(r)];
      tokens.put(r, {&row.token, 1}, row.position++);
    }
    for (int64_t block = 0; block < cut.count(); ++block)
      blocks.push_back({&lane, &tokens, cut.begin(block), cut.size(block)});
  }
  std::vector<std::vector<int32_t>> drawn(blocks.size());
  std::vector<std::vector<TokenLogprob>> logprobs(blocks.size());
  parallel(std::ssize(blocks), [&](int64_t b) {
    const auto& [lane, tokens, begin, size] = blocks[static_cast<size_t>(b)];
    const int64_t offset = begin, length = size;
    const auto part = [&](const Tensor& all) { return all.narrow(0, offset, length); };
    const Transformer& model = *lane->model;
    KeyValueCache of_block = lane->cache->rows(begin, size);
    const Tensor hidden = model.hidden(part(tokens->ids), part(tokens->positions), of_block);
    const Tensor logits = model.logits(hidden.squeeze(1)).to(at::kFloat);
    std::vector<Draw> draws;
    std::vector<const SamplingConfig*> settings;
    const auto count = std::min(size, std::ssize(lane->rows) - begin);
    for (int64_t r = 0; r < count; ++r) {
      Row& row = lane->rows[static_cast<size_t>(begin + r)];
      draws.push_back({r, &row.request->sampling, &row.random});
      settings.push_back(&row.request->sampling);
    }
    std::vector<int32_t>& ids = drawn[static_cast<size_t>(b)];
    ids = draw(weights_of(logits, settings), draws);
    std::vector<LogprobRequest> asked;
    for (int64_t r = 0; r < count; ++r)
      lane->rows[static_cast<size_t>(begin + r)].ask(asked, r, ids[static_cast<size_t>(r)]);
    logprobs[static_cast<size_t>(b)] = logprobs_of(logits, asked);
  });
  for (size_t b = 0; b < blocks.size(); ++b) {
    auto next_logprob = logprobs[b].begin();
    for (size_t r = 0; r < drawn[b].size(); ++r) {
      Row& row = blocks[b].lane->rows[static_cast<size_t>(blocks[b].begin) + r];
      accept(row, drawn[b][r], row.taken_from(next_logprob));
    }
  }
}

void Generation::Impl::retire() {
  for (Lane& lane : lanes) {
    for (size_t r = lane.rows.size(); r-- > 0;)
      if (lane.rows[r].finished) remove(lane, r);
    if (lane.rows.empty()) lane.cache.reset();  // what is idle takes no memory
  }
}

// The last row takes the free slot, so that the rows under way are always the first ones.
void Generation::Impl::remove(Lane& lane, size_t row) const {
  const size_t last = lane.rows.size() - 1;
  if (row != last) {
    lane.cache->copy(*lane.cache, {static_cast<int64_t>(last)}, {static_cast<int64_t>(row)},
                     lane.rows[last].position);
    lane.rows[row] = std::move(lane.rows.back());
  }
  lane.rows.pop_back();
}

// Whether a stop string may end in the last token. The end of the text tells: to decode all of it
// for every token would take the square of its length.
bool Generation::Impl::may_end_a_stop(const Row& row) const {
  const std::span<const int32_t> all(row.completion.ids);
  const Stops& stops = row.request->stops;
  // A tokenizer may drop a space, or a part of a character, where a text begins.
  const size_t enough = stops.longest + tokenizer.decode(all.last(1)).size() + 8;
  for (size_t count = 16;; count *= 2) {
    const std::string text = tokenizer.decode(all.last(std::min(count, all.size())));
    if (count >= all.size() || text.size() >= enough) return stops.find(text).has_value();
  }
}

// Takes a token that was drawn, with its log-probability where that is asked for.
void Generation::Impl::accept(Row& row, int32_t token, std::optional<TokenLogprob> logprob) {
  const size_t before = row.completion.ids.size();
  extend(row, token);
  if (row.completion.ids.size() == before) logprob.reset();  // the token ends the text
  if (logprob) row.completion.logprobs.push_back(*logprob);
  GenerationEvent event{.request = row.request->id, .sample = row.sample};
  if (row.request->stream) {
    event.text = shown_next(row);
    if (logprob) event.logprobs.push_back(std::move(*logprob));
  }
  row.finished = !row.completion.finish_reason.empty();
  if (row.finished) {
    event.completion = std::move(row.completion);
    event.last = --row.request->left == 0;
  }
  if (row.finished || !event.text.empty() || !event.logprobs.empty())
    events.push_back(std::move(event));
}

void Generation::Impl::extend(Row& row, int32_t token) const {
  Completion& c = row.completion;
  const Stops& stops = row.request->stops;
  if (std::ranges::find(stops.ids, token) != stops.ids.end()) {
    c.finish_reason = "stop";
    c.text = tokenizer.decode(c.ids);
    return;
  }
  c.ids.push_back(token);
  if (!stops.strings.empty() && may_end_a_stop(row)) {
    const std::string text = tokenizer.decode(c.ids);
    if (const auto at = stops.find(text)) {
      c.finish_reason = "stop";
      c.text = text.substr(0, *at);
      return;
    }
  }
  row.token = token;
  if (std::ssize(c.ids) < row.request->sampling.max_new_tokens &&
      row.position < row.request->context())
    return;
  c.finish_reason = "length";
  c.text = tokenizer.decode(c.ids);
}

// What of a row's text may be shown next: whole characters, none of which a stop string may come to
// take back.
std::string Generation::Impl::shown_next(Row& row) const {
  const Completion& c = row.completion;
  if (!c.finish_reason.empty())
    return c.text.size() > row.shown ? c.text.substr(row.shown) : std::string();
  const std::span<const int32_t> recent = std::span(c.ids).subspan(row.anchor);
  const std::string before = tokenizer.decode(recent.first(row.settled - row.anchor)),
                    now = tokenizer.decode(recent);
  // What ends in a part of a character waits for the rest of it.
  if (valid_utf8(now).ends_with("\uFFFD") || now.size() < before.size()) return "";
  row.text += now.substr(before.size());
  row.anchor = row.settled;
  row.settled = c.ids.size();
  const size_t end = row.text.size() - row.request->stops.begun(row.text);
  if (end <= row.shown) return "";
  return row.text.substr(std::exchange(row.shown, end), end - row.shown);
}

Generation::Generation(const Tokenizer& tokenizer, GenerationConfig config)
    : impl_(std::make_unique<Impl>(tokenizer, config)) {}
Generation::~Generation() = default;

void check_prompt(const Transformer& model, const Tokenizer& tokenizer,
                  const std::vector<int32_t>& prompt, int64_t max_new_tokens) {
  check_vocabulary(model, tokenizer);
  check_ids(model, tokenizer, prompt);
  const int64_t context = model.config().max_position_embeddings;
  if (prompt.empty()) throw Error("the prompt has no tokens", {}, "give it some text");
  if (std::ssize(prompt) + std::min<int64_t>(max_new_tokens, 1) > context)
    throw Error("the prompt has " + std::to_string(prompt.size()) +
                    " tokens; the model's context is " + std::to_string(context),
                {}, "shorten the prompt");
}

uint64_t Generation::add(GenerationRequest request) {
  check_prompt(*request.model, impl_->tokenizer, request.prompt, request.sampling.max_new_tokens);
  const uint64_t id = impl_->next_id++;
  impl_->queue.push_back(std::make_shared<Request>(id, std::move(request), impl_->tokenizer));
  return id;
}

void Generation::cancel(uint64_t request) {
  const auto its = [&](const auto& each) { return each.request->id == request; };
  std::erase_if(impl_->queue, [&](const auto& each) { return each->id == request; });
  std::erase_if(impl_->readings, its);
  std::erase_if(impl_->waiting, its);
  for (Lane& lane : impl_->lanes)
    for (Row& row : lane.rows)
      if (its(row)) row.finished = true;
  impl_->retire();
}

std::vector<GenerationEvent> Generation::step() {
  const at::NoGradGuard no_grad;
  impl_->admit();
  impl_->advance();
  impl_->retire();
  return std::exchange(impl_->events, {});
}

bool Generation::busy() const {
  return !impl_->queue.empty() || !impl_->readings.empty() || !impl_->waiting.empty() ||
         impl_->under_way() > 0;
}

int64_t Generation::waiting() const {
  int64_t samples = std::ssize(impl_->waiting);
  for (const Reading& each : impl_->readings) samples += each.request->samples;
  for (const auto& request : impl_->queue) samples += request->samples;
  return samples;
}

int64_t Generation::rows() const { return impl_->under_way(); }

int64_t Generation::prompt_tokens_read() const { return impl_->tokens_read; }

}  // namespace inoculum
