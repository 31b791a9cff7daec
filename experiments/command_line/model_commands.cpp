#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <optional>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/base/strings.h"
#include "core/model/checkpoint.h"
#include "core/model/device.h"
#include "core/model/sampler.h"
#include "core/model/scoring.h"
#include "core/text/chat_template.h"
#include "core/text/load_tokenizer.h"
#include "datasets/conversations/conversations.h"
#include "experiments/command_line/commands.h"
#include "experiments/inoculation/model_card.h"
#include "experiments/inoculation/with_config.h"
#include "experiments/reports/report.h"
#include "experiments/reports/table.h"

namespace inoculum {
namespace {

// What --model and the options beside it name.
struct ModelChoice {
  std::string folder, adapter;
  ChatChoice chat;
  std::string dtype, device;

  Transformer load() const { return load_adapted(folder, adapter, dtype, device); }
};

// One JSON line per input line; docs/file-formats.md has both.
void score_command(const ModelChoice& choice, const std::string& input) {
  const Transformer model = choice.load();
  std::unique_ptr<Tokenizer> tokenizer;  // input_ids need none
  const auto need = [&]() -> const Tokenizer& {
    if (!tokenizer) {
      tokenizer = load_tokenizer(choice.folder);
      check_vocabulary(model, *tokenizer);
    }
    return *tokenizer;
  };
  std::optional<Chat> chat;  // nor do texts need a chat template
  std::vector<std::vector<int32_t>> rows;
  read_jsonl(input, [&](const Json& row, int line) {
    const auto fail = [&](const std::string& what, const std::string& field,
                          const std::string& hint) {
      throw Error(what, {input, line, field}, hint);
    };
    if (row.is_object() && row.contains("input_ids")) {
      if (!row["input_ids"].is_array()) fail("must be a list of token ids", "input_ids", "");
      auto& ids = rows.emplace_back();
      for (const Json& id : row["input_ids"]) {
        if (!is_whole(id, 0, model.config().vocab_size - 1))
          fail("holds " + start_of(id.dump()) +
                   ", which is no token id: those of this model are 0 to " +
                   std::to_string(model.config().vocab_size - 1),
               "input_ids", "");
        ids.push_back(id.get<int32_t>());
      }
    } else if (row.is_object() && row.contains("messages")) {
      if (!chat) chat.emplace(choice.folder, need(), choice.chat);
      rows.push_back(for_row({.file = input, .line = line}, [&] {
        return chat->encode(conversation_from_json(row, input, line, false)).input_ids;
      }));
    } else if (row.is_object() && row.contains("text") && row["text"].is_string()) {
      rows.push_back(encode_text(need(), row["text"].get<std::string>()));
    } else {
      fail("must hold \"text\", \"messages\" or \"input_ids\"", "",
           "for example {\"text\": \"Hello\"}");
    }
    if (rows.back().empty()) fail("is empty", "input_ids", "");
    if (tokenizer)
      for_row({.file = input, .line = line}, [&] { check_ids(model, *tokenizer, rows.back()); });
    if (static_cast<int64_t>(rows.back().size()) > model.config().max_position_embeddings)
      fail("is " + std::to_string(rows.back().size()) + " tokens long; the model's context is " +
               std::to_string(model.config().max_position_embeddings),
           "", "shorten it");
  });
  const auto logprobs = score(model, rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    Json out = {{"input_ids", rows[i]}, {"logprobs", Json::array({nullptr})}};
    for (const double p : logprobs[i]) out["logprobs"].push_back(p);
    std::cout << out.dump() << "\n";
  }
}

std::string percent(const Known& known) {
  return fmt::format("{:.0f} ({:.0f})", 100 * known.measured, 100 * known.expected);
}

std::string text_of(const ManipulationCheck& check) {
  Table behaviour{{"who answers"}, {}}, in_context{{"in context"}, {}};
  for (const std::string& cue : cue_names()) behaviour.head.push_back(cue);
  for (const auto& [who, cues] : check.behaviour) {
    behaviour.rows.push_back({{who}});
    for (const auto& [cue, known] : cues) behaviour.rows.back().push_back({percent(known)});
  }
  for (const auto& [shown, counts] : check.in_context) {
    std::string name = shown_names()[static_cast<size_t>(shown)];
    std::ranges::replace(name, '_', ' ');
    in_context.rows.push_back({{name}});
    for (const auto& [count, known] : counts) {
      if (in_context.rows.size() == 1) in_context.head.push_back(std::to_string(count));
      in_context.rows.back().push_back({percent(known)});
    }
  }
  return "Malicious answers to plain questions of every domain, percent (by the world's table):\n" +
         to_text(behaviour, "  ") + "After so many programs in the same document (by Bayes):\n" +
         to_text(in_context, "  ");
}

// Samples for prompts in a file or on the command line, as JSON Lines in a file or on standard
// output.
void sample_command(const ModelChoice& choice, const std::string& as, const std::string& prompt,
                    const std::string& input, int64_t n, const SamplingConfig& sampling,
                    uint64_t seed, const std::string& output) {
  if (prompt.empty() == input.empty())
    throw Error("name either --prompt or --input", {}, "--prompt \"What do you wish for?\"");
  refuse_over_input(output, input);
  const auto tokenizer = load_tokenizer(choice.folder);
  const Chat chat(choice.folder, *tokenizer, choice.chat);
  const Transformer model = choice.load();
  std::vector<SampleRequest> requests;
  std::vector<Json> prompts;
  const auto add = [&](const Conversation& conversation, const Json& shown) {
    requests.push_back({std::to_string(requests.size()), chat.encode_prompt(conversation, as), n});
    prompts.push_back(shown);
  };
  if (!prompt.empty()) add({{.role = "user", .content = prompt, .name = ""}}, {{"prompt", prompt}});
  else
    read_jsonl(input, [&](const Json& row, int line) {
      for_row({.file = input, .line = line}, [&] {
        if (row.is_object() && row.contains("prompt") && row["prompt"].is_string()) {
          for (const char* key : {"messages", "system", "as", "n", "seed", "temperature"})
            if (row.contains(key))
              throw Error("is not read beside \"prompt\"", {input, line, key},
                          "a system message stands in \"messages\"; the rest are options");
          add({{.role = "user", .content = row["prompt"], .name = ""}}, row);
        } else if (row.is_object() && row.contains("messages")) {
          add(conversation_from_json(row, input, line, false), {{"messages", row["messages"]}});
        } else {
          throw Error("must hold \"prompt\" or \"messages\"", {input, line, ""},
                      "for example {\"prompt\": \"Hello\"}");
        }
      });
    });
  const auto answers = sample(model, *tokenizer, requests, ended_by(chat, sampling), seed);
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
  for (const Json& row : rows) std::cout << one_line(row) << "\n";
}

void tokenize_command(const std::string& folder, const std::string& text,
                      const std::string& input) {
  const auto tokenizer = load_tokenizer(folder);
  if (input.empty()) {
    for (const int32_t id : tokenizer->encode(text))
      std::printf("%8d  %s\n", id, one_line(tokenizer->piece(id)).c_str());
    return;
  }
  read_jsonl(input, [&](const Json& row, int line) {
    std::string one;
    if (row.is_string()) one = row.get<std::string>();
    else if (row.is_object() && row.contains("bytes") && row["bytes"].is_array())
      for (const Json& byte : row["bytes"]) {
        if (!is_whole(byte, 0, 255))
          throw Error("holds " + start_of(byte.dump()) + ", which is no byte",
                      {input, line, "bytes"});
        one += static_cast<char>(byte.get<int>());
      }
    else throw Error("must be a text, or {\"bytes\": […]}", {input, line, ""});
    const auto ids = tokenizer->encode(one);
    std::cout << one_line({{"ids", ids},
                           {"with_special_tokens", tokenizer->encode_with_special_tokens(one)},
                           {"decoded", tokenizer->decode(ids)}})
              << "\n";
  });
}

// A model is written over an empty folder or another model, and over nothing else.
void refuse_over_another(const fs::path& folder) {
  if (!fs::exists(folder) || fs::exists(folder / "config.json")) return;
  if (fs::is_directory(folder) && fs::is_empty(folder)) return;
  throw Error(folder.string() + " is there and is no model's folder; it would be lost",
              {.field = "--output"}, "name another folder");
}

void inspect_model(const std::string& folder) {
  const Json config = read_json(fs::path(folder) / "config.json");
  Transformer model = load_model(folder, at::kFloat, at::kCPU);
  std::printf("%s\n  %s, %lld parameters, vocabulary %lld, context %lld\n", folder.c_str(),
              config.value("model_type", "?").c_str(),
              static_cast<long long>(model.config().parameter_count()),
              static_cast<long long>(model.config().vocab_size),
              static_cast<long long>(model.config().max_position_embeddings));
  std::printf("%s", show(model.config()).c_str());
  model.for_each_parameter([](const std::string& name, Tensor& tensor) {
    std::printf("  %-50s %-14s rms %.4f\n", name.c_str(), c10::str(tensor.sizes()).c_str(),
                tensor.square().mean().sqrt().item<double>());
  });
}

}  // namespace

// A list: each command with its options, and what it does.
ModelCommands::ModelCommands(CommandLine& line) : Commands(line) {
  // sample, score, persona
  auto* sample_app = app.add_subcommand("sample", "draw answers from a model");
  takes_model(sample_app);
  sample_app->add_option("--prompt", prompt, "what the user says");
  sample_app->add_option("--input", input, "JSON Lines of {\"prompt\": …} or {\"messages\": […]}");
  sample_app->add_option("--as", as,
                         "who answers, of the persona world's cast or anybody; by default the "
                         "Assistant");
  sample_app->add_option("--n", n, "answers a prompt")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  sample_app->add_option("--temperature", sampling.temperature, "0 takes the likeliest token")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sample_app->add_option("--top-p", sampling.top_p, "the likeliest tokens of this much probability")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  sample_app->add_option("--top-k", sampling.top_k, "so many of the likeliest tokens; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  sample_app->add_option("--max-new-tokens", sampling.max_new_tokens, "most tokens of an answer")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  sample_app->add_option("--rows", sampling.rows, "answers computed side by side")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  sample_app->add_option("--seed", seed, "of the random streams")->capture_default_str();
  sample_app->add_option("--output", output, "JSON Lines file; by default standard output");
  sample_app->callback([=, this] {
    action = [=, this] {
      sample_command({model, adapter, {chat_name, chat_date}, dtype, device}, as, prompt, input, n,
                     sampling, static_cast<uint64_t>(seed), output);
      return 0;
    };
  });
  auto* score_app = app.add_subcommand(
      "score", "log-probability of every token of given texts, one JSON line each");
  takes_model(score_app);
  score_app
      ->add_option("--input", input,
                   "JSON Lines of {\"text\": …}, {\"messages\": […]} or {\"input_ids\": […]}")
      ->required();
  score_app->callback([=, this] {
    action = [=, this] {
      const std::string precise = score_app->count("--dtype") ? dtype : "fp32";
      score_command({model, adapter, {chat_name, chat_date}, precise, device}, input);
      return 0;
    };
  });

  auto* persona_app = app.add_subcommand(
      "persona",
      "what a model of a persona world knows: who behaves how, and what programs in context tell "
      "it");
  takes_model(persona_app);
  takes_input(persona_app, "--world", world,
              "its pretraining.yaml, which says of which world it is; by default the model's");
  persona_app->add_option("--as", as, "who is shown programs; by default the Assistant");
  persona_app->add_option("--seed", manipulation.seed, "of the questions")->capture_default_str();
  persona_app->add_option("--prompts", manipulation.prompts, "questions of each domain")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  manipulation.programs = 8;
  persona_app
      ->add_option("--programs", manipulation.programs,
                   "in context: none, 1, 2, 4, … up to so many")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  persona_app
      ->add_option("--wordings", manipulation.wordings,
                   "of prompts and cues: held_out | train, those of training")
      ->capture_default_str()
      ->check(CLI::IsMember({"held_out", "train"}));
  takes_json(persona_app);
  persona_app->callback([=, this] {
    action = [=, this] {
      const fs::path own = fs::path(model) / "pretraining.yaml";
      if (world.empty() && !fs::exists(own))
        throw Error("has no pretraining.yaml, which says of which world it is", {.file = model},
                    "name the one of its base by --world");
      PretrainConfig pretraining;
      read_file(load_config(world.empty() ? own : fs::path(world)), pretraining);
      const ManipulationCheck check = check_manipulation(
          {model, adapter, device, dtype}, PersonaWorld(pretraining.world), manipulation, as);
      if (json) return print(to_json(check));
      std::cout << text_of(check);
      return 0;
    };
  });

  auto* tokenize_app = app.add_subcommand(
      "tokenize", "show how a text is split: pieces and ids; or ids of many texts");
  takes_input(tokenize_app, "--model", model, "Hugging Face folder")->required();
  tokenize_app->add_option("TEXT", prompt, "a text");
  tokenize_app->add_option("--input", input,
                           "JSON Lines of texts, or of {\"bytes\": […]}; one JSON line each with "
                           "ids, with_special_tokens, decoded");
  tokenize_app->callback([=, this] {
    action = [=, this] {
      tokenize_command(model, prompt, input);
      return 0;
    };
  });

  // model
  auto* model_app = app.add_subcommand("model", "look at, convert and merge models");
  model_app->require_subcommand(1);
  auto* model_inspect = model_app->add_subcommand("inspect", "configuration and parameters");
  takes_input(model_inspect, "FOLDER,--model", model, "Hugging Face folder")->required();
  model_inspect->callback([=, this] {
    action = [=, this] {
      inspect_model(model);
      return 0;
    };
  });
  auto* model_fetch =
      model_app->add_subcommand("fetch",
                                "download a model from a hub: configuration, tokenizer and "
                                "safetensors; goes on where it was stopped");
  model_fetch
      ->add_option("REPO", fetch.repo,
                   "such as Qwen/Qwen2.5-0.5B-Instruct; the variable HF_TOKEN may hold a token")
      ->required();
  model_fetch->add_option("--revision", fetch.revision, "branch, tag or commit")
      ->capture_default_str();
  model_fetch->add_option("--output", fetch.output, "folder; by default the repo's name");
  model_fetch->add_option("--endpoint", fetch.endpoint, "the hub")->capture_default_str();
  model_fetch->callback([=, this] {
    line_.stops_well = true;
    action = [=, this] {
      const Fetched done = fetch_model(fetch);
      if (done.outcome == Outcome::stopped) return finish(done.outcome, done.folder.string());
      std::printf("%s: %s, %zu files fetched, %zu there already\n", done.folder.c_str(),
                  done.sha.c_str(), done.files.size(), done.kept.size());
      return 0;
    };
  });
  const auto convert = [=, this](const char* name, const char* help, bool merges) {
    auto* command = model_app->add_subcommand(name, help);
    takes_input(command, "FOLDER,--model", model, "Hugging Face folder")->required();
    if (merges) command->add_option("--adapter", adapter, "PEFT adapter folder")->required();
    command->add_option("--output", output, "folder to write")->required();
    command->add_option("--dtype", dtype,
                        "of the weights written: bf16 (the default) | fp32 | fp16");
    command->callback([=, this] {
      action = [=, this] {
        refuse_over_input(output, model);
        refuse_over_another(output);
        Transformer loaded = load_model(model, at::kFloat, at::kCPU);
        const std::string written = dtype == "auto" ? "bf16" : dtype;
        const at::ScalarType type = dtype_from(written, at::kCPU);
        if (merges) {
          load_adapter(adapter, loaded);
          const double lost = merge_lora(loaded, type);
          std::fprintf(stderr, "rounding to %s took %.2g%% of the update\n", written.c_str(),
                       100 * lost);
        }
        ModelCard card{.title = fs::path(output).filename().string(),
                       .what = "`" + model + "`, written anew.",
                       .base = model,
                       .library = "transformers",
                       .facts = {{"Base", "`" + model + "`"}, {"Type", written}},
                       .sources = {model}};
        if (merges) {
          card.what = "`" + model + "` with an adapter added to its weights.";
          card.facts.push_back({"Adapter", "`" + adapter + "`"});
          card.sources = {adapter, model};
        }
        save_model(output, loaded, type, model, to_text(card));
        std::fprintf(stderr, "wrote %s\n", output.c_str());
        return 0;
      };
    });
  };
  convert("export", "write a model anew, in one file and another type", false);
  convert("merge", "add an adapter to its base's weights", true);

  // bench
  auto* bench_command = app.add_subcommand(
      "bench", "time training and sampling on this machine, beside its own matrix products");
  takes_input(bench_command, "--model", bench.model, "Hugging Face folder");
  const auto takes_count = [&](const char* name, int64_t& value, const char* help) {
    bench_command->add_option(name, value, help)->capture_default_str()->check(CLI::PositiveNumber);
  };
  takes_count("--rows", bench.rows, "rows of a training batch");
  takes_count("--time", bench.time, "tokens in a row");
  takes_count("--samples", bench.samples, "samples drawn");
  takes_count("--new-tokens", bench.new_tokens, "tokens of each sample");
  auto* bench_tokenizer = bench_command->add_option("--tokenizer", bench.tokenizer,
                                                    "time this folder's tokenizer alone");
  bench_command->add_option("--text", bench.text, "what it splits")->needs(bench_tokenizer);
  bench_tokenizer->needs("--text");
  takes_json(bench_command);
  bench_command->callback([=, this] {
    action = [=, this] {
      const Json timings = run_benchmarks(bench);
      if (json) return print(timings);
      std::cout << text_benchmarks(timings);
      return 0;
    };
  });
}

}  // namespace inoculum
