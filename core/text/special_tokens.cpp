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

// A token as these files have it: a text, or an object with its content and flags. With `special`
// the token is special whatever its flags say.
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

// Reads the files of a folder.
class Reader {
 public:
  explicit Reader(const fs::path& folder)
      : folder_(folder),
        config_file_(folder / "tokenizer_config.json"),
        map_file_(folder / "special_tokens_map.json"),
        config_(object_in(config_file_)),
        older_(!config_.contains("added_tokens_decoder")),
        map_(older_ ? object_in(map_file_) : Json::object()) {}

  SpecialTokens read() {
    for (const std::string& key : keys()) add_named(key);
    named_count_ = names_.size();
    // An empty list of the configuration hides that of special_tokens_map.json, too.
    const bool has_list =
        config_.contains("extra_special_tokens") || config_.contains("additional_special_tokens");
    if (!add_list(config_, "extra_special_tokens", config_file_))
      add_list(config_, "additional_special_tokens", config_file_);
    if (!has_list) add_list(map_, "additional_special_tokens", map_file_);
    add_list(map_, "extra_special_tokens", map_file_);
    if (older_) add_added_tokens();
    else add_decoder();
    std::vector<DeclaredToken>& all = special_.declared;
    std::stable_sort(all.begin(), all.end(), [](const DeclaredToken& a, const DeclaredToken& b) {
      return a.token.id < b.token.id;
    });
    all.insert(all.end(), names_.begin(), names_.end());
    for (const DeclaredToken& each : all)
      if (each.token.content.empty()) throw Error("must not be empty", each.where);
    read_begin_and_end();
    return std::move(special_);
  }

 private:
  Where in_config(const std::string& field) const {
    return {.file = config_file_.string(), .field = field};
  }

  // The general ones, then those of single models, such as image_token.
  std::vector<std::string> keys() const {
    std::vector<std::string> keys = kGeneral;
    for (const Json* json : {&config_, &map_})
      for (const auto& [key, value] : json->items())
        if (key.ends_with("_token") &&
            (value.is_string() || (value.is_object() && value.contains("content"))) &&
            std::find(keys.begin(), keys.end(), key) == keys.end())
          keys.push_back(key);
    return keys;
  }

  // special_tokens_map.json, where it is read, goes before the configuration, but for keys of
  // single models.
  void add_named(const std::string& key) {
    const bool general = std::find(kGeneral.begin(), kGeneral.end(), key) != kGeneral.end();
    const bool in_map =
        map_.contains(key) && (general || !config_.contains(key) || !config_[key].is_string());
    if (!in_map && !config_.contains(key)) return;
    const Json& value = in_map ? map_[key] : config_[key];
    const Where where = in_map ? Where{.file = map_file_.string(), .field = key} : in_config(key);
    std::optional<std::string> name;
    if (!value.is_null() && value != Json("")) {
      names_.push_back({token_from(value, where, true), false, where, older_});
      name = names_.back().token.content;
      if (value.is_string() || in_map) seen_.insert(*name);
    }
    if (key == "bos_token") special_.bos = {true, name, {}, where};
    if (key == "eos_token") special_.eos = {true, name, {}, where};
  }

  bool is_named(const Json& content) const {
    return std::any_of(
        names_.begin(), names_.begin() + static_cast<std::ptrdiff_t>(named_count_),
        [&](const DeclaredToken& each) { return Json(each.token.content) == content; });
  }

  // False: there is none.
  bool add_list(const Json& json, const std::string& key, const fs::path& file) {
    if (!json.contains(key) || json[key].empty()) return false;
    if (!json[key].is_array() && !json[key].is_object())
      throw Error("must be a list of tokens", {.file = file.string(), .field = key});
    for (const auto& [place, each] : json[key].items()) {
      const Where where{.file = file.string(), .field = key + "." + place};
      const bool in_map = file == map_file_;
      names_.push_back({token_from(each, where, in_map), false, where});
      if (in_map ? key == "extra_special_tokens" : each.is_string())
        seen_.insert(names_.back().token.content);
    }
    return true;
  }

  void add_decoder() {
    const Json& decoder = config_["added_tokens_decoder"];
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
      special_.declared.push_back({std::move(token), true, where});
    }
  }

  void add_added_tokens() {
    const fs::path file = folder_ / "added_tokens.json";
    const Json added = object_in(file);
    for (const auto& [content, id] : added.items()) {
      const Where where{.file = file.string(), .field = content};
      const bool known = seen_.contains(content);
      special_.declared.push_back({{.content = content,
                                    .id = id_from(id, where),
                                    .normalized = !known,
                                    .special = known || is_named(content)},
                                   false,
                                   where});
    }
  }

  void read_begin_and_end() {
    const Json generation = object_in(folder_ / "generation_config.json"),
               model = object_in(folder_ / "config.json");
    for (auto [which, key] :
         {std::pair(&special_.bos, "bos_token_id"), std::pair(&special_.eos, "eos_token_id")}) {
      which->ids = ids_in(generation, key);
      if (which->ids.empty()) which->ids = ids_in(model, key);
    }
    for (auto [which, key] : {std::pair(&special_.add_bos, "add_bos_token"),
                              std::pair(&special_.add_eos, "add_eos_token")})
      if (config_.contains(key) && config_[key].is_boolean()) *which = config_[key].get<bool>();
  }

  const fs::path folder_, config_file_, map_file_;
  const Json config_;
  const bool older_;  // written by a transformers that had no added_tokens_decoder
  const Json map_;
  SpecialTokens special_;
  std::vector<DeclaredToken> names_;  // first those with a name, which are special, then lists
  size_t named_count_ = 0;            // of those with a name
  std::set<std::string> seen_;  // those that transformers knows of as it reads added_tokens.json
};

}  // namespace

SpecialTokens read_special_tokens(const fs::path& folder) { return Reader(folder).read(); }

BeginAndEnd begin_and_end(const SpecialTokens& special, const Tokenizer& tokenizer) {
  const auto id = [&](const SpecialTokens::Named& which) -> int32_t {
    if (which.name) {
      const auto found = tokenizer.id_of(*which.name);
      if (!found) throw Error("\"" + *which.name + "\" is no piece of the vocabulary", which.where);
      return *found;
    }
    return which.declared || which.ids.empty() || which.ids[0] >= tokenizer.vocab_size()
               ? -1
               : which.ids[0];
  };
  BeginAndEnd ids{id(special.bos), id(special.eos), {}};
  if (ids.eos >= 0) ids.ends.push_back(ids.eos);
  for (const int32_t end : special.eos.ids)
    if (end < tokenizer.vocab_size() && end != ids.eos) ids.ends.push_back(end);
  return ids;
}

}  // namespace inoculum
