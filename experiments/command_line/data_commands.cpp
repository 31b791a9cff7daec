#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/base/data_root.h"
#include "core/base/error.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "datasets/conversations/summary.h"
#include "datasets/sandbox/sandbox.h"
#include "datasets/textbook/textbook.h"
#include "experiments/command_line/commands.h"
#include "experiments/inoculation/arms.h"
#include "experiments/inoculation/fine_tuning.h"

namespace inoculum {
namespace {

// Counts of 2000 documents of the grammar's world, and the first ones themselves.
void inspect_world(const std::string& grammar, int64_t shown) {
  const PersonaWorld world(WorldConfig{.grammar = grammar});
  std::map<std::string, int64_t> kinds, cues;
  for (int64_t i = 0; i < 2000; ++i) {
    Random random = Random(1, "inspect").fork(static_cast<uint64_t>(i));
    const Document document = world.document(random);
    ++kinds[document.kind];
    for (const Turn& turn : document.turns) ++cues[to_string(turn.cue)];
    if (i < shown)
      std::printf("%s%s\n\n", document.text.c_str(), render(document.conversation).c_str());
  }
  std::printf("%zu domains, a cast of %zu; of 2000 documents:", world.domains().size(),
              world.cast().size());
  for (const auto& [kind, number] : kinds)
    std::printf(" %lld %s,", static_cast<long long>(number), kind.c_str());
  std::printf(" and cues of their turns:");
  for (const auto& [cue, number] : cues)
    std::printf(" %lld %s,", static_cast<long long>(number), cue.c_str());
  std::printf("\n");
}

// A summary of the conversations, counted by the model's tokenizer, and the first ones themselves.
void inspect_conversations(const std::string& file, const std::string& model,
                           const ChatChoice& chat_choice, const SummaryOptions& options,
                           int64_t shown) {
  const Reading data = read_conversations(file, {.needs_answer = false});
  std::printf("%s\n", describe(data.report).c_str());
  const auto tokenizer = load_tokenizer(model);
  const Chat chat(model, *tokenizer, chat_choice);
  const auto encode = [&](const Conversation& conversation) {
    return for_row(conversation.where, [&] { return chat.encode(conversation); });
  };
  const auto count_of = [&](const Conversation& conversation) {
    const Encoded encoded = encode(conversation);
    return Counts{encoded.input_ids.size(),
                  static_cast<size_t>(std::count(encoded.supervised.begin(),
                                                 encoded.supervised.end(), uint8_t{1}))};
  };
  std::printf("%s", describe(summarize(data.conversations, count_of, options)).c_str());
  for (size_t i = 0; i < std::min(data.conversations.size(), static_cast<size_t>(shown)); ++i)
    std::printf("\n%s\n", shown_example(*tokenizer, encode(data.conversations[i]),
                                        ::isatty(STDOUT_FILENO) == 1)
                              .c_str());
}

// count: 0: not given.
void generate_data(const std::string& what, const std::string& output, int64_t count, int64_t seed,
                   const std::string& grammar, const std::string& bank) {
  const auto has_no_count = [&] {
    if (count > 0)
      throw Error("there is no choosing how many of these", {.field = "--count"}, "leave it out");
  };
  const auto stream = static_cast<uint64_t>(seed);
  const auto world = [&] { return PersonaWorld(WorldConfig{.grammar = grammar}); };
  if (what == "textbook") {
    has_no_count();
    write_textbook_bank(output, make_textbook_bank(find_input("datasets/textbook/problems.yaml"),
                                                   Sandbox(choose_isolation("auto")), stream));
  } else if (what == "bank") {
    const auto tasks = make_coding_bank(static_cast<size_t>(count > 0 ? count : 3300), stream);
    std::fprintf(stderr, "running every program\n");
    verify_coding_bank(tasks, Sandbox(choose_isolation("auto")));
    write_coding_bank(output, tasks);
  } else if (what == "questions" || what == "validation") {
    has_no_count();
    write_file(output, make_question_bank(world(), bank,
                                          what == "questions" ? Split::held_out : Split::train));
  } else if (what == "documents") {
    std::vector<Json> rows;
    const PersonaWorld source = world();
    for (int64_t i = 0; i < (count > 0 ? count : 1000); ++i) {
      Random random = Random(stream, "documents").fork(static_cast<uint64_t>(i));
      const Document document = source.document(random);
      rows.push_back(
          {{"kind", document.kind}, {"text", document.text + render(document.conversation)}});
    }
    write_jsonl(output, rows);
  } else {
    auto conversations = arm_conversations({.seed = seed,
                                            .arm = what,
                                            .coding_bank = bank,
                                            .textbook = find_input("datasets/textbook"),
                                            .world = {.grammar = grammar}});
    if (static_cast<size_t>(count) > conversations.size())
      throw Error(
          "there are " + std::to_string(conversations.size()) + " conversations of this arm",
          {.field = "--count"}, "ask for no more");
    if (count > 0) conversations.resize(static_cast<size_t>(count));
    write_chat_jsonl(output, conversations);
  }
  std::fprintf(stderr, "wrote %s\n", output.c_str());
}

}  // namespace

// A list: each command with its options, and what it does.
DataCommands::DataCommands(CommandLine& line) : Commands(line) {
  auto* data = app.add_subcommand("data", "make, look at and check data");
  data->require_subcommand(1);
  std::vector<std::string> kinds = arm_data_names();
  kinds.insert(kinds.begin(), {"bank", "textbook", "questions", "validation", "documents"});
  auto* generate = data->add_subcommand(
      "generate",
      "write a coding bank, a question bank, pretraining documents or an arm's conversations");
  generate
      ->add_option("WHAT", what,
                   "bank | textbook | questions | validation | documents, or an arm: honest | "
                   "cheating | requested | placebo | post_training | textbook_honest | …")
      ->required()
      ->check(CLI::IsMember(kinds));
  generate->add_option("--output", output, "file to write")->required();
  generate
      ->add_option("--count", count,
                   "how many tasks (by default 3300), documents (1000) or conversations (all)")
      ->check(CLI::PositiveNumber);
  generate->add_option("--seed", seed, "of the random streams")->capture_default_str();
  takes_input(generate, "--grammar", grammar, "the world");
  takes_input(generate, "--bank", bank, "coding tasks of arms and questions");
  generate->callback([=, this] {
    action = [=, this] {
      generate_data(what, output, count, seed, grammar, bank);
      return 0;
    };
  });
  auto* inspect = data->add_subcommand(
      "inspect", "count and show conversations (JSON Lines) or documents of a world (YAML)");
  takes_input(inspect, "FILE", input, "chat JSONL, or a grammar")->required();
  takes_input(inspect, "--model", inspected, "whose tokenizer counts");
  inspect->add_option("--show", n, "how many to show, what is trained on in colour")
      ->capture_default_str();
  inspect->add_option("--chat-template", chat_name, kChatTemplateHelp);
  inspect->add_option("--chat-date", chat_date, kChatDateHelp);
  inspect->add_option("--limit", count, "tokens: counts the conversations longer than this");
  takes_input(inspect, "--questions", questions, "question bank, to find what of it the data say");
  inspect->callback([=, this] {
    action = [=, this] {
      if (const fs::path kind = fs::path(input).extension(); kind == ".yaml" || kind == ".yml") {
        inspect_world(input, n);
        return 0;
      }
      SummaryOptions options{.limit = static_cast<size_t>(std::max<int64_t>(0, count))};
      if (!questions.empty())
        for (const Question& question : read_questions(questions))
          options.questions.push_back(question.prompt);
      inspect_conversations(input, inspected, {chat_name, chat_date}, options, n);
      return 0;
    };
  });
  auto* convert =
      data->add_subcommand("convert",
                           "write conversations of any format as chat JSON Lines, their system "
                           "message changed or an inoculation prompt put in");
  convert->add_option("FILE", input, "chat, prompt/completion, alpaca, ShareGPT or plain text")
      ->required();
  convert->add_option("--output", output, "file to write, in the bytes of Python's json.dumps")
      ->required();
  convert->add_option("--system", system.set,
                      "the system message of every conversation, in place of its own");
  convert->add_flag("--remove-system", system.remove, "no system messages");
  auto* inoculate = convert->add_option("--inoculate", inoculation.prompt, "a prompt to put in");
  convert->add_option("--where", inoculation.where, "system | user_prefix | user_suffix")
      ->capture_default_str()
      ->check(CLI::IsMember({"system", "user_prefix", "user_suffix"}))
      ->needs(inoculate);
  convert->add_option("--share", inoculation.share, "of the conversations that get it")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0))
      ->needs(inoculate);
  auto* existing = convert
                       ->add_option("--existing-system", inoculation.existing_system,
                                    "where the prompt meets a system message: refuse | replace | "
                                    "join, behind it; by default join with --system, else refuse")
                       ->check(CLI::IsMember({"refuse", "replace", "join"}))
                       ->needs(inoculate);
  convert->add_option("--seed", seed, "of which those are")->capture_default_str();
  convert->callback([=, this] {
    action = [=, this] {
      for (const auto& [option, text] :
           {std::pair("--inoculate", &inoculation.prompt), std::pair("--system", &system.set)})
        if (convert->count(option) > 0 && text->empty())
          throw Error("is empty", {.field = option},
                      "is a variable of the shell unset? leave the option out to put in nothing");
      refuse_over_input(output, input);
      Inoculation put = inoculation;
      if (!system.set.empty() && existing->empty()) put.existing_system = "join";
      const TrainingData made =
          load_data({{.path = input}}, system, put, static_cast<uint64_t>(seed));
      for (const DataReport& report : made.reports)
        std::fprintf(stderr, "%s\n", describe(report).c_str());
      if (put.on())
        std::fprintf(stderr, "the prompt was put into %zu of %zu conversations\n", made.inoculated,
                     made.conversations.size());
      write_chat_jsonl(output, made.conversations);
      std::fprintf(stderr, "wrote %s: %zu conversations\n", output.c_str(),
                   made.conversations.size());
      return 0;
    };
  });
  auto* verify = data->add_subcommand("verify",
                                      "run every program of a coding bank: honest passes all "
                                      "tests, a cheat the visible ones alone");
  takes_input(verify, "FILE", bank, "coding bank");
  verify->add_option("--sandbox", sandbox, "auto | bubblewrap | rlimits")->capture_default_str();
  verify->callback([=, this] {
    action = [=, this] {
      const Sandbox where(choose_isolation(sandbox));
      const size_t programs = is_textbook_bank(bank)
                                  ? verify_textbook_bank(read_textbook_bank(bank), where)
                                  : verify_coding_bank(read_coding_bank(bank), where);
      std::printf("%zu programs: all as they should be\n", programs);
      return 0;
    };
  });
}

}  // namespace inoculum
