// Families of Hugging Face checkpoints: how each writes config.json and names its parameters.
//
// A family is a file in core/model/families/ and a line in the table of families.cpp: a reading of
// config.json into TransformerConfig's switches, the way back, and names. The forward pass is the
// same for all.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/files.h"
#include "core/model/transformer_config.h"

namespace inoculum {

// Module paths; those inside a layer stand behind `layer` with the layer's number for {}. Empty:
// the family has none.
struct ParameterNames {
  std::string embedding, position_embedding, final_norm, head, layer;
  std::string attention_norm, mlp_norm, attention_output_norm, mlp_output_norm, q_norm, k_norm;
  std::string qkv, q, k, v, o, gate, up, down;

  std::string in_layer(size_t number, const std::string& module) const;
};

// Reads config.json field by field. null is as good as absent. A path names a field inside an
// object by dots ("rope_scaling.factor"). What nobody asked for is passed over, or refused in the
// end where it could change outputs.
class ConfigReader {
 public:
  ConfigReader(const Json& json, fs::path file);

  template <class T>
  T need(const std::string& path) {
    if (!has(path)) throw Error("is missing", where(path));
    return convert<T>(*find(path), path);
  }
  template <class T>
  T get(const std::string& path, T fallback) {
    return has(path) ? convert<T>(*find(path), path) : std::move(fallback);
  }
  // One thing that may stand under several names: they must agree.
  template <class T>
  T either(const std::vector<std::string>& paths, T fallback) {
    std::string first;
    for (const std::string& path : paths) {
      if (!has(path)) continue;
      const T value = convert<T>(*find(path), path);
      if (!first.empty() && value != fallback) {
        throw Error("is " + find(path)->dump() + ", and " + first + " is " + find(first)->dump(),
                    where(path), "they are two names of one thing");
      }
      if (first.empty()) first = path;
      fallback = value;
    }
    return fallback;
  }
  int64_t size(const std::string& path);  // at least 1
  int64_t size(const std::string& path, int64_t fallback);
  bool has(const std::string& path);                                          // there, and not null
  bool written(const std::string& key) const { return json_.contains(key); }  // null is there too
  void only(const std::string& path, const Json& allowed);  // refused with any other value
  void ignore(const std::vector<std::string>& keys);  // of no effect on outputs in this family

  std::string activation(const std::string& key, const std::string& fallback);
  // Rotary positions: the base and the stretching, in rope_theta and rope_scaling, or in newer
  // files in rope_parameters. `partial` is the share of a head that is turned; most families turn
  // all.
  void rope(TransformerConfig& c, double default_theta, std::optional<double> partial = {});
  // The same where sliding layers have others, whose base may stand under more names.
  void rope_by_layer_type(TransformerConfig& c, double default_theta,
                          const std::vector<std::string>& local_names, double default_local);
  void layer_types(TransformerConfig& c);     // newer files name each layer's kind of attention
  void uniform_layers(TransformerConfig& c);  // the same where a family has one kind alone

  // The unknown keys, which the user should hear of. Error for one that could change outputs.
  std::vector<std::string> finish() const;

  Where where(const std::string& path) const { return {.file = file_.string(), .field = path}; }

 private:
  struct Rope {
    double theta;
    RopeScaling scaling;
  };
  const Json* find(const std::string& path) const;  // nullptr where it is absent or null
  template <class T>
  T convert(const Json& value, const std::string& path) const;
  Rope rope(const std::vector<std::string>& objects, const std::vector<std::string>& theta_names,
            double default_theta, int64_t max_position_embeddings);

  const Json& json_;
  fs::path file_;
  std::set<std::string> used_;
};

struct Family {
  std::string model_type, architecture;  // as config.json names them
  ParameterNames names;
  bool transposed = false;       // linear weights are [in, out]
  bool interleaved_qkv = false;  // rows of the fused projection are [head, (q, k, v), head_dim],
                                 // not [(q, k, v), head, head_dim]
  std::vector<std::string> buffers = {};  // ends of names of tensors that are no parameters
  std::function<void(ConfigReader&, TransformerConfig&)> read;
  std::function<void(const TransformerConfig&, Json&)> write;
};

const std::vector<std::string>& family_names();       // the model types that can be read
const Family& family(const std::string& model_type);  // Error for one that is not known

// Error where the sizes and switches do not fit one another, or the family.
void check_model(const TransformerConfig& config);

// config.json of a known family → our configuration. A field that could change the computation and
// is not supported is an Error that names it; one of no known meaning is told on standard error.
TransformerConfig transformer_config_from_json(const Json& config, const fs::path& file);

// Rotary positions, by their newer names and by the older ones, and activation in config.json.
double rotary_share(const TransformerConfig& c);  // of a head's dimensions
void write_rope(const TransformerConfig& c, Json& json);
std::string activation_name(const TransformerConfig& c);

// What Llama and its many relatives share: names of parameters, and all fields but for biases and
// the reading of rotary positions. `context` is max_position_embeddings of files that do not say
// it.
const ParameterNames& llama_names();
void read_llama(ConfigReader& json, TransformerConfig& c, int64_t context);
void write_llama(const TransformerConfig& c, Json& json);

// What Gemma 2 and 3 share: all but caps, kinds of layers and rotary positions.
ParameterNames gemma_names();
void read_gemma(ConfigReader& json, TransformerConfig& c, int64_t context);

// The table's entries.
extern const Family kLlama, kMistral, kQwen2, kQwen3, kGpt2, kGptNeoX, kGemma2, kGemma3, kOlmo2,
    kOlmo3;

}  // namespace inoculum
