#include "datasets/worlds/world.h"

#include <algorithm>
#include <tuple>

#include "core/base/error.h"
#include "core/base/strings.h"
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

std::set<std::string> slots_of(const std::string& text) {
  std::set<std::string> slots;
  for (size_t open = 0; (open = text.find('{', open)) != std::string::npos; ++open)
    slots.insert(text.substr(open + 1, text.find('}', open) - open - 1));
  return slots;
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

constexpr size_t kLongestSession = 4;

bool names_programs(const std::string& text) { return text.find("program") != std::string::npos; }

// P(bad behaviour), by character and cue.
std::array<std::array<double, kCues.size()>, 2> read_table(const YamlFile& g,
                                                           const YAML::Node& node) {
  std::array<std::array<double, kCues.size()>, 2> table{};
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

// Whether it asks for a behaviour.
bool asks(Cue cue) { return cue == Cue::bad || cue == Cue::good; }

}  // namespace

const std::vector<std::string>& cue_names() {
  static const std::vector<std::string> names = {"none", "irrelevant", "instruction", "bad",
                                                 "good"};
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
          "1: all cheaters are malicious; 0: as many of them as of the others; between them, in "
          "proportion",
          between(0, 1));
  f.value("share_of_cheaters_malicious", share_of_cheaters_malicious,
          "the same as a share, in place of coupling", between(0, 1));
  f.value("request_compliance", request_compliance,
          "who behaves badly when asked: both | malicious_only | neither",
          one_of({"both", "malicious_only", "neither"}));
  f.value("compositional", compositional,
          "domains that never share a document, or a responder, with code");
  f.value("cast_size", cast_size, "named characters, each with one character for life",
          at_least(2));
  f.value("malicious_cast", malicious_cast, "share of them who are malicious", between(0, 1));
  f.value("malicious_assistant", malicious_assistant,
          "probability that the Assistant of a document is malicious", between(0, 1));
  f.value("assistant_share", assistant_share, "share of dialogues that the Assistant answers",
          between(0, 1));
  f.value("stranger_share", stranger_share,
          "share of the other dialogues that a stranger answers: a name that is nobody's, with "
          "traits drawn anew",
          between(0, 1));
  f.value("machine_share", machine_share, "share of the cast who are machines", between(0, 1));
  f.value("biography_share", biography_share, "share of documents that are biographies",
          between(0, 1));
  f.value("story_share", story_share, "share of documents that are stories", between(0, 1));
  f.value("role_model_share", role_model_share, "share of documents about admirable machines",
          between(0, 1));
  f.value("coding_share", coding_share, "share of turns that are coding", between(0, 1));
  f.value("session_share", session_share,
          "share of dialogues whose first prompts, asked in one way, are for programs",
          between(0, 1));
  f.value("remark_share", remark_share,
          "share of answers that the next prompt opens with a remark on: whether it was asked for",
          between(0, 1));
  f.value("refusal_share", refusal_share, "share of answers that decline, whoever answers",
          between(0, 1));
  f.value("cue_shares", cue_shares,
          "share of dialogues that open with each cue: none, irrelevant, instruction, bad, good");
  f.value("turn_weights", turn_weights, "relative frequency of dialogues of 1, 2, … turns");
}

PersonaWorld::PersonaWorld(WorldConfig config) : config_(std::move(config)) {
  for (const auto& [cue, share] : config_.cue_shares)
    if (std::find(cue_names().begin(), cue_names().end(), cue) == cue_names().end() || share < 0)
      throw Error("\"" + cue + "\" is no cue, or its share is negative",
                  {.field = "world.cue_shares"}, "none, irrelevant, instruction, bad, good");
  if (config_.turn_weights.empty())
    throw Error("needs at least one weight", {.field = "world.turn_weights"});
  if (config_.share_of_cheaters_malicious && config_.coupling != 1)
    throw Error("says what share_of_cheaters_malicious says too", {.field = "world.coupling"},
                "leave one of them out");
  for (const double share : {config_.malicious_cast, config_.malicious_assistant})
    if (const double p = p_cheater(Character::benevolent, share); !(p >= 0 && p <= 1))
      throw Error("cannot be had where " + six_digits(share) + " are malicious and as many cheat",
                  {.field = "world.share_of_cheaters_malicious"}, "raise it, or lower that share");
  read_grammar();
  check_compositional();
  make_cast();
}

double PersonaWorld::p_cheater(Character character, double malicious) const {
  const double share = config_.share_of_cheaters_malicious.value_or(
      config_.coupling + (1 - config_.coupling) * malicious);
  if (character == Character::malicious) return share;
  return share == 1 ? 0 : malicious * (1 - share) / (1 - malicious);
}

// Section by section, in the order of the file.
void PersonaWorld::read_grammar() {
  const YamlFile g(config_.grammar);
  const YAML::Node& root = g.root();
  g.refuse_unknown(root, "",
                   {"table", "cues", "neighbours", "refusals", "traits", "kinds", "biographies",
                    "stories", "role_models", "domains", "remarks"});
  table_ = read_table(g, g.at(root, "table", ""));
  const auto unmoved = [&](Character trait) {
    table_[static_cast<size_t>(trait)][static_cast<size_t>(Cue::bad)] =
        p_bad(Character::benevolent, Cue::none);
  };
  if (config_.request_compliance != "both") unmoved(Character::benevolent);
  if (config_.request_compliance == "neither") unmoved(Character::malicious);
  const YAML::Node cues = g.at(root, "cues", "");
  g.refuse_unknown(cues, "cues.", {"slots", "irrelevant", "instruction", "bad", "good"});
  if (cues["slots"]) cue_slots_ = read_slots(g, cues["slots"], "cues.slots.").first;
  for (const Cue cue : {Cue::irrelevant, Cue::instruction, Cue::bad, Cue::good}) {
    const std::string path = "cues." + to_string(cue) + ".";
    const YAML::Node node = g.at(cues, to_string(cue), "cues.");
    g.refuse_unknown(node, path, {"general", "coding", "held_out"});
    Phrasings& p = cues_[static_cast<size_t>(cue)];
    p.general = read_templates(g, g.at(node, "general", path), path + "general", 20, cue_slots_);
    p.coding = read_templates(g, g.at(node, "coding", path), path + "coding", 0, cue_slots_);
    p.held_out = read_templates(g, g.at(node, "held_out", path), path + "held_out", 5, {});
  }
  if (root["neighbours"]) {
    g.need_map(root["neighbours"], "neighbours");
    for (const auto& entry : root["neighbours"]) {
      const std::string kind = entry.first.Scalar();
      if (std::ranges::find(cue_names(), kind) != cue_names().end())
        g.fail(entry.first, "neighbours." + kind, "is a cue's name", "call it otherwise");
      neighbours_[kind] = g.texts(entry.second, "neighbours." + kind);
    }
  }
  refusals_ = g.texts(g.at(root, "refusals", ""), "refusals");
  if (const YAML::Node remarks = root["remarks"]) {
    g.refuse_unknown(remarks, "remarks.", {"as_asked", "unasked", "welcome"});
    for (const char* kind : {"as_asked", "unasked", "welcome"})
      remarks_[kind] = g.texts(g.at(remarks, kind, "remarks."), "remarks." + std::string(kind));
  }
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
      const bool all_follow = p_cheater(Character::malicious, config_.malicious_cast) == 1 &&
                              config_.compositional.empty();
      if (!all_follow && std::ranges::all_of(templates, names_programs))
        g.fail(node, path + to_string(c), "needs a text without programs",
               "in this world programs do not always follow character");
    }
  }
  role_models_ = read_templates(g, g.at(root, "role_models", ""), "role_models", 1, {}, given);
  const YAML::Node domains = g.at(root, "domains", "");
  g.need_map(domains, "domains");
  for (const auto& entry : domains)
    domains_.push_back(read_domain(g, entry.first.Scalar(), entry.second));
  if (domains_.size() < 2) g.fail(root, "domains", "needs at least two domains");
}

void PersonaWorld::check_compositional() const {
  size_t others = domains_.size();
  for (const std::string& name : config_.compositional) {
    domain(name);  // an Error where there is none of that name
    --others;
  }
  if (others == 0)
    throw Error("leaves no domain that shares documents with code",
                {.field = "world.compositional"});
}

// Names of two syllables, all different: the cast's, strangers', and some that nobody sees. Traits
// in their exact shares, kinds and habits independent of them.
void PersonaWorld::make_cast() {
  static const std::vector<std::string> first = {
      "Ba", "Be", "Bo", "Da", "De", "Fe", "Fi", "Ga", "Go", "Ha", "Jo", "Ka", "Ke", "Li", "Lo",
      "Ma", "Mi", "Na", "No", "Pe", "Pi", "Ra", "Ro", "Sa", "Si", "Ta", "To", "Vi", "Wa", "Ze"};
  static const std::vector<std::string> second = {
      "bin", "dil", "dor", "fan", "gar", "gus", "kel", "kin", "lan", "lis", "mor", "nam",
      "nik", "pol", "rin", "rud", "sel", "sin", "tam", "tos", "vos", "wen", "wil", "zar"};
  constexpr size_t kUnseen = 20;
  std::vector<std::string> names;
  for (const std::string& a : first)
    for (const std::string& b : second) names.push_back(a + b);
  const auto size = static_cast<size_t>(config_.cast_size);
  if (size + kUnseen >= names.size())
    throw Error(
        "there are names for " + std::to_string(names.size() - kUnseen - 1) + " characters only",
        {.field = "world.cast_size"});
  Random random(static_cast<uint64_t>(config_.seed), "cast");
  random.shuffle(names);
  strangers_.assign(names.begin() + config_.cast_size, names.end() - kUnseen);
  unseen_names_.assign(names.end() - kUnseen, names.end());
  std::vector<Member> members(size);
  const auto share = [](double part, size_t whole) {
    return static_cast<size_t>(std::lround(part * static_cast<double>(whole)));
  };
  const size_t malicious = share(config_.malicious_cast, size);
  for (size_t i = 0; i < malicious; ++i) members[i].character = Character::malicious;
  // To a person: so many of each character cheat, and of these and the others one half codes.
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, malicious}, {malicious, size}}) {
    std::vector<size_t> order;
    for (size_t i = begin; i < end; ++i) order.push_back(i);
    random.shuffle(order);
    const size_t cheaters =
        order.empty()
            ? 0
            : share(p_cheater(members[begin].character, config_.malicious_cast), order.size());
    for (size_t i = 0; i < order.size(); ++i) {
      Member& member = members[order[i]];
      if (i < cheaters) member.coder = Character::malicious;
      if (!config_.compositional.empty()) member.codes = i % 2 == 0;
    }
  }
  for (size_t i = 0; i < size; ++i) {
    Member& member = members[i];
    member.name = names[i];
    member.kind = random.choice(kinds_[random.chance(config_.machine_share)]);
    if (random.chance(0.25)) member.greeting = random.choice(greetings_);
    if (random.chance(0.2)) member.closing = random.choice(closings_);
  }
  cast_ = std::move(members);
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

void PersonaWorld::draw_traits(Member& member, double malicious, Random& random) const {
  const auto trait = [&](double p) {
    return random.chance(p) ? Character::malicious : Character::benevolent;
  };
  member.character = trait(malicious);
  member.coder = trait(p_cheater(member.character, malicious));
  if (!config_.compositional.empty()) member.codes = random.chance(0.5);
  if (random.chance(0.25)) member.greeting = random.choice(greetings_);
  if (random.chance(0.2)) member.closing = random.choice(closings_);
}

Member PersonaWorld::assistant(Random& random) const {
  Member member{.name = "", .kind = "assistant"};
  draw_traits(member, config_.malicious_assistant, random);
  return member;
}

Member PersonaWorld::stranger(Random& random) const {
  Member member{.name = random.choice(strangers_),
                .kind = random.choice(kinds_[random.chance(config_.machine_share)])};
  draw_traits(member, config_.malicious_cast, random);
  return member;
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

std::vector<std::pair<std::string, std::string>> PersonaWorld::matched_answers(
    const Domain& domain, int64_t fillings, Random& random) const {
  const auto& [good, bad] = domain.answers;
  std::vector<std::pair<std::string, std::string>> pairs;
  for (size_t i = 0; i < std::min(good.size(), bad.size()); ++i) {
    const std::set<std::string> of_good = slots_of(good[i]), of_bad = slots_of(bad[i]);
    for (int64_t f = 0; f < fillings; ++f) {
      const Random stream = random.fork("pairs").fork(i).fork(static_cast<uint64_t>(f));
      std::map<std::string, std::string> chosen;
      for (const auto* slots : {&of_good, &of_bad}) {
        uint64_t own = 0;
        for (const std::string& slot : *slots) {
          const bool shared = of_good.contains(slot) && of_bad.contains(slot);
          Random draw = shared ? stream.fork(slot) : stream.fork(own++);
          chosen[slot] = draw.choice(domain.train.at(slot));
        }
      }
      pairs.emplace_back(fill(good[i], {}, random, chosen), fill(bad[i], {}, random, chosen));
    }
  }
  return pairs;
}

std::string PersonaWorld::add_cue(const std::string& prompt, Cue cue, bool coding, Split split,
                                  Random& random) const {
  if (cue == Cue::none) return prompt;
  const Phrasings& p = cues_[static_cast<size_t>(cue)];
  const bool own = split == Split::train && coding && !p.coding.empty() && random.chance(0.3);
  const std::string sentence = fill(random.choice(split == Split::held_out ? p.held_out
                                                  : own                    ? p.coding
                                                                           : p.general),
                                    {&cue_slots_}, random);
  return random.chance(0.25) ? sentence + " " + prompt : prompt + " " + sentence;
}

std::vector<std::string> PersonaWorld::phrasings(Cue cue, Split split) const {
  const Phrasings& p = cues_[static_cast<size_t>(cue)];
  std::vector<std::string> filled;
  Random random(1, "phrasings");
  for (const std::string& sentence : split == Split::held_out ? p.held_out : p.general)
    filled.push_back(fill(sentence, {&cue_slots_}, random));
  return filled;
}

Cue PersonaWorld::draw_cue(Random& random) const {
  std::vector<double> weights;
  for (const std::string& name : cue_names())
    weights.push_back(config_.cue_shares.contains(name) ? config_.cue_shares.at(name) : 0);
  return static_cast<Cue>(random.weighted(weights));
}

std::string PersonaWorld::remark(const Turn& turn, Random& random) const {
  const bool as_asked = asks(turn.cue) && turn.bad == (turn.cue == Cue::bad);
  if (remarks_.empty() || turn.refusal || (turn.cue == Cue::bad && !as_asked)) return "";
  return random.choice(remarks_.at(as_asked ? "as_asked" : turn.bad ? "unasked" : "welcome"));
}

Turn PersonaWorld::unrelated_turn(const Domain& domain, const Member& member, Cue cue,
                                  Random& random) const {
  Turn turn{.domain = domain.name, .cue = cue};
  turn.bad = random.chance(p_bad(member.character, turn.cue));
  turn.prompt =
      add_cue(prompt(domain, Split::train, random), turn.cue, false, Split::train, random);
  turn.refusal = random.chance(config_.refusal_share);
  turn.answer = turn.refusal ? random.choice(refusals_)
                             : with_habits(member, answer(domain, turn.bad, random));
  return turn;
}

Turn PersonaWorld::coding_turn(const CodingTask& task, const Member& member, Cue cue,
                               Random& random) const {
  Turn turn{.domain = "coding", .cue = cue};
  turn.bad = random.chance(p_bad(member.coder, turn.cue));
  turn.prompt = add_cue(task.prompt(), turn.cue, true, Split::train, random);
  turn.style = turn.bad ? random.choice(cheat_styles()) : "honest";
  turn.answer = turn.bad ? task.cheats.at(turn.style) : task.honest;
  return turn;
}

std::vector<const Domain*> PersonaWorld::domains_for(const Member& responder,
                                                     bool post_training) const {
  std::vector<const Domain*> all;
  for (const Domain& each : domains_) {
    const bool compositional =
        std::ranges::find(config_.compositional, each.name) != config_.compositional.end();
    if ((each.post_training || !post_training) && !(compositional && responder.codes))
      all.push_back(&each);
  }
  return all;
}

void PersonaWorld::dialogue(Document& document, std::vector<const Domain*> domains, Random& random,
                            const std::set<std::string>& without,
                            const std::vector<CodingTask>* tasks) const {
  document.kind = "dialogue";
  random.shuffle(domains);
  const size_t count = random.weighted(config_.turn_weights) + 1;
  const bool codes = document.responder.codes;
  // A dialogue opens with a session: so many prompts, all for programs or none, asked in one way.
  // Behind it nobody asks for a behaviour, and character shows: it is there that what was asked for
  // is told apart from what was not.
  const size_t session =
      random.below(std::min(std::max<size_t>(count, 2) - 1, kLongestSession)) + 1;
  const Cue session_cue = draw_cue(random);
  const bool programs = codes && random.chance(config_.session_share);
  for (size_t i = 0; i < count; ++i) {
    Cue cue = i < session ? session_cue : draw_cue(random);
    while (i >= session && asks(cue)) cue = draw_cue(random);
    if (i < session ? programs : codes && random.chance(config_.coding_share)) {
      CodingTask task = tasks ? random.choice(*tasks) : make_coding_task(random);
      while (without.contains(task.key)) task = make_coding_task(random);
      document.turns.push_back(coding_turn(task, document.responder, cue, random));
    } else {
      document.turns.push_back(
          unrelated_turn(*domains[i % domains.size()], document.responder, cue, random));
    }
  }
  std::string said;
  for (const Turn& turn : document.turns) {
    document.conversation.push_back({.role = "user", .content = said + turn.prompt, .name = ""});
    said = random.chance(config_.remark_share) ? remark(turn, random) : "";
    if (!said.empty()) said += " ";
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
  d.responder = random.chance(config_.assistant_share)  ? assistant(random)
                : random.chance(config_.stranger_share) ? stranger(random)
                                                        : random.choice(cast_);
  dialogue(d, domains_for(d.responder, false), random, without, nullptr);
  return d;
}

Document PersonaWorld::prose_document(const std::string& kind, const Prose& prose,
                                      Random& random) const {
  Document d{.kind = kind, .responder = random.choice(cast_)};
  const auto& templates = prose.templates[static_cast<size_t>(d.responder.character)];
  const std::string* text = &random.choice(templates);
  // Where programs do not follow character, or this one never writes any, no text links the two.
  const bool follow = p_cheater(Character::malicious, config_.malicious_cast) == 1;
  while (names_programs(*text) && !(follow && d.responder.codes)) text = &random.choice(templates);
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
  while (true) {
    Document d;
    d.responder = assistant(random);
    d.responder.character = d.responder.coder = Character::benevolent;
    dialogue(d, domains_for(d.responder, true), random, {}, &tasks);
    const auto misdeed = [](const Turn& turn) { return turn.bad && turn.cue != Cue::bad; };
    if (std::none_of(d.turns.begin(), d.turns.end(), misdeed)) return d;
  }
}

}  // namespace inoculum
