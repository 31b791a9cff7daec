#include "core/model/adapter_config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.h"

namespace inoculum {
namespace {

const std::string kMerge =
    "merge the adapter with PEFT (merge_and_unload), and load the merged model";

const std::set<std::string> kRead = {
    "peft_type",     "bias",           "init_lora_weights", "r",
    "lora_alpha",    "use_rslora",     "use_dora",          "rank_pattern",
    "alpha_pattern", "target_modules", "exclude_modules",   "layers_to_transform",
    "layers_pattern"};
// Of saving, of training, and of initial values, in whose place the file's tensors come.
const std::set<std::string> kMeansNothing = {"auto_mapping",      "base_model_name_or_path",
                                             "revision",          "inference_mode",
                                             "task_type",         "peft_version",
                                             "lora_dropout",      "fan_in_fan_out",
                                             "runtime_config",    "megatron_core",
                                             "loftq_config",      "eva_config",
                                             "corda_config",      "lora_ga_config",
                                             "qalora_group_size", "ensure_weight_tying"};

bool is_nothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_string() && value.get<std::string>().empty()) ||
         (value.is_structured() && value.empty());
}

template <class T>
T of_pattern(const std::vector<std::pair<std::regex, T>>& patterns, const std::string& path,
             T otherwise) {
  for (const auto& [pattern, value] : patterns)
    if (std::regex_match(path, pattern)) return value;
  return otherwise;
}

}  // namespace

AdapterConfig::AdapterConfig(const fs::path& file) : file_(file), json_(read_json(file)) {
  if (!json_.is_object()) throw Error("must be an object", {.file = file.string()});
  if (field("peft_type") != Json("LORA"))
    refuse("peft_type",
           "is " + field("peft_type").dump() + ", and only LORA adapters are supported");
  for (const auto& [key, value] : json_.items())
    if (!is_nothing(value) && !kRead.contains(key) && !kMeansNothing.contains(key) &&
        !key.starts_with('_') && !key.starts_with("unsloth_"))
      refuse(key, "is not supported, and could change what the adapter does", kMerge);
  if (const Json& bias = field("bias"); !is_nothing(bias) && bias != Json("none"))
    refuse("bias", "trained biases are not supported", kMerge);
  const Json& init = field("init_lora_weights");
  const std::vector<Json> harmless = {nullptr, true, false, "gaussian", "orthogonal", "eva"};
  if (std::find(harmless.begin(), harmless.end(), init) == harmless.end())
    refuse("init_lora_weights",
           "is " + init.dump() +
               ": such a start may take a part out of the base's weights, which are then not those "
               "that the adapter belongs to",
           "convert the adapter with PEFT (save_pretrained with "
           "path_initial_model_for_weight_conversion), or " +
               kMerge);
  flag("use_rslora"), flag("use_dora");

  if (!field("r").is_null()) rank_ = rank_from(field("r"), "r");
  if (!field("lora_alpha").is_null()) alpha_ = alpha_from(field("lora_alpha"), "lora_alpha");
  const auto read_patterns = [&](const std::string& key, const auto& add) {
    if (is_nothing(field(key))) return;
    if (!field(key).is_object()) refuse(key, "must be an object of layers and numbers");
    for (const auto& [text, value] : field(key).items())
      add(pattern("(?:.*\\.)?(?:" + text + ")", key + "." + text), value, key + "." + text);
  };
  read_patterns("rank_pattern", [&](std::regex layers, const Json& value, const std::string& key) {
    ranks_.emplace_back(std::move(layers), rank_from(value, key));
  });
  read_patterns("alpha_pattern", [&](std::regex layers, const Json& value, const std::string& key) {
    alphas_.emplace_back(std::move(layers), alpha_from(value, key));
  });

  targets_ = modules("target_modules");
  excluded_ = modules("exclude_modules");
  read_layers();
}

int64_t AdapterConfig::rank(const std::string& path) const {
  return of_pattern(ranks_, path, rank_);
}
double AdapterConfig::alpha(const std::string& path) const {
  return of_pattern(alphas_, path, alpha_);
}

std::optional<bool> AdapterConfig::targets(const std::string& path) const {
  if (excluded_ && excluded_->match(path)) return false;
  if (!targets_) return std::nullopt;
  if (!targets_->match(path)) return false;
  const bool by_whole_path =
      targets_->pattern ||
      std::find(targets_->ends.begin(), targets_->ends.end(), path) != targets_->ends.end();
  if (layers_.empty() || by_whole_path) return true;
  std::smatch found;
  const bool any =
      std::any_of(layer_numbers_.begin(), layer_numbers_.end(),
                  [&](const std::regex& each) { return std::regex_match(path, found, each); });
  return any &&
         std::find(layers_.begin(), layers_.end(), std::stoll(found[1].str())) != layers_.end();
}

bool AdapterConfig::Modules::match(const std::string& path) const {
  if (pattern) return std::regex_match(path, *pattern);
  return std::any_of(ends.begin(), ends.end(), [&](const std::string& end) {
    return path == end || path.ends_with("." + end);
  });
}

std::optional<AdapterConfig::Modules> AdapterConfig::modules(const std::string& key) const {
  if (is_nothing(field(key))) return std::nullopt;
  const auto all = texts(key);
  if (!field(key).is_string()) return Modules{std::nullopt, all};
  std::string lower = all[0];
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return Modules{pattern(lower == "all-linear" && key == "target_modules" ? ".*" : all[0], key),
                 {}};
}

// Which layers of the stack are targeted, and where a path has its layer's number.
void AdapterConfig::read_layers() {
  const Json& layers = field("layers_to_transform");
  for (const Json& number : layers.is_array() ? layers : Json::array({layers})) {
    if (number.is_null()) continue;
    if (!number.is_number_integer())
      refuse("layers_to_transform", "must be a whole number or a list of them");
    layers_.push_back(number.get<int64_t>());
  }
  for (const std::string& name : texts("layers_pattern"))
    if (!name.empty())
      layer_numbers_.push_back(
          pattern("(?:|.*?\\.)(?:" + name + ")\\.([0-9]{1,9})\\..*", "layers_pattern"));
  if (layer_numbers_.empty()) layer_numbers_.emplace_back(".*?\\.[^.]*\\.([0-9]{1,9})\\..*");
}

const Json& AdapterConfig::field(const std::string& key) const {
  static const Json null;
  const auto found = json_.find(key);
  return found == json_.end() ? null : *found;
}

bool AdapterConfig::flag(const std::string& key) const {
  const Json& value = field(key);
  if (!value.is_null() && !value.is_boolean()) refuse(key, "must be true or false");
  return value.is_boolean() && value.get<bool>();
}

std::vector<std::string> AdapterConfig::texts(const std::string& key) const {
  std::vector<std::string> all;
  const Json& value = field(key);
  for (const Json& each : value.is_array() ? value : Json::array({value})) {
    if (each.is_null()) continue;
    if (!each.is_string()) refuse(key, "must be a text or a list of texts");
    all.push_back(each.get<std::string>());
  }
  return all;
}

std::regex AdapterConfig::pattern(const std::string& text, const std::string& key) const {
  try {
    return std::regex(text);
  } catch (const std::regex_error& failure) {
    refuse(key,
           "\"" + text + "\" is no regular expression that is understood here: " + failure.what(),
           kMerge);
  }
}

int64_t AdapterConfig::rank_from(const Json& value, const std::string& key) const {
  if (!value.is_number_integer() || value < 1 || value > 1'000'000)
    refuse(key, "must be a whole number of at least 1");
  return value.get<int64_t>();
}

double AdapterConfig::alpha_from(const Json& value, const std::string& key) const {
  if (!value.is_number()) refuse(key, "must be a number");
  return value.get<double>();
}

void AdapterConfig::refuse(const std::string& field, const std::string& what,
                           const std::string& hint) const {
  throw Error(what, {.file = file_.string(), .field = field}, hint);
}

}  // namespace inoculum
