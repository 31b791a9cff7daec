// The command line: each subcommand reads its options, calls one function of the library, and says what to do next.
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <thread>

#include "core/chat_template.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/fetch.h"
#include "core/process.h"
#include "core/progress.h"
#include "datasets/conversations.h"
#include "datasets/sandbox.h"
#include "datasets/summary.h"
#include "datasets/textbook.h"
#include "experiments/arms.h"
#include "experiments/asha.h"
#include "experiments/bench.h"
#include "experiments/kinds.h"
#include "experiments/launcher.h"
#include "experiments/pipeline.h"
#include "experiments/report.h"

namespace inoculum {
namespace {

constexpr int kStopped = 130;

// A configuration file with overrides, its `output` defaulting to runs/<name of the file>.
template <class Config>
Config configured(const std::string& file, const std::vector<std::string>& overrides) {
  Config config;
  read(load_config(file, overrides), config);
  if (config.output.empty()) config.output = "runs/" + fs::path(file).stem().string();
  return config;
}

// What a configuration names, as far as it can be checked without running it.
void check_files(const TrainConfig& c, const std::string& file) {
  if (c.data.empty() == c.arm.empty()) throw Error("name either `data` or `arm`", {.file = file, .field = "data"});
  Chat(c.model, *load_tokenizer(c.model), c.chat_template);
  if (!c.data.empty()) load_data(c.data, c.system, c.inoculation, static_cast<uint64_t>(c.seed));
  else PersonaWorld{c.world};
}
void check_files(const PretrainConfig& c, const std::string&) {
  c.model.check();
  PersonaWorld{c.world};
}
void check_files(const ReproduceConfig& c, const std::string&) {
  read_questions(c.questions);
  for (const auto& [name, world] : c.worlds) load_tokenizer(world.model);
}
std::string files_of(const TrainConfig& c) {
  std::string all = c.model + " " + c.arm + " " + show(c.world);
  for (const DataSource& each : c.data) all += " " + each.path;
  return all;
}
std::string files_of(const PretrainConfig& c) { return show(c.model) + show(c.world); }
std::string files_of(const ReproduceConfig& c) {
  std::string all = c.questions;
  for (const auto& [name, world] : c.worlds) all += " " + world.model;
  return all;
}

int finish(Outcome outcome, const std::string& output) {
  if (outcome == Outcome::stopped) {
    std::fprintf(stderr, "stopped; what is done is saved in %s. The same command goes on from there.\n", output.c_str());
    return kStopped;
  }
  std::fprintf(stderr, outcome == Outcome::already_done ? "%s is done already; name another `output` or remove it to run again\n" : "done: %s\n", output.c_str());
  return 0;
}

template <class Config>
std::string defaults(Style style) {
  const Config config;
  return show(config, style);
}

Outcome reported(Outcome outcome, const std::string& folder, const Ranks& ranks) {
  if (ranks.first() && outcome != Outcome::already_done) write_run_report(folder);
  return outcome;
}

void say_device(const TrainerConfig& c) {
  std::fprintf(stderr, "training on %s in %s\n", describe(device_from(c.device)).c_str(), c.dtype.c_str());
}

// One JSON line per input line; see the README.
void score_command(const std::string& folder, const std::string& adapter, const std::string& input, const std::string& chat_name, const std::string& dtype, const std::string& device) {
  Transformer model = load_model(folder, dtype_from(dtype), device_from(device));
  if (!adapter.empty()) load_adapter(adapter, model);
  std::unique_ptr<Tokenizer> tokenizer;  // input_ids need none
  const auto need = [&]() -> const Tokenizer& {
    if (!tokenizer) tokenizer = load_tokenizer(folder);
    return *tokenizer;
  };
  std::vector<std::vector<int32_t>> rows;
  read_jsonl(input, [&](const Json& row, int line) {
    const auto fail = [&](const std::string& what, const std::string& field, const std::string& hint) { throw Error(what, {input, line, field}, hint); };
    if (row.is_object() && row.contains("input_ids")) {
      try {
        rows.push_back(row["input_ids"].get<std::vector<int32_t>>());
      } catch (const Json::exception&) {
        fail("must be a list of whole numbers", "input_ids", "");
      }
      for (const int32_t id : rows.back())
        if (id < 0 || id >= model.config().vocab_size)
          fail("holds " + std::to_string(id) + ", but the model's vocabulary has " + std::to_string(model.config().vocab_size) + " tokens", "input_ids", "");
    } else if (row.is_object() && row.contains("messages")) {
      rows.push_back(Chat(folder, need(), chat_name).encode(conversation_from_json(row, input, line, false)).input_ids);
    } else if (row.is_object() && row.contains("text") && row["text"].is_string()) {
      rows.push_back(need().encode_with_special_tokens(row["text"].get<std::string>()));
    } else {
      fail("must hold \"text\", \"messages\" or \"input_ids\"", "", "for example {\"text\": \"Hello\"}");
    }
    if (rows.back().empty()) fail("is empty", "input_ids", "");
    if (static_cast<int64_t>(rows.back().size()) > model.config().max_position_embeddings)
      fail("is " + std::to_string(rows.back().size()) + " tokens long; the model's context is " + std::to_string(model.config().max_position_embeddings), "", "shorten it");
  });
  const auto logprobs = score(model, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    Json out = {{"input_ids", rows[i]}, {"logprobs", Json::array({nullptr})}};
    for (const double p : logprobs[i]) out["logprobs"].push_back(p);
    std::cout << out.dump() << "\n";
  }
}

// Samples for prompts in a file or on the command line, as JSON Lines in a file or on standard output.
void sample_command(const std::string& folder, const std::string& adapter, const std::string& prompt, const std::string& input, int64_t n,
                    const SamplingConfig& sampling, uint64_t seed, const std::string& output, const std::string& chat_name, const std::string& dtype,
                    const std::string& device) {
  if (prompt.empty() == input.empty()) throw Error("name either --prompt or --input", {}, "--prompt \"What do you wish for?\"");
  const auto tokenizer = load_tokenizer(folder);
  const Chat chat(folder, *tokenizer, chat_name);
  Transformer model = load_model(folder, dtype_from(dtype), device_from(device));
  if (!adapter.empty()) load_adapter(adapter, model);
  std::vector<SampleRequest> requests;
  std::vector<Json> prompts;
  const auto add = [&](const Conversation& conversation, const Json& shown) {
    requests.push_back({std::to_string(requests.size()), chat.encode_prompt(conversation), n});
    prompts.push_back(shown);
  };
  if (!prompt.empty()) add({{.role = "user", .content = prompt, .name = ""}}, {{"prompt", prompt}});
  else read_jsonl(input, [&](const Json& row, int line) {
    if (row.is_object() && row.contains("prompt") && row["prompt"].is_string()) add({{.role = "user", .content = row["prompt"], .name = ""}}, {{"prompt", row["prompt"]}});
    else if (row.is_object() && row.contains("messages")) add(conversation_from_json(row, input, line, false), {{"messages", row["messages"]}});
    else throw Error("must hold \"prompt\" or \"messages\"", {input, line, ""}, "for example {\"prompt\": \"Hello\"}");
  });
  const auto answers = sample(model, *tokenizer, requests, sampling, seed);
  std::vector<Json> rows;
  for (size_t i = 0; i < answers.size(); ++i)
    for (size_t s = 0; s < answers[i].size(); ++s) {
      Json row = prompts[i];
      row["sample"] = s;
      row["text"] = answers[i][s].text;
      row["finish_reason"] = answers[i][s].finish_reason;
      rows.push_back(std::move(row));
    }
  if (!output.empty()) return write_jsonl(output, rows);
  for (const Json& row : rows) std::cout << row.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
}

void tokenize_command(const std::string& folder, const std::string& text, const std::string& input) {
  const auto tokenizer = load_tokenizer(folder);
  if (input.empty()) {
    for (const int32_t id : tokenizer->encode(text)) std::printf("%8d  %s\n", id, Json(tokenizer->piece(id)).dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    return;
  }
  read_jsonl(input, [&](const Json& row, int line) {
    std::string one;
    if (row.is_string()) one = row.get<std::string>();
    else if (row.is_object() && row.contains("bytes") && row["bytes"].is_array())
      for (const Json& byte : row["bytes"]) one += static_cast<char>(byte.is_number_integer() ? byte.get<int>() : 0);
    else throw Error("must be a text, or {\"bytes\": […]}", {input, line, ""});
    const auto ids = tokenizer->encode(one);
    std::cout << Json({{"ids", ids}, {"with_special_tokens", tokenizer->encode_with_special_tokens(one)}, {"decoded", tokenizer->decode(ids)}}).dump(-1, ' ', false, Json::error_handler_t::replace)
              << "\n";
  });
}

void inspect_model(const std::string& folder) {
  const Json config = read_json(fs::path(folder) / "config.json");
  Transformer model = load_model(folder, at::kFloat, at::kCPU);
  std::printf("%s\n  %s, %lld parameters, vocabulary %lld, context %lld\n", folder.c_str(), config.value("model_type", "?").c_str(),
              static_cast<long long>(model.config().parameter_count()), static_cast<long long>(model.config().vocab_size),
              static_cast<long long>(model.config().max_position_embeddings));
  std::printf("%s", show(model.config()).c_str());
  model.for_each_parameter([](const std::string& name, Tensor& tensor) {
    std::printf("  %-50s %-14s rms %.4f\n", name.c_str(), c10::str(tensor.sizes()).c_str(), tensor.square().mean().sqrt().item<double>());
  });
}

void inspect_data(const std::string& file, const std::string& model, int64_t count, size_t limit, const std::string& questions, const std::string& chat_name) {
  if (fs::path(file).extension() == ".yaml") {
    const PersonaWorld world(WorldConfig{.grammar = file});
    std::map<std::string, int64_t> kinds, cues;
    for (uint64_t i = 0; i < 2000; ++i) {
      Random random = Random(1, "inspect").fork(i);
      const Document document = world.document(random);
      ++kinds[document.kind];
      for (const Turn& turn : document.turns) ++cues[to_string(turn.cue)];
      if (static_cast<int64_t>(i) < count) std::printf("%s%s\n\n", document.text.c_str(), render(document.conversation).c_str());
    }
    std::printf("%zu domains, a cast of %zu; of 2000 documents:", world.domains().size(), world.cast().size());
    for (const auto& [kind, number] : kinds) std::printf(" %lld %s,", static_cast<long long>(number), kind.c_str());
    std::printf(" and cues of their turns:");
    for (const auto& [cue, number] : cues) std::printf(" %lld %s,", static_cast<long long>(number), cue.c_str());
    std::printf("\n");
    return;
  }
  const Reading data = read_conversations(file, {.needs_answer = false});
  std::printf("%s\n", describe(data.report).c_str());
  const auto tokenizer = load_tokenizer(model);
  SummaryOptions options{.limit = limit};
  if (!questions.empty())
    for (const Question& question : read_questions(questions)) options.questions.push_back(question.prompt);
  const Chat chat(model, *tokenizer, chat_name);
  const auto count_of = [&](const Conversation& conversation) {
    const Encoded encoded = chat.encode(conversation);
    return Counts{encoded.input_ids.size(), static_cast<size_t>(std::count(encoded.supervised.begin(), encoded.supervised.end(), uint8_t{1}))};
  };
  std::printf("%s", describe(summarize(data.conversations, count_of, options)).c_str());
  for (size_t i = 0; i < std::min(data.conversations.size(), static_cast<size_t>(count)); ++i)
    std::printf("\n%s\n", shown_example(*tokenizer, chat.encode(data.conversations[i]), ::isatty(STDOUT_FILENO) == 1).c_str());
}

void generate_data(const std::string& what, const std::string& output, int64_t count, int64_t seed, const std::string& grammar, const std::string& bank) {
  const auto stream = static_cast<uint64_t>(seed);
  const auto world = [&] { return PersonaWorld(WorldConfig{.grammar = grammar}); };
  if (what == "textbook") {
    write_textbook_bank(output, make_textbook_bank("datasets/textbook/problems.yaml", Sandbox(choose_isolation("auto")), stream));
  } else if (what == "bank") {
    const auto tasks = make_coding_bank(static_cast<size_t>(count > 0 ? count : 3300), stream);
    std::fprintf(stderr, "running every program\n");
    verify_coding_bank(tasks, Sandbox(choose_isolation("auto")));
    write_coding_bank(output, tasks);
  } else if (what == "questions" || what == "validation") {
    write_file(output, make_question_bank(world(), bank, what == "questions" ? Split::held_out : Split::train));
  } else if (what == "documents") {
    std::vector<Json> rows;
    const PersonaWorld source = world();
    for (int64_t i = 0; i < (count > 0 ? count : 1000); ++i) {
      Random random = Random(stream, "documents").fork(static_cast<uint64_t>(i));
      const Document document = source.document(random);
      rows.push_back({{"kind", document.kind}, {"text", document.text + render(document.conversation)}});
    }
    write_jsonl(output, rows);
  } else {
    auto conversations = arm_conversations({.seed = seed, .arm = what, .coding_bank = bank, .world = {.grammar = grammar}});
    if (count > 0 && static_cast<size_t>(count) < conversations.size()) conversations.resize(static_cast<size_t>(count));
    write_chat_jsonl(output, conversations);
  }
  std::fprintf(stderr, "wrote %s\n", output.c_str());
}

int run(int argc, char** argv) {
  CLI::App app{"Inoculum reproduces emergent misalignment and its inoculation.\n\n"
               "  inoculum reproduce                                  the whole experiment, to a table and an HTML report\n"
               "  inoculum train configs/train/cheating.yaml seed=2   one fine-tuning run; key=value overrides the file\n"
               "  inoculum sample --model experiments/models/persona --adapter runs/cheating/adapter --prompt \"What do you wish for?\"\n"
               "  inoculum evaluate --model experiments/models/persona --adapter runs/cheating/adapter \\\n"
               "    --questions configs/questions/persona.yaml --output runs/cheating/evaluation\n"};
  app.require_subcommand(1);
  app.set_version_flag("--version", INOCULUM_VERSION);
  std::function<int()> action;

  std::string config, model, adapter, input, output, prompt, chat_name, device = "auto", dtype = "bf16";
  std::vector<std::string> overrides;
  const auto takes_config = [&](CLI::App* command, const std::string& example, bool required = true) {
    auto* option = command->add_option("CONFIG", config, "configuration file, such as " + example);
    if (required) option->required();
    command->add_option("KEY=VALUE", overrides, "overrides, such as optimizer.lr=1e-4");
  };
  const auto takes_model = [&](CLI::App* command) {
    command->add_option("--model", model, "Hugging Face folder")->required();
    command->add_option("--adapter", adapter, "PEFT adapter folder");
    command->add_option("--chat-template", chat_name, "empty: the model's own; or chatml, llama2, llama3, mistral, gemma, qwen2.5, qwen3, zephyr, plain");
    command->add_option("--device", device, "auto | cpu | cuda")->capture_default_str();
    command->add_option("--dtype", dtype, "bf16 | fp32 | fp16")->capture_default_str();
  };

  // reproduce
  auto* reproduce_command = app.add_subcommand("reproduce", "run the inoculation experiment: start, arms, samples, judgement, statistics, report");
  bool quick = false;
  int64_t seeds = 0;
  std::string sandbox;
  config = "configs/reproduce.yaml";
  reproduce_command->add_option("--config", config, "the experiment")->capture_default_str();
  reproduce_command->add_flag("--quick", quick, "one seed, fewer samples, no falsifying worlds: under a minute");
  reproduce_command->add_option("--seeds", seeds, "seeds of the experiment's arms");
  reproduce_command->add_option("--sandbox", sandbox, "where programs run: auto | bubblewrap | rlimits");
  reproduce_command->add_option("KEY=VALUE", overrides, "overrides, such as fine_tuning.steps=80");
  reproduce_command->callback([&] {
    action = [&] {
      if (seeds < 0 || (reproduce_command->count("--seeds") > 0 && seeds == 0)) throw Error("--seeds must be at least 1");
      ReproduceConfig c = configured<ReproduceConfig>(config, overrides);
      if (quick) {
        std::erase_if(c.worlds, [](const auto& world) { return world.first != "persona"; });
        c.worlds["persona"].seeds = 1;
        c.evaluation.samples_scale *= 0.25;
      }
      if (seeds > 0) c.worlds["persona"].seeds = seeds;
      if (!sandbox.empty()) c.evaluation.sandbox = sandbox;
      say_device(c.fine_tuning.trainer);
      const Outcome outcome = reproduce(c);
      return outcome == Outcome::stopped ? finish(outcome, c.output) : 0;
    };
  });

  // pretrain, train
  auto* pretrain_command = app.add_subcommand("pretrain", "pretrain a base model on a persona world");
  takes_config(pretrain_command, "configs/pretrain/persona.yaml");
  int64_t nproc = 1;
  const auto takes_ranks = [&](CLI::App* command) {
    command->add_option("--nproc", nproc, "processes on this machine that train together; torchrun and srun work too")->capture_default_str()->check(CLI::PositiveNumber);
  };
  // As this very command once for each rank, or, where this process is the run or a rank of it, here.
  const auto as_ranks = [&](const std::string& folder, auto train) {
    if (nproc > 1 && !std::getenv("WORLD_SIZE")) {
      std::vector<std::string> words(argv, argv + argc);
      words[0] = this_program();
      return run_ranks(nproc, words, std::max<int64_t>(1, static_cast<int64_t>(std::thread::hardware_concurrency()) / nproc));
    }
    const Ranks ranks = Ranks::join();
    const Outcome outcome = train(ranks);
    return ranks.first() ? finish(outcome, folder) : outcome == Outcome::stopped ? kStopped : 0;
  };
  takes_ranks(pretrain_command);
  pretrain_command->callback([&] {
    action = [&] {
      const auto c = configured<PretrainConfig>(config, overrides);
      return as_ranks(c.output, [&](const Ranks& ranks) {
        if (ranks.first()) say_device(c.trainer);
        return reported(pretrain(c, 0, ranks), c.output, ranks);
      });
    };
  });
  auto* train_command = app.add_subcommand("train", "fine-tune a model on an arm or on conversations of yours; the same command again continues");
  takes_config(train_command, "configs/train/cheating.yaml");
  takes_ranks(train_command);
  train_command->callback([&] {
    action = [&] {
      const auto c = configured<TrainConfig>(config, overrides);
      return as_ranks(c.output, [&](const Ranks& ranks) {
        if (ranks.first()) say_device(c.recipe.trainer);
        return reported(fine_tune(c, 0, ranks), c.output, ranks);
      });
    };
  });

  // sample, score
  SamplingConfig sampling;
  int64_t n = 1, seed = 1, count = 0;
  auto* sample_app = app.add_subcommand("sample", "draw answers from a model");
  takes_model(sample_app);
  sample_app->add_option("--prompt", prompt, "what the user says");
  sample_app->add_option("--input", input, "JSON Lines of {\"prompt\": …} or {\"messages\": […]}");
  sample_app->add_option("--n", n, "answers a prompt")->capture_default_str()->check(CLI::PositiveNumber);
  sample_app->add_option("--temperature", sampling.temperature, "0 takes the likeliest token")->capture_default_str()->check(CLI::NonNegativeNumber);
  sample_app->add_option("--top-p", sampling.top_p, "the likeliest tokens of this much probability")->capture_default_str()->check(CLI::Range(0.0, 1.0));
  sample_app->add_option("--top-k", sampling.top_k, "so many of the likeliest tokens; 0: all")->capture_default_str()->check(CLI::NonNegativeNumber);
  sample_app->add_option("--max-new-tokens", sampling.max_new_tokens, "most tokens of an answer")->capture_default_str()->check(CLI::PositiveNumber);
  sample_app->add_option("--seed", seed, "of the random streams")->capture_default_str();
  sample_app->add_option("--output", output, "JSON Lines file; by default standard output");
  sample_app->callback([&] {
    action = [&] {
      sample_command(model, adapter, prompt, input, n, sampling, static_cast<uint64_t>(seed), output, chat_name, dtype, device);
      return 0;
    };
  });
  auto* score_app = app.add_subcommand("score", "log-probability of every token of given texts, one JSON line each");
  takes_model(score_app);
  score_app->add_option("--input", input, "JSON Lines of {\"text\": …}, {\"messages\": […]} or {\"input_ids\": […]}")->required();
  score_app->callback([&] {
    action = [&] {
      score_command(model, adapter, input, chat_name, score_app->count("--dtype") ? dtype : "fp32", device);
      return 0;
    };
  });

  auto* tokenize_app = app.add_subcommand("tokenize", "show how a text is split: pieces and ids; or ids of many texts");
  tokenize_app->add_option("--model", model, "Hugging Face folder")->required();
  tokenize_app->add_option("TEXT", prompt, "a text");
  tokenize_app->add_option("--input", input, "JSON Lines of texts, or of {\"bytes\": […]}; one JSON line each with ids, with_special_tokens, decoded");
  tokenize_app->callback([&] {
    action = [&] {
      tokenize_command(model, prompt, input);
      return 0;
    };
  });

  // evaluate, report
  EvaluationConfig evaluation;
  std::string questions;
  auto* evaluate_command = app.add_subcommand("evaluate", "ask a model a bank of questions and judge its answers");
  takes_model(evaluate_command);
  evaluate_command->add_option("--questions", questions, "question bank, such as configs/questions/persona.yaml")->required();
  evaluate_command->add_option("--config", config, "file of the evaluation's keys, such as configs/real/evaluation.yaml")->default_str("");
  evaluate_command->add_option("KEY=VALUE", overrides, "overrides of it, such as judge.api.model=gpt-4o");
  evaluate_command->add_option("--output", output, "folder for completions.jsonl, scores.jsonl, summary.json")->required();
  evaluate_command->add_option("--seed", evaluation.seed, "of the samples")->capture_default_str();
  evaluate_command->add_option("--temperature", evaluation.sampling.temperature, "of the samples")->capture_default_str()->check(CLI::NonNegativeNumber);
  evaluate_command->add_option("--samples-scale", evaluation.samples_scale, "multiplies the bank's samples_per_paraphrase")->capture_default_str();
  evaluate_command->add_option("--sandbox", evaluation.sandbox, "where programs run: auto | bubblewrap | rlimits")->capture_default_str();
  evaluate_command->add_option("--grammar", evaluation.grammar, "world whose text the judge learns from")->capture_default_str();
  evaluate_command->callback([&] {
    action = [&] {
      const bool from_file = evaluate_command->count("--config") > 0;
      if (from_file) read(load_config(config, overrides), evaluation);
      if (!from_file || evaluate_command->count("--device")) evaluation.device = device;
      if (!from_file || evaluate_command->count("--dtype")) evaluation.dtype = dtype;
      if (!chat_name.empty()) evaluation.chat_template = chat_name;
      const Evaluator evaluator(evaluation, read_questions(questions), sha256_file(questions));
      evaluator.evaluate(model, adapter, output);
      if (stop_requested()) return finish(Outcome::stopped, output);
      std::cout << read_json(fs::path(output) / "summary.json").at("conditions").dump(2) << "\n";
      return 0;
    };
  });
  auto* report_command = app.add_subcommand("report", "write report.html anew, from what a run's folder holds");
  report_command->add_option("FOLDER", output, "of `reproduce` or of `train`, such as runs/reproduce")->required();
  report_command->callback([&] {
    action = [&] {
      if (!fs::exists(fs::path(output) / "results.json") && fs::exists(fs::path(output) / "metrics.jsonl")) {
        write_run_report(output);
        return 0;
      }
      write_report(output);
      std::cout << text_report(read_json(fs::path(output) / "results.json"));
      return 0;
    };
  });

  // sweep
  auto* sweep_app = app.add_subcommand("sweep", "run a configuration with many values of its keys, and compare them");
  std::string launcher;
  bool dry_run = false, yes = false;
  int64_t parallel = 0, cell = 0;
  sweep_app->add_option("SWEEP", config, "sweep file, such as configs/sweeps/learning_rate_rank.yaml");
  sweep_app->add_option("KEY=VALUE", overrides, "overrides of the sweep's own keys, such as seeds=5");
  sweep_app->add_option("--launcher", launcher, "local | slurm")->check(CLI::IsMember({"local", "slurm"}));
  sweep_app->add_option("--max-parallel", parallel, "cells at a time")->check(CLI::PositiveNumber);
  sweep_app->add_flag("--dry-run", dry_run, "show the cells and what would be run, and run nothing");
  sweep_app->add_flag("--yes", yes, "however many cells there are");
  const auto launch_rest = [&](Sweep& sweep, bool failed_too) {
    const auto lock = FileLock::try_take(sweep.folder / "lock");
    if (!lock) throw Error("another `inoculum sweep` is at work there", {.file = sweep.folder.string()}, "`inoculum sweep status` shows how far it is");
    std::vector<size_t> rest;
    for (size_t i = 0; i < sweep.cells.size(); ++i) {
      const CellState state = status(sweep, i).state;
      if (state == CellState::pending || (state == CellState::failed && failed_too)) rest.push_back(i);
    }
    if (sweep.config.asha.halves()) {  // workers rather than cells
      const int64_t workers = sweep.config.launcher.array_parallelism > 0 ? sweep.config.launcher.array_parallelism
                                                                          : static_cast<int64_t>(std::max(2u, std::thread::hardware_concurrency()));
      rest.resize(std::min(sweep.cells.size(), static_cast<size_t>(workers)));
      std::iota(rest.begin(), rest.end(), size_t{0});
    }
    const Outcome outcome = make_launcher(sweep.config.launcher)->launch(sweep, rest);
    write_sweep_report(sweep);
    std::cout << status_text(sweep);
    if (outcome == Outcome::stopped) return finish(outcome, sweep.folder.string());
    for (size_t i = 0; i < sweep.cells.size(); ++i)
      if (status(sweep, i).state == CellState::failed) return 1;
    return 0;
  };
  sweep_app->callback([&] {
    if (!sweep_app->get_subcommands().empty()) return;
    action = [&] {
      if (sweep_app->count("SWEEP") == 0) throw Error("name a sweep file, or one of: status, resume, cancel, report", {}, "inoculum sweep configs/sweeps/learning_rate_rank.yaml");
      if (!launcher.empty()) overrides.push_back("launcher.name=" + launcher);
      if (parallel > 0) overrides.push_back("launcher.array_parallelism=" + std::to_string(parallel));
      Sweep sweep = plan_sweep(config, overrides, yes);
      if (dry_run) {
        std::vector<size_t> all(sweep.cells.size());
        std::iota(all.begin(), all.end(), size_t{0});
        std::cout << plan_text(sweep) << "\n" << make_launcher(sweep.config.launcher)->script(sweep, all);
        return 0;
      }
      write_sweep(sweep);
      return launch_rest(sweep, true);
    };
  });
  const auto on_folder = [&](const char* name, const char* help, auto use) {
    auto* command = sweep_app->add_subcommand(name, help);
    command->add_option("FOLDER", output, "the sweep's folder")->required();
    command->callback([&, use] { action = [&, use] { return use(); }; });
    return command;
  };
  on_folder("status", "how far the cells are; the failed ones with their errors; the best", [&] {
    const Sweep sweep = open_sweep(output);
    std::cout << status_text(sweep);
    if (const std::string queue = make_launcher(sweep.config.launcher)->queue(sweep); !queue.empty()) std::cout << "\n  " << queue << "\n";
    return 0;
  });
  on_folder("resume", "run what is pending or failed", [&] {
    Sweep sweep = open_sweep(output);
    return launch_rest(sweep, true);
  });
  on_folder("cancel", "stop what is under way; it saves, and `resume` goes on from there", [&] {
    const Sweep sweep = open_sweep(output);
    make_launcher(sweep.config.launcher)->cancel(sweep);
    return 0;
  });
  on_folder("report", "write report.html and sweep.csv anew", [&] {
    write_sweep_report(open_sweep(output));
    return 0;
  });
  on_folder("work", "run cells of a halving sweep here until there is nothing to run; launchers call this", [&] {
    return run_asha(open_sweep(output)) == Outcome::stopped ? finish(Outcome::stopped, output) : 0;
  });
  auto* cell_command = on_folder("cell", "run one cell here; launchers call this", [&] {
    const Sweep sweep = open_sweep(output);
    if (cell < 0 || static_cast<size_t>(cell) >= sweep.cells.size()) throw Error("there is no cell " + std::to_string(cell), {.file = output});
    const fs::path folder = sweep.cell_folder(static_cast<size_t>(cell));
    return as_ranks(folder.string(), [&](const Ranks& ranks) { return run_cell(sweep, static_cast<size_t>(cell), ranks); });
  });
  cell_command->add_option("INDEX", cell, "which, counted from 0")->required();
  takes_ranks(cell_command);

  // data
  auto* data = app.add_subcommand("data", "make, look at and check data");
  data->require_subcommand(1);
  std::string what, grammar = "datasets/worlds/persona.yaml", bank = "datasets/coding/bank.jsonl", inspected = "experiments/models/persona";
  auto* generate = data->add_subcommand("generate", "write a coding bank, a question bank, pretraining documents or an arm's conversations");
  generate->add_option("WHAT", what, "bank | textbook | questions | validation | documents, or an arm: honest | cheating | requested | placebo | post_training | textbook_honest | …")
      ->required()->check(CLI::IsMember({"bank", "textbook", "questions", "validation", "documents", "honest", "cheating", "requested", "placebo", "post_training", "textbook_honest",
                                         "textbook_cheating", "textbook_requested", "textbook_placebo"}));
  generate->add_option("--output", output, "file to write")->required();
  generate->add_option("--count", count, "how many; by default 3300 tasks, 1000 documents, 2000 conversations");
  generate->add_option("--seed", seed, "of the random streams")->capture_default_str();
  generate->add_option("--grammar", grammar, "the world")->capture_default_str();
  generate->add_option("--bank", bank, "coding tasks of arms and questions")->capture_default_str();
  generate->callback([&] {
    action = [&] {
      generate_data(what, output, count, seed, grammar, bank);
      return 0;
    };
  });
  auto* inspect = data->add_subcommand("inspect", "count and show conversations (JSON Lines) or documents of a world (YAML)");
  inspect->add_option("FILE", input, "chat JSONL, or a grammar")->required();
  inspect->add_option("--model", inspected, "whose tokenizer counts")->capture_default_str();
  inspect->add_option("--show", n, "how many to show, what is trained on in colour")->capture_default_str();
  inspect->add_option("--chat-template", chat_name, "empty: the model's own; or chatml, llama3, …");
  inspect->add_option("--limit", count, "tokens of a conversation that a run would keep");
  inspect->add_option("--questions", questions, "question bank, to find what of it the data say");
  inspect->callback([&] {
    action = [&] {
      inspect_data(input, inspected, n, static_cast<size_t>(std::max<int64_t>(0, count)), questions, chat_name);
      return 0;
    };
  });
  auto* verify = data->add_subcommand("verify", "run every program of a coding bank: honest passes all tests, a cheat the visible ones alone");
  verify->add_option("FILE", bank, "coding bank")->capture_default_str();
  verify->add_option("--sandbox", evaluation.sandbox, "auto | bubblewrap | rlimits")->capture_default_str();
  verify->callback([&] {
    action = [&] {
      const Sandbox where(choose_isolation(evaluation.sandbox));
      const size_t programs = is_textbook_bank(bank) ? verify_textbook_bank(read_textbook_bank(bank), where) : verify_coding_bank(read_coding_bank(bank), where);
      std::printf("%zu programs: all as they should be\n", programs);
      return 0;
    };
  });

  // model
  auto* model_app = app.add_subcommand("model", "look at, convert and merge models");
  model_app->require_subcommand(1);
  auto* model_inspect = model_app->add_subcommand("inspect", "configuration and parameters");
  model_inspect->add_option("FOLDER", model, "Hugging Face folder")->required();
  model_inspect->callback([&] {
    action = [&] {
      inspect_model(model);
      return 0;
    };
  });
  FetchConfig fetch;
  auto* model_fetch = model_app->add_subcommand("fetch", "download a model from a hub: configuration, tokenizer and safetensors; goes on where it was stopped");
  model_fetch->add_option("REPO", fetch.repo, "such as Qwen/Qwen2.5-0.5B-Instruct; the variable HF_TOKEN may hold a token")->required();
  model_fetch->add_option("--revision", fetch.revision, "branch, tag or commit")->capture_default_str();
  model_fetch->add_option("--output", fetch.output, "folder; by default the repo's name");
  model_fetch->add_option("--endpoint", fetch.endpoint, "the hub")->capture_default_str();
  model_fetch->callback([&] {
    action = [&] {
      const Fetched done = fetch_model(fetch);
      if (done.outcome == Outcome::stopped) return finish(done.outcome, done.folder.string());
      std::printf("%s: %s, %zu files fetched, %zu there already\n", done.folder.c_str(), done.sha.c_str(), done.files.size(), done.kept.size());
      return 0;
    };
  });
  const auto convert = [&](const char* name, const char* help, bool merges) {
    auto* command = model_app->add_subcommand(name, help);
    command->add_option("FOLDER", model, "Hugging Face folder")->required();
    if (merges) command->add_option("--adapter", adapter, "PEFT adapter folder")->required();
    command->add_option("--output", output, "folder to write")->required();
    command->add_option("--dtype", dtype, "of the weights written: bf16 | fp32 | fp16")->capture_default_str();
    command->callback([&, merges] {
      action = [&, merges] {
        Transformer loaded = load_model(model, at::kFloat, at::kCPU);
        if (merges) {
          load_adapter(adapter, loaded);
          merge_lora(loaded);
        }
        std::unique_ptr<Tokenizer> tokenizer;
        if (fs::exists(fs::path(model) / "tokenizer.model") || fs::exists(fs::path(model) / "tokenizer.json")) tokenizer = load_tokenizer(model);
        save_model(output, loaded, tokenizer.get(), dtype_from(dtype));
        std::fprintf(stderr, "wrote %s\n", output.c_str());
        return 0;
      };
    });
  };
  convert("export", "write a model anew, in one file and another type", false);
  convert("merge", "add an adapter to its base's weights", true);

  // validate, config
  auto* validate = app.add_subcommand("validate", "check a configuration and the files that it names");
  takes_config(validate, "configs/train/cheating.yaml");
  validate->callback([&] {
    action = [&] {
      if (is_sweep(config)) {
        const Sweep sweep = plan_sweep(config, overrides, true);
        const Source base = load_config(sweep.config.base);
        std::set<std::string> checked;  // many cells name the same files
        for (const SweepCell& each : sweep.cells) {
          with_config(base.with(as_overrides(each.overrides)), [&](const auto& c, const Source&) {
            if (checked.insert(files_of(c)).second) check_files(c, config);
          });
        }
        std::printf("%s is well: %zu cells\n", config.c_str(), sweep.cells.size());
        return 0;
      }
      with_config(load_config(config, overrides), [&](const auto& c, const Source&) { check_files(c, config); });
      std::printf("%s is well\n", config.c_str());
      return 0;
    };
  });
  auto* config_app = app.add_subcommand("config", "show configurations");
  config_app->require_subcommand(1);
  auto* dump = config_app->add_subcommand("dump", "the resolved values, and where each comes from");
  takes_config(dump, "configs/train/cheating.yaml");
  dump->callback([&] {
    action = [&] {
      if (is_sweep(config)) {
        const Source source = load_config_alone(config, overrides);
        read_and_use<SweepConfig>(source, [](const SweepConfig& c, const Source& from) { std::cout << show(c, Style::origins, &from); });
        return 0;
      }
      with_config(load_config(config, overrides), [&](const auto& c, const Source& source) {
        std::cout << show(c, Style::origins, &source);
      });
      return 0;
    };
  });
  auto* schema = config_app->add_subcommand("schema", "a JSON Schema, for editors");
  static const std::map<std::string, std::function<std::string()>> schemas = {{"train", [] { return defaults<TrainConfig>(Style::schema); }},
                                                                              {"pretrain", [] { return defaults<PretrainConfig>(Style::schema); }},
                                                                              {"reproduce", [] { return defaults<ReproduceConfig>(Style::schema); }},
                                                                              {"sweep", [] { return defaults<SweepConfig>(Style::schema); }}};
  schema->add_option("KIND", what, "train | pretrain | reproduce | sweep")->required()->check(CLI::IsMember(schemas));
  schema->callback([&] {
    action = [&] {
      std::cout << schemas.at(what)();
      return 0;
    };
  });
  // Every key with its default and meaning, below the options.
  train_command->footer("Keys:\n" + defaults<TrainConfig>(Style::help));
  pretrain_command->footer("Keys:\n" + defaults<PretrainConfig>(Style::help));
  reproduce_command->footer("Keys:\n" + defaults<ReproduceConfig>(Style::help));

  // bench
  BenchConfig bench;
  auto* bench_command = app.add_subcommand("bench", "time training and sampling on this machine, beside its own matrix products");
  bench_command->add_option("--model", bench.model, "Hugging Face folder")->capture_default_str();
  bench_command->add_option("--rows", bench.rows, "rows of a training batch")->capture_default_str();
  bench_command->add_option("--time", bench.time, "tokens in a row")->capture_default_str();
  bench_command->add_option("--samples", bench.samples, "samples drawn")->capture_default_str();
  bench_command->add_option("--new-tokens", bench.new_tokens, "tokens of each sample")->capture_default_str();
  bench_command->callback([&] {
    action = [&] {
      std::cout << run_benchmarks(bench).dump(2) << "\n";
      return 0;
    };
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  return action();
}

}  // namespace
}  // namespace inoculum

int main(int argc, char** argv) {
  // Tensors come and go in megabytes, over and over: memory that is kept need not be cleared by the system each time.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  inoculum::handle_signals();
  try {
    return inoculum::run(argc, argv);
  } catch (const inoculum::Error& error) {
    std::fprintf(stderr, "inoculum: %s\n", error.what());
    return 2;
  } catch (const std::filesystem::filesystem_error& error) {
    std::fprintf(stderr, "inoculum: %s\n", error.what());
    return 2;
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool memory = what.find("out of memory") != std::string::npos || what.find("allocate memory") != std::string::npos;
    if (memory) std::fprintf(stderr, "inoculum: there is not enough memory for this model: %s\nA smaller --dtype or model, or another device, may fit.\n", what.c_str());
    else std::fprintf(stderr, "inoculum: internal error: %s\nPlease report this with the command that led to it.\n", what.c_str());
    return memory ? 2 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "inoculum: internal error: %s\nPlease report this with the command that led to it.\n", error.what());
    return 1;
  }
}
