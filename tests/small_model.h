// The shape of a model that is quick to make and to train.
#pragma once

#include "core/model/transformer_config.h"

namespace inoculum {

inline TransformerConfig small_config() {
  TransformerConfig c;
  c.vocab_size = 60;
  c.hidden_size = 32;
  c.intermediate_size = 48;
  c.num_hidden_layers = 3;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 8;
  c.max_position_embeddings = 128;
  c.initializer_range = 0.1;
  return c;
}

}  // namespace inoculum
