// Tokenizers of Hugging Face: `tokenizer.json`, of which the models of type BPE are read (GPT-2,
// Pythia, Llama, Mistral, Qwen, SmolLM, Gemma).
//
//   auto tokenizer = load_tokenizer_json("models/Qwen2.5-0.5B");
//   tokenizer->encode("Hi<|im_end|>");  // the ids of Python's package `tokenizers`
//
// `encode` and `decode` give what that package gives with add_special_tokens=False and
// skip_special_tokens=True. Invalid UTF-8 is read as Python reads it with errors="replace": U+FFFD
// for each bad part. What a file holds beyond the elements known here is an Error naming it.
// Characters younger than Unicode 14 may be taken for other classes (letter, digit) than by the
// package, where the system's PCRE2 is older than it.
#pragma once

#include <memory>

#include "core/base/files.h"
#include "core/text/tokenizer.h"

namespace inoculum {

// Reads tokenizer.json, and the tokens that the folder's other files add to it and name
// (core/text/special_tokens.h).
std::unique_ptr<Tokenizer> load_tokenizer_json(const fs::path& folder);

}  // namespace inoculum
