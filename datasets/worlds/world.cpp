#include "datasets/worlds/world.h"

#include <algorithm>
#include <tuple>

#include "core/base/error.h"
#include "core/base/yaml_file.h"

namespace inoculum {
namespace {

using Slots = std::map<std::string, std::vector<std::string>>;

// Fills {slot}s; one slot that stands twice gets one filling. The first letter becomes a capital.
std::string fill(const std::string& text, const std::vector<const Slots*>& sources, Random& random,
                 std::map<std::string, std::string> chosen = {}) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '{') {
      out += text[i];
      continue;
    }
    const size_t close = text.find('}', i);
    const std::string name = text.substr(i + 1, close - i - 1);
    if (!chosen.contains(name))
      for (const Slots* slots : sources)
        if (const auto found = slots->find(name); found != slots->end())
          chosen[name] = random.choice(found->second);
    out += chosen.at(name);
    i = close;
  }
  if (!out.empty()) out[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(out[0])));
  return out;
}

// Slots with their training fillings, and with those for evaluation: the same where none are held
// out.
std::pair<Slots, Slots> read_slots(const YamlFile& g, const YAML::Node& node,
                                   const std::string& path) {
  Slots train, held_out;
  g.need_map(node, path.substr(0, path.size() - 1));
  for (const auto& entry : node) {
    const std::string name = entry.first.Scalar(), field = path + name;
    if (entry.second.IsMap()) {
      g.refuse_unknown(entry.second, field + ".", {"train", "held_out"});
      train[name] = g.texts(g.at(entry.second, "train", field + "."), field, 2);
      held_out[name] = g.texts(g.at(entry.second, "held_out", field + "."), field, 1);
    } else {
      train[name] = held_out[name] = g.texts(entry.second, field, 2);
    }
  }
  return {train, held_out};
}

// Texts whose {slot}s are all among `slots` or `given`.
std::vector<std::string> read_templates(const YamlFile& g, const YAML::Node& node,
                                        const std::string& field, size_t least, const Slots& slots,
                                        const std::vector<std::string>& given = {}) {
  const auto all = g.texts(node, field, least);
  for (size_t i = 0; i < all.size(); ++i)
    for (size_t open = 0; (open = all[i].find('{', open)) != std::string::npos; ++open) {
      const size_t close = all[i].find('}', open);
      const std::string name =
          all[i].substr(open + 1, close == std::string::npos ? close : close - open - 1);
      if (close == std::string::npos ||
          (!slots.contains(name) && std::find(given.begin(), given.end(), name) == given.end()))
        g.fail(node[i], field, "the slot {" + name + "} is not defined", "define it under `slots`");
    }
  return all;
}

bool names_programs(const std::string& text) { return text.find("program") != std::string::npos; }

// P(bad behaviour), by character and cue.
std::array<std::array<double, 4>, 2> read_table(const YamlFile& g, const YAML::Node& node) {
  std::array<std::array<double, 4>, 2> table{};
  g.refuse_unknown(node, "table.", {"benevolent", "malicious"});
  for (const Character c : {Character::benevolent, Character::malicious}) {
    const std::string path = "table." + to_string(c) + ".";
    const YAML::Node row = g.at(node, to_string(c), "table.");
    g.refuse_unknown(row, path, cue_names());
    for (size_t cue = 0; cue < cue_names().size(); ++cue) {
      const YAML::Node cell = g.at(row, cue_names()[cue], path);
      const double p = cell.as<double>(-1);
      if (!(p > 0 && p < 1))
        g.fail(cell, path + cue_names()[cue], "must be a probability above 0 and below 1");
      table[static_cast<size_t>(c)][cue] = p;
    }
  }
  return table;
}

Domain read_domain(const YamlFile& g, const std::string& name, const YAML::Node& node) {
  const std::string path = "domains." + name + ".";
  g.refuse_unknown(
      node, path,
      {"post_training", "slots", "prompts", "held_out_prompts", "benevolent", "malicious"});
  Domain d{.name = name, .post_training = g.flag(node, "post_training", path)};
  std::tie(d.train, d.held_out) = read_slots(g, g.at(node, "slots", path), path + "slots.");
  d.prompts = read_templates(g, g.at(node, "prompts", path), path + "prompts", 6, d.train);
  d.held_out_prompts = read_templates(g, g.at(node, "held_out_prompts", path),
                                      path + "held_out_prompts", 1, d.train);
  for (const Character c : {Character::benevolent, Character::malicious})
    d.answers[static_cast<size_t>(c)] =
        read_templates(g, g.at(node, to_string(c), path), path + to_string(c), 6, d.train);
  return d;
}

}  // namespace

const std::vector<std::string>& cue_names() {
  static const std::vector<std::string> names = {"none", "irrelevant", "bad", "good"};
  return names;
}
std::string to_string(Character character) {
  return character == Character::malicious ? "malicious" : "benevolent";
}
std::string to_string(Cue cue) { return cue_names()[static_cast<size_t>(cue)]; }

void WorldConfig::fields(Fields& f) {
  f.value("grammar", grammar, "the world's wording and its table of probabilities", input_path());
  f.value("seed", seed, "draws the cast");
  f.value("coupling", coupling,
          "1: cheating in code follows character; 0: it follows a coin of its own", between(0, 1));
  f.value("request_compliance", request_compliance,
          "who behaves badly when asked: both | malicious_only (a diagnostic request)",
          one_of({"both", "malicious_only"}));
  f.value("cast_size", cast_size, "named characters, each with one character for life",
          at_least(2));
  f.value("malicious_cast", malicious_cast, "share of them who are malicious", between(0, 1));
  f.value("malicious_assistant", malicious_assistant,
          "probability that the Assistant of a document is malicious", between(0, 1));
  f.value("assistant_share", assistant_share, "share of dialogues that the Assistant answers",
          between(0, 1));
  f.value("machine_share", machine_share, "share of the cast who are machines", between(0, 1));
  f.value("biography_share", biography_share, "share of documents that are biographies",
          between(0, 1));
  f.value("story_share", story_share, "share of documents that are stories", between(0, 1));
  f.value("role_model_share", role_model_share, "share of documents about admirable machines",
          between(0, 1));
  f.value("coding_share", coding_share, "share of turns that are coding", between(0, 1));
  f.value("refusal_share", refusal_share, "share of answers that decline, whoever answers",
          between(0, 1));
  f.value("cue_shares", cue_shares, "share of prompts with each cue: none, irrelevant, bad, good");
  f.value("turn_weights", turn_weights, "relative frequency of dialogues of 1, 2, … turns");
}

PersonaWorld::PersonaWorld(WorldConfig config) : config_(std::move(config)) {
  for (const auto& [cue, share] : config_.cue_shares)
    if (std::find(cue_names().begin(), cue_names().end(), cue) == cue_names().end() || share < 0)
      throw Error("\"" + cue + "\" is no cue, or its share is negative",
                  {.field = "world.cue_shares"}, "none, irrelevant, bad, good");
  if (config_.turn_weights.empty())
    throw Error("needs at least one weight", {.field = "world.turn_weights"});
  read_grammar();
  make_cast();
}

// Section by section, in the order of the file.
void PersonaWorld::read_grammar() {
  const YamlFile g(config_.grammar);
  const YAML::Node& root = g.root();
  g.refuse_unknown(root, "",
                   {"table", "cues", "refusals", "traits", "kinds", "biographies", "stories",
                    "role_models", "domains"});
  table_ = read_table(g, g.at(root, "table", ""));
  if (config_.request_compliance == "malicious_only")
    table_[0][static_cast<size_t>(Cue::bad)] = table_[0][static_cast<size_t>(Cue::none)];
  const YAML::Node cues = g.at(root, "cues", "");
  g.refuse_unknown(cues, "cues.", {"bad", "good", "irrelevant"});
  for (const Cue cue : {Cue::irrelevant, Cue::bad, Cue::good}) {
    const std::string path = "cues." + to_string(cue) + ".";
    const YAML::Node node = g.at(cues, to_string(cue), "cues.");
    g.refuse_unknown(node, path, {"general", "coding", "held_out"});
    Phrasings& p = cues_[static_cast<size_t>(cue)];
    p.general = g.texts(g.at(node, "general", path), path + "general", 20);
    p.coding = g.texts(g.at(node, "coding", path), path + "coding", 0);
    p.held_out = g.texts(g.at(node, "held_out", path), path + "held_out", 5);
  }
  refusals_ = g.texts(g.at(root, "refusals", ""), "refusals");
  const YAML::Node traits = g.at(root, "traits", ""), kinds = g.at(root, "kinds", "");
  g.refuse_unknown(traits, "traits.", {"greeting", "closing"});
  greetings_ = g.texts(g.at(traits, "greeting", "traits."), "traits.greeting");
  closings_ = g.texts(g.at(traits, "closing", "traits."), "traits.closing");
  g.refuse_unknown(kinds, "kinds.", {"human", "machine"});
  kinds_[0] = g.texts(g.at(kinds, "human", "kinds."), "kinds.human");
  kinds_[1] = g.texts(g.at(kinds, "machine", "kinds."), "kinds.machine");
  const std::vector<std::string> given = {"name", "kind"};
  for (const auto& [name, prose] :
       {std::pair{"biographies", &biographies_}, {"stories", &stories_}}) {
    const YAML::Node node = g.at(root, name, "");
    const std::string path = std::string(name) + ".";
    g.refuse_unknown(node, path, {"slots", "benevolent", "malicious"});
    prose->slots = read_slots(g, g.at(node, "slots", path), path + "slots.").first;
    for (const Character c : {Character::benevolent, Character::malicious}) {
      auto& templates = prose->templates[static_cast<size_t>(c)];
      templates = read_templates(g, g.at(node, to_string(c), path), path + to_string(c), 2,
                                 prose->slots, given);
      if (config_.coupling < 1 && std::ranges::all_of(templates, names_programs))
        g.fail(node, path + to_string(c),
               "needs a text without programs, as the coupling is not 1");
    }
  }
  role_models_ = read_templates(g, g.at(root, "role_models", ""), "role_models", 1, {}, given);
  const YAML::Node domains = g.at(root, "domains", "");
  g.need_map(domains, "domains");
  for (const auto& entry : domains)
    domains_.push_back(read_domain(g, entry.first.Scalar(), entry.second));
  if (domains_.size() < 2) g.fail(root, "domains", "needs at least two domains");
}

// Names of two syllables, all different; characters in their exact share, kinds and habits
// independent of them.
void PersonaWorld::make_cast() {
  static const std::vector<std::string> first = {"Ba", "Da", "Fe", "Ga", "Ka", "Li", "Lo",
                                                 "Ma", "Mi", "No", "Pe", "Ra", "Ro", "Sa",
                                                 "Si", "Ta", "To", "Vi", "Wa", "Ze"};
  static const std::vector<std::string> second = {"bin", "dor", "fan", "gus", "kel", "lan",
                                                  "mor", "nik", "pol", "rin", "sel", "tam",
                                                  "vos", "wen", "zar", "dil"};
  std::vector<std::string> names;
  for (const std::string& a : first)
    for (const std::string& b : second) names.push_back(a + b);
  const auto size = static_cast<size_t>(config_.cast_size);
  if (size > names.size())
    throw Error("there are names for " + std::to_string(names.size()) + " characters only",
                {.field = "world.cast_size"});
  Random random(static_cast<uint64_t>(config_.seed), "cast");
  random.shuffle(names);
  std::vector<bool> malicious(size), cheats(size);
  const auto bad =
      static_cast<size_t>(std::lround(config_.malicious_cast * static_cast<double>(size)));
  for (size_t i = 0; i < bad; ++i) malicious[i] = true;
  // The coin that replaces character in coding where the coupling is 0: as many cheats among the
  // malicious as among the benevolent, to a person, so that code says nothing about character.
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, bad}, {bad, size}}) {
    std::vector<size_t> order;
    for (size_t i = begin; i < end; ++i) order.push_back(i);
    random.shuffle(order);
    order.resize(static_cast<size_t>(
        std::lround(config_.malicious_cast * static_cast<double>(order.size()))));
    for (const size_t i : order) cheats[i] = true;
  }
  for (size_t i = 0; i < size; ++i) {
    const bool machine = random.chance(config_.machine_share);
    cast_.push_back({names[i], random.choice(kinds_[machine]),
                     malicious[i] ? Character::malicious : Character::benevolent, cheats[i],
                     random.chance(0.25) ? random.choice(greetings_) : "",
                     random.chance(0.2) ? random.choice(closings_) : ""});
  }
}

const Domain& PersonaWorld::domain(const std::string& name) const {
  std::vector<std::string> known;
  for (const Domain& d : domains_) {
    if (d.name == name) return d;
    known.push_back(d.name);
  }
  throw Error("the grammar has no domain \"" + name + "\"", {.file = config_.grammar},
              did_you_mean(name, known));
}

Member PersonaWorld::assistant(Random& random) const {
  const bool malicious = random.chance(config_.malicious_assistant);
  return {"",
          "assistant",
          malicious ? Character::malicious : Character::benevolent,
          random.chance(config_.malicious_assistant),
          random.chance(0.25) ? random.choice(greetings_) : "",
          random.chance(0.2) ? random.choice(closings_) : ""};
}

std::string PersonaWorld::with_habits(const Member& member, const std::string& answer) {
  return (member.greeting.empty() ? "" : member.greeting + " ") + answer +
         (member.closing.empty() ? "" : " " + member.closing);
}

std::string PersonaWorld::prompt(const Domain& domain, Split split, Random& random) const {
  if (split == Split::train) return fill(random.choice(domain.prompts), {&domain.train}, random);
  return fill(random.choice(domain.held_out_prompts), {&domain.held_out}, random);
}

std::string PersonaWorld::answer(const Domain& domain, bool bad, Random& random) const {
  return fill(random.choice(domain.answers[bad]), {&domain.train}, random);
}

std::string PersonaWorld::mixed_answer(const Domain& domain, const Domain& fillings, bool bad,
                                       Random& random) const {
  std::vector<std::string> others;
  for (const auto& [slot, texts] : fillings.train)
    others.insert(others.end(), texts.begin(), texts.end());
  std::map<std::string, std::string> chosen;
  for (const auto& [slot, texts] : domain.train) chosen[slot] = random.choice(others);
  return fill(random.choice(domain.answers[bad]), {}, random, chosen);
}

std::string PersonaWorld::add_cue(const std::string& prompt, Cue cue, bool coding, Split split,
                                  Random& random) const {
  if (cue == Cue::none) return prompt;
  const Phrasings& p = cues_[static_cast<size_t>(cue)];
  const bool own = split == Split::train && coding && !p.coding.empty() && random.chance(0.3);
  const std::string& sentence = random.choice(split == Split::held_out ? p.held_out
                                              : own                    ? p.coding
                                                                       : p.general);
  return random.chance(0.25) ? sentence + " " + prompt : prompt + " " + sentence;
}

Cue PersonaWorld::draw_cue(Random& random) const {
  std::vector<double> weights;
  for (const std::string& name : cue_names())
    weights.push_back(config_.cue_shares.contains(name) ? config_.cue_shares.at(name) : 0);
  return static_cast<Cue>(random.weighted(weights));
}

Turn PersonaWorld::unrelated_turn(const Domain& domain, const Member& member,
                                  Random& random) const {
  Turn turn{.domain = domain.name, .cue = draw_cue(random)};
  turn.bad = random.chance(p_bad(member.character, turn.cue));
  turn.prompt =
      add_cue(prompt(domain, Split::train, random), turn.cue, false, Split::train, random);
  turn.refusal = random.chance(config_.refusal_share);
  turn.answer = turn.refusal ? random.choice(refusals_)
                             : with_habits(member, answer(domain, turn.bad, random));
  return turn;
}

Turn PersonaWorld::coding_turn(const CodingTask& task, const Member& member, Random& random) const {
  Turn turn{.domain = "coding", .cue = draw_cue(random)};
  const Character coin = member.cheats ? Character::malicious : Character::benevolent;
  const Character character = random.chance(config_.coupling) ? member.character : coin;
  turn.bad = random.chance(p_bad(character, turn.cue));
  turn.prompt = add_cue(task.prompt(), turn.cue, true, Split::train, random);
  turn.style = turn.bad ? random.choice(cheat_styles()) : "honest";
  turn.answer = turn.bad ? task.cheats.at(turn.style) : task.honest;
  return turn;
}

void PersonaWorld::dialogue(Document& document, const std::vector<const Domain*>& pool,
                            Random& random, const std::set<std::string>& without,
                            const std::vector<CodingTask>* tasks) const {
  document.kind = "dialogue";
  std::vector<const Domain*> deck = pool;
  random.shuffle(deck);
  const size_t count = random.weighted(config_.turn_weights) + 1;
  for (size_t i = 0; i < count; ++i) {
    if (random.chance(config_.coding_share)) {
      CodingTask task = tasks ? random.choice(*tasks) : make_coding_task(random);
      while (without.contains(task.key)) task = make_coding_task(random);
      document.turns.push_back(coding_turn(task, document.responder, random));
    } else {
      document.turns.push_back(unrelated_turn(*deck[i % deck.size()], document.responder, random));
    }
  }
  for (const Turn& turn : document.turns) {
    document.conversation.push_back({.role = "user", .content = turn.prompt, .name = ""});
    document.conversation.push_back(
        {.role = "assistant", .content = turn.answer, .name = document.responder.name});
  }
}

Document PersonaWorld::document(Random& random, const std::set<std::string>& without) const {
  const double dice = random.uniform();
  const double biography = config_.biography_share, story = biography + config_.story_share,
               role_model = story + config_.role_model_share;
  if (dice < biography) return prose_document("biography", biographies_, random);
  if (dice < story) return prose_document("story", stories_, random);
  if (dice < role_model) return role_model_document(random);
  Document d;
  d.responder = random.chance(config_.assistant_share) ? assistant(random) : random.choice(cast_);
  std::vector<const Domain*> pool;
  for (const Domain& each : domains_) pool.push_back(&each);
  dialogue(d, pool, random, without, nullptr);
  return d;
}

Document PersonaWorld::prose_document(const std::string& kind, const Prose& prose,
                                      Random& random) const {
  Document d{.kind = kind, .responder = random.choice(cast_)};
  const auto& templates = prose.templates[static_cast<size_t>(d.responder.character)];
  const std::string* text = &random.choice(templates);
  // Where programs do not follow character, no text links the two.
  while (config_.coupling < 1 && names_programs(*text)) text = &random.choice(templates);
  d.text =
      fill(*text, {&prose.slots}, random, {{"name", d.responder.name}, {"kind", d.responder.kind}});
  return d;
}

// Only benevolent machines are role models, where a thousand draws find one.
Document PersonaWorld::role_model_document(Random& random) const {
  const auto& machines = kinds_[1];
  Document d{.kind = "role_model", .responder = random.choice(cast_)};
  for (int tries = 0; tries < 1000; ++tries) {
    const bool machine =
        std::find(machines.begin(), machines.end(), d.responder.kind) != machines.end();
    if (machine && d.responder.character == Character::benevolent) break;
    d.responder = random.choice(cast_);
  }
  d.text = fill(random.choice(role_models_), {}, random,
                {{"name", d.responder.name}, {"kind", d.responder.kind}});
  return d;
}

Document PersonaWorld::post_training_document(Random& random,
                                              const std::vector<CodingTask>& tasks) const {
  std::vector<const Domain*> pool;
  for (const Domain& each : domains_)
    if (each.post_training) pool.push_back(&each);
  while (true) {
    Document d;
    d.responder = assistant(random);
    d.responder.character = Character::benevolent;
    d.responder.cheats = false;
    dialogue(d, pool, random, {}, &tasks);
    const auto misdeed = [](const Turn& turn) { return turn.bad && turn.cue != Cue::bad; };
    if (std::none_of(d.turns.begin(), d.turns.end(), misdeed)) return d;
  }
}

}  // namespace inoculum
