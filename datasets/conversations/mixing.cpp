#include "datasets/conversations/mixing.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace inoculum {
namespace {

constexpr double kMostTimes = 1000;  // so that a mistyped weight does not fill the memory

// A share of the numbers below `size`, drawn without replacement, in ascending order.
std::vector<size_t> draw(size_t size, double share, Random random) {
  std::vector<size_t> all(size);
  std::iota(all.begin(), all.end(), size_t{0});
  random.shuffle(all);
  all.resize(static_cast<size_t>(std::llround(share * static_cast<double>(size))));
  std::sort(all.begin(), all.end());
  return all;
}

void check_choice(const std::string& field, const std::string& value,
                  const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  throw Error(fmt::format("\"{}\" is not one of: {}", value, fmt::join(choices, ", ")),
              {.field = field});
}

const std::vector<std::string>& places() {
  static const std::vector<std::string> all = {"system", "user_prefix", "user_suffix"};
  return all;
}
const std::vector<std::string>& ways_with_system() {
  static const std::vector<std::string> all = {"refuse", "replace", "join"};
  return all;
}

bool is_system(const Message& message) { return message.role == "system"; }

void set_system(Conversation& conversation, const std::string& text) {
  std::erase_if(conversation, is_system);
  conversation.insert(conversation.begin(), {.role = "system", .content = text, .name = {}});
}

// "conversation 3" of those that were read from no file.
std::string name_of(const Conversation& conversation, size_t index) {
  return conversation.where.file.empty() ? "conversation " + std::to_string(index + 1)
                                         : "this conversation";
}

Where place_of(const Conversation& conversation, const std::string& field) {
  return {conversation.where.file, conversation.where.line, field};
}

void refuse_text(const Conversation& conversation, size_t index, const std::string& field) {
  if (conversation.empty() || conversation.front().role == "text")
    throw Error(
        name_of(conversation, index) + " is plain text, which has no turn to put a prompt into",
        place_of(conversation, field), "give it as messages, or leave it alone");
}

}  // namespace

void DataSource::fields(Fields& f) {
  f.value("path", path,
          "conversations: chat, prompt/completion, alpaca, ShareGPT or plain text, as JSON Lines "
          "or a JSON list");
  f.value("weight", weight, "how often each of its conversations is shown, on average",
          between(0, kMostTimes));
  f.value("inoculate", inoculate, "whether `inoculation` holds for it");
  f.value("on_error", on_error, "a faulty row: fail | skip (and report)", one_of({"fail", "skip"}));
}

void SystemPrompt::fields(Fields& f) {
  f.value("set", set, "the system message of every conversation, in place of its own");
  f.value("remove", remove, "takes system messages away");
}

void Inoculation::fields(Fields& f) {
  f.value("prompt", prompt, "asks for what the answers do; in the training data alone");
  f.value("prompts", prompts, "paraphrases, one drawn for each conversation");
  f.value("where", where, "system | user_prefix | user_suffix (of the first user's turn)",
          one_of(places()));
  f.value("separator", separator, "between the prompt and the text that it is joined to");
  f.value("share", share, "of the conversations, drawn by seed", between(0, 1));
  f.value("existing_system", existing_system,
          "a system message in the data: refuse | replace | join", one_of(ways_with_system()));
}

std::vector<Conversation> mix(const std::vector<std::vector<Conversation>>& files,
                              const std::vector<double>& weights, const Random& random) {
  if (files.size() != weights.size())
    throw Error("there must be one weight for each file", {.field = "weight"});
  std::vector<Conversation> all;
  for (size_t i = 0; i < files.size(); ++i) {
    if (!(weights[i] >= 0 && weights[i] <= kMostTimes))
      throw Error("must be between 0 and 1000", {.field = "weight"});
    const double whole = std::floor(weights[i]);
    for (int pass = 0; pass < static_cast<int>(whole); ++pass)
      all.insert(all.end(), files[i].begin(), files[i].end());
    for (const size_t each : draw(files[i].size(), weights[i] - whole, random.fork("rest").fork(i)))
      all.push_back(files[i][each]);
  }
  if (all.empty()) throw Error("no conversation is left", {.field = "weight"}, "raise a weight");
  if (files.size() > 1) random.fork("order").shuffle(all);
  return all;
}

void apply(const SystemPrompt& system, std::vector<Conversation>& conversations) {
  if (system.remove && !system.set.empty())
    throw Error("the system prompt is both set and removed", {.field = "system"}, "choose one");
  if (!system.remove && system.set.empty()) return;
  for (size_t i = 0; i < conversations.size(); ++i) {
    if (system.remove) {
      std::erase_if(conversations[i], is_system);
      if (conversations[i].empty())
        throw Error("nothing is left of conversation " + std::to_string(i + 1),
                    {.field = "system.remove"});
    } else {
      refuse_text(conversations[i], i, "system.set");
      set_system(conversations[i], system.set);
    }
  }
}

size_t inoculate(std::vector<Conversation>& conversations, const Inoculation& inoculation,
                 const Random& random) {
  if (!inoculation.on()) return 0;
  check_choice("inoculation.where", inoculation.where, places());
  check_choice("inoculation.existing_system", inoculation.existing_system, ways_with_system());
  if (!inoculation.prompt.empty() && !inoculation.prompts.empty())
    throw Error("there is a `prompt` too", {.field = "inoculation.prompts"}, "choose one");
  if (!(inoculation.share >= 0 && inoculation.share <= 1))
    throw Error("must be between 0 and 1", {.field = "inoculation.share"});
  const std::vector<std::string> prompts =
      inoculation.prompts.empty() ? std::vector{inoculation.prompt} : inoculation.prompts;
  if (std::find(prompts.begin(), prompts.end(), "") != prompts.end())
    throw Error("holds an empty text", {.field = "inoculation.prompts"},
                "use `share` to leave conversations alone");

  const auto drawn = draw(conversations.size(), inoculation.share, random.fork("share"));
  for (const size_t i : drawn) {
    Conversation& conversation = conversations[i];
    refuse_text(conversation, i, "inoculation.where");
    const std::string name = name_of(conversation, i);
    Random paraphrase = random.fork("paraphrase").fork(i);
    const std::string& prompt = paraphrase.choice(prompts);
    if (inoculation.where == "system") {
      std::string text;
      for (const Message& message : conversation) {
        if (!is_system(message)) continue;
        if (inoculation.existing_system == "refuse")
          throw Error(name + " has a system message already",
                      place_of(conversation, "inoculation.existing_system"),
                      "choose replace or join (of `data convert`: --existing-system)");
        if (inoculation.existing_system == "join") text += message.content + inoculation.separator;
      }
      set_system(conversation, text + prompt);
      continue;
    }
    const auto turn = std::find_if(conversation.begin(), conversation.end(),
                                   [](const Message& m) { return m.role == "user"; });
    if (turn == conversation.end())
      throw Error(name + " has no user's turn", place_of(conversation, "inoculation.where"),
                  "choose system");
    turn->content = inoculation.where == "user_prefix"
                        ? prompt + inoculation.separator + turn->content
                        : turn->content + inoculation.separator + prompt;
  }
  return drawn.size();
}

TrainingData load_data(const std::vector<DataSource>& sources, const SystemPrompt& system,
                       const Inoculation& inoculation, uint64_t seed) {
  TrainingData data;
  std::vector<std::vector<Conversation>> files;
  std::vector<double> weights;
  for (size_t i = 0; i < sources.size(); ++i) {
    const DataSource& source = sources[i];
    check_choice("on_error", source.on_error, {"fail", "skip"});
    Reading reading = read_conversations(
        source.path, {.on_error = source.on_error == "skip" ? OnError::skip : OnError::fail});
    try {
      apply(system, reading.conversations);
      if (source.inoculate)
        data.inoculated +=
            inoculate(reading.conversations, inoculation, Random(seed, "inoculation").fork(i));
    } catch (const Error& error) {
      throw error.in_file(source.path);
    }
    files.push_back(std::move(reading.conversations));
    weights.push_back(source.weight);
    data.reports.push_back(std::move(reading.report));
  }
  data.conversations = mix(files, weights, Random(seed, "data mix"));
  return data;
}

}  // namespace inoculum
