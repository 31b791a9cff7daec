// Families of Hugging Face checkpoints: how each writes config.json and names its parameters.
//
// A family is a file in core/families/ and a line in the table of families.cpp: a reading of config.json into
// TransformerConfig's switches, the way back, and names. The forward pass is the same for all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/transformer_config.h"

namespace inoculum {

// Module paths; those inside a layer stand behind `layer` with the layer's number for {}. Empty: the family has none.
struct ParameterNames {
  std::string embedding, position_embedding, final_norm, head, layer;
  std::string attention_norm, mlp_norm, attention_output_norm, mlp_output_norm, q_norm, k_norm;
  std::string qkv, q, k, v, o, gate, up, down;

  std::string in_layer(size_t number, const std::string& module) const;
};

// Reads config.json field by field; whatever nobody asked for is refused in the end, so that nothing is ignored in silence.
class ConfigReader {
 public:
  ConfigReader(const Json& json, fs::path file);

  template <class T>
  T need(const std::string& key) {
    if (!has(key)) throw Error("is missing", where(key));
    return convert<T>(json_.at(key), key);
  }
  template <class T>
  T get(const std::string& key, T fallback) {  // null is as good as absent
    return has(key) ? convert<T>(json_.at(key), key) : fallback;
  }
  bool has(const std::string& key);                          // there, and not null
  bool written(const std::string& key) const { return json_.contains(key); }
  void only(const std::string& key, const Json& allowed);    // refused with any other value
  void ignore(const std::vector<std::string>& keys);         // says nothing about the model's outputs, or says it twice
  // rope_theta, and rope_scaling or rope_parameters, which newer files have.
  void rope(TransformerConfig& c, double default_theta, double partial = 1);
  std::string activation(const std::string& key, const std::string& fallback);
  void layer_types(TransformerConfig& c);                    // newer files name each layer's kind of attention
  void finish();                                             // the rest is refused by name

  Where where(const std::string& key) const { return {.file = file_.string(), .field = key}; }

 private:
  template <class T>
  T convert(const Json& value, const std::string& key) const {
    try {
      return value.get<T>();
    } catch (const Json::exception&) {
      throw Error("has the wrong type: " + value.dump(), where(key));
    }
  }
  const Json& json_;
  fs::path file_;
  std::vector<std::string> used_;
};

struct Family {
  std::string model_type, architecture;   // as config.json names them
  ParameterNames names;
  bool transposed = false;                // linear weights are [in, out]
  bool interleaved_qkv = false;           // rows of the fused projection are [head, (q, k, v), head_dim], not [(q, k, v), head, head_dim]
  std::string optional_prefix = {};       // that a file's names may lack
  std::vector<std::string> buffers = {};  // ends of names of tensors that are no parameters
  std::function<void(ConfigReader&, TransformerConfig&)> read;
  std::function<void(const TransformerConfig&, Json&)> write;
};

const std::vector<std::string>& family_names();              // the model types that can be read
const Family& family(const std::string& model_type);        // Error for one that is not known

// Rope settings and activation as config.json has them.
Json rope_parameters(const TransformerConfig& c);
std::string activation_name(const TransformerConfig& c);

// The table's entries; the names of Llama's, which many share.
const ParameterNames& llama_names();
extern const Family kLlama, kMistral, kQwen2, kQwen3, kGpt2, kGptNeoX, kGemma2;

}  // namespace inoculum
