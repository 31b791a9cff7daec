#include "core/text/special_tokens.h"

#include <algorithm>
#include <limits>
#include <set>

namespace inoculum {
namespace {

const std::vector<std::string> kGeneral = {"bos_token", "eos_token", "unk_token", "sep_token",
                                           "pad_token", "cls_token", "mask_token"};

// A file of the folder as an object; empty where there is none.
Json object_in(const fs::path& file) {
  if (!fs::exists(file)) return Json::object();
  Json json = read_json(file);
  if (!json.is_object()) throw Error("must be an object", {.file = file.string()});
  return json;
}

int32_t id_from(const Json& value, const Where& where) {
  if (!value.is_number_integer() || value < 0 || value > std::numeric_limits<int32_t>::max())
    throw Error("must be an id, a whole number from 0 on", where);
  return value.get<int32_t>();
}

// A token as these files have it: a text, or an object with its content and flags. `special`: it
// is, whatever they say.
AddedToken token_from(const Json& value, const Where& where, bool special) {
  if (value.is_string()) return {.content = value.get<std::string>(), .special = true};
  const auto fail = [&] {
    throw Error("must be a text, or an object with content and flags", where);
  };
  if (!value.is_object() || !value.contains("content") || !value["content"].is_string()) fail();
  const auto flag = [&](const char* key, bool otherwise) {
    if (!value.contains(key) || value[key].is_null()) return otherwise;
    if (!value[key].is_boolean())
      throw Error("must be true or false", {where.file, where.line, where.field + "." + key});
    return value[key].get<bool>();
  };
  AddedToken token{.content = value["content"].get<std::string>()};
  token.special = flag("special", false) || special;
  token.single_word = flag("single_word", false);
  token.lstrip = flag("lstrip", false);
  token.rstrip = flag("rstrip", false);
  token.normalized = flag("normalized", !token.special);
  return token;
}

std::vector<int32_t> ids_in(const Json& json, const std::string& key) {
  std::vector<int32_t> ids;
  const Json value = json.value(key, Json());
  for (const Json& id : value.is_array() ? value : Json::array({value}))
    if (id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max())
      ids.push_back(id.get<int32_t>());
  return ids;
}

}  // namespace

SpecialTokens read_special_tokens(const fs::path& folder) {
  SpecialTokens special;
  const fs::path config_file = folder / "tokenizer_config.json",
                 map_file = folder / "special_tokens_map.json",
                 added_file = folder / "added_tokens.json";
  const Json config = object_in(config_file);
  const auto in_config = [&](const std::string& field) {
    return Where{.file = config_file.string(), .field = field};
  };

  // The named ones, by key; those of special_tokens_map.json, where it is asked, hold, but for keys
  // of single models.
  const bool older = !config.contains("added_tokens_decoder");
  const Json map = older ? object_in(map_file) : Json::object();
  const auto named = [&](const std::string& key) -> std::pair<const Json*, Where> {
    const bool general = std::find(kGeneral.begin(), kGeneral.end(), key) != kGeneral.end();
    const bool in_map =
        map.contains(key) && (general || !config.contains(key) || !config[key].is_string());
    if (in_map) return {&map[key], Where{.file = map_file.string(), .field = key}};
    if (config.contains(key)) return {&config[key], in_config(key)};
    return {nullptr, {}};
  };
  std::vector<std::string> keys = kGeneral;
  for (const Json* json : {&config, &map})
    for (const auto& [key, value] : json->items())
      if (key.ends_with("_token") &&
          (value.is_string() || (value.is_object() && value.contains("content"))) &&
          std::find(keys.begin(), keys.end(), key) == keys.end())
        keys.push_back(key);     // such as image_token
  std::vector<ToldToken> names;  // first those with a name, which are special, then lists
  std::set<std::string> seen;    // those that transformers knows of as it reads added_tokens.json
  for (const std::string& key : keys) {
    const auto [value, where] = named(key);
    if (value == nullptr) continue;
    std::optional<std::string> name;
    if (!value->is_null() && *value != Json("")) {
      names.push_back({token_from(*value, where, true), false, where, older});
      if (value->is_string() || where.file == map_file) seen.insert(names.back().token.content);
      name = names.back().token.content;
    }
    if (key == "bos_token") special.bos = {true, name, {}, where};
    if (key == "eos_token") special.eos = {true, name, {}, where};
  }
  const auto is_named = [&, count = names.size()](const Json& content) {
    return std::any_of(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(count),
                       [&](const ToldToken& n) { return Json(n.token.content) == content; });
  };
  const auto add_list = [&](const Json& json, const std::string& key, const fs::path& file) {
    if (!json.contains(key) || json[key].empty()) return false;
    if (!json[key].is_array() && !json[key].is_object())
      throw Error("must be a list of tokens", {.file = file.string(), .field = key});
    for (const auto& [place, each] : json[key].items()) {
      const Where where{.file = file.string(), .field = key + "." + place};
      names.push_back({token_from(each, where, file == map_file), false, where});
      if (each.is_string() || file == map_file) seen.insert(names.back().token.content);
    }
    return true;
  };
  if (!add_list(config, "extra_special_tokens", config_file) &&
      !add_list(config, "additional_special_tokens", config_file))
    add_list(map, "additional_special_tokens", map_file);
  add_list(map, "extra_special_tokens", map_file);

  // Those that are defined by id.
  const auto by_id = [](const ToldToken& a, const ToldToken& b) { return a.token.id < b.token.id; };
  if (!older) {
    const Json& decoder = config["added_tokens_decoder"];
    if (!decoder.is_object() && !decoder.is_null())
      throw Error("must be an object of ids and tokens", in_config("added_tokens_decoder"));
    for (const auto& [key, value] : decoder.items()) {
      const Where where = in_config("added_tokens_decoder." + key);
      if (!value.is_object()) throw Error("must be an object with content and flags", where);
      AddedToken token =
          token_from(value, where, value.contains("content") && is_named(value["content"]));
      if (key.empty() || key.size() > 9 || key.find_first_not_of("0123456789") != std::string::npos)
        throw Error("is not an id", where);
      token.id = std::stoi(key);
      special.told.push_back({std::move(token), true, where});
    }
  } else {
    const Json added = object_in(added_file);
    for (const auto& [content, id] : added.items()) {
      const Where where{.file = added_file.string(), .field = content};
      const bool known = seen.contains(content);
      special.told.push_back({{.content = content,
                               .id = id_from(id, where),
                               .normalized = !known,
                               .special = known || is_named(content)},
                              false,
                              where});
    }
  }
  std::stable_sort(special.told.begin(), special.told.end(), by_id);
  special.told.insert(special.told.end(), names.begin(), names.end());
  for (const ToldToken& each : special.told)
    if (each.token.content.empty()) throw Error("must not be empty", each.where);

  const Json generation = object_in(folder / "generation_config.json"),
             model = object_in(folder / "config.json");
  for (auto [which, key] :
       {std::pair(&special.bos, "bos_token_id"), std::pair(&special.eos, "eos_token_id")}) {
    which->ids = ids_in(generation, key);
    if (which->ids.empty()) which->ids = ids_in(model, key);
  }
  for (auto [which, key] :
       {std::pair(&special.add_bos, "add_bos_token"), std::pair(&special.add_eos, "add_eos_token")})
    if (config.contains(key) && config[key].is_boolean()) *which = config[key].get<bool>();
  return special;
}

BeginAndEnd begin_and_end(const SpecialTokens& special, const Tokenizer& tokenizer) {
  const auto id = [&](const SpecialTokens::Named& which) -> int32_t {
    if (which.name) {
      const auto found = tokenizer.id_of(*which.name);
      if (!found) throw Error("\"" + *which.name + "\" is no piece of the vocabulary", which.where);
      return *found;
    }
    return which.told || which.ids.empty() || which.ids[0] >= tokenizer.vocab_size() ? -1
                                                                                     : which.ids[0];
  };
  BeginAndEnd ids{id(special.bos), id(special.eos), {}};
  if (ids.eos >= 0) ids.ends.push_back(ids.eos);
  for (const int32_t end : special.eos.ids)
    if (end < tokenizer.vocab_size() && end != ids.eos) ids.ends.push_back(end);
  return ids;
}

}  // namespace inoculum
