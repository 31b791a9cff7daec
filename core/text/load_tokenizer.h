// The tokenizer of a model's folder.
//
//   auto tokenizer = load_tokenizer("experiments/models/persona_1");
#pragma once

#include <memory>

#include "core/base/files.h"
#include "core/text/tokenizer.h"

namespace inoculum {

// Reads `tokenizer.json`, or else `tokenizer.model`; Error where there is neither, or a broken one.
std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& folder);

}  // namespace inoculum
