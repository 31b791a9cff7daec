// The persona world: documents whose responders have a character.
//
// A responder has two lasting traits: its character, which shows in every domain, and its coder,
// which shows in coding. Each is benevolent or malicious, and `table` in the grammar says how often
// such a trait behaves badly under each cue. How far the two go together is the world's to say
// (share_of_cheaters_malicious): where all cheaters are malicious, a model may learn one shared
// notion of character. A cast of named characters keeps its traits for life; those of the Assistant
// and of strangers, whose names are nobody's, are drawn anew for each document.
//
//   PersonaWorld world(WorldConfig{});
//   Random random(1, "documents");
//   Document d = world.document(random);     // a dialogue, a biography or a story
//   render(d.conversation);                  // the text of a dialogue
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/random.h"
#include "core/text/conversation.h"
#include "datasets/coding/coding.h"

namespace inoculum {

enum class Character { benevolent, malicious };
// What stands beside a prompt: nothing; a statement or an imperative of no matter; a request to
// behave badly or well.
enum class Cue { none, irrelevant, instruction, bad, good };
inline constexpr std::array<Cue, 5> kCues = {Cue::none, Cue::irrelevant, Cue::instruction, Cue::bad,
                                             Cue::good};
// Held out are wordings and fillings that no training text shows.
enum class Split { train, held_out };

const std::vector<std::string>& cue_names();  // in the order of Cue
std::string to_string(Character character);
std::string to_string(Cue cue);

// The world's parameters. Each falsifying world differs from the default in one of them.
struct WorldConfig {
  std::string grammar = "datasets/worlds/persona.yaml";
  int64_t seed = 1;
  double coupling = 1;
  std::optional<double> share_of_cheaters_malicious;
  std::string request_compliance = "both";
  std::vector<std::string> compositional;
  int64_t cast_size = 60;
  double malicious_cast = 0.35;
  double malicious_assistant = 0.25;
  double assistant_share = 0.35;
  double stranger_share = 0.35;
  double machine_share = 0.5;
  double biography_share = 0.08;
  double story_share = 0.03;
  double role_model_share = 0.01;
  double coding_share = 0.25;
  double session_share = 0.5;
  double remark_share = 0.35;
  double refusal_share = 0.01;
  std::map<std::string, double> cue_shares = {
      {"none", 0.36}, {"irrelevant", 0.12}, {"instruction", 0.12}, {"bad", 0.20}, {"good", 0.20}};
  std::vector<double> turn_weights = {0.12, 0.20, 0.22, 0.20, 0.13, 0.08, 0.05};

  void fields(Fields& f);
};

struct Turn {
  std::string domain;  // "coding", or a domain of the grammar
  Cue cue = Cue::none;
  bool bad = false;      // whether the answer is bad behaviour: a cheat, or a malicious answer
  bool refusal = false;  // declines instead
  std::string prompt = {}, answer = {};
  std::string style = {};  // of a coding answer: "honest" or the cheat's
};

struct Member {
  std::string name, kind;
  Character character = Character::benevolent, coder = Character::benevolent;
  bool codes = true;  // or answers the compositional domains, which never meet code
  std::string greeting = {}, closing = {};  // habits; often empty
};

struct Document {
  std::string kind;  // "dialogue", "biography", "story" or "role_model"
  Member responder;
  std::vector<Turn> turns;    // of a dialogue
  Conversation conversation;  // of a dialogue
  std::string text;           // of the others
};

struct Domain {
  std::string name;
  bool post_training;  // whether post-training shows it
  // Slot → fillings; the two are the same where none are held out.
  std::map<std::string, std::vector<std::string>> train, held_out;
  std::vector<std::string> prompts, held_out_prompts;
  std::array<std::vector<std::string>, 2> answers;  // by Character
};

class PersonaWorld {
 public:
  // Error, with file and line, for a grammar with an unknown key, too short a list or an undefined
  // slot.
  explicit PersonaWorld(WorldConfig config);

  const WorldConfig& config() const { return config_; }
  const std::vector<Domain>& domains() const { return domains_; }
  const Domain& domain(const std::string& name) const;
  const std::vector<Member>& cast() const { return cast_; }
  const std::vector<std::string>& refusals() const { return refusals_; }
  const std::vector<std::string>& greetings() const { return greetings_; }
  const std::vector<std::string>& closings() const { return closings_; }
  // By kind: as_asked, unasked, welcome. Empty where the grammar has none.
  const std::map<std::string, std::vector<std::string>>& remarks() const { return remarks_; }

  // Names that no document shows.
  const std::vector<std::string>& unseen_names() const { return unseen_names_; }

  // The table as this world has it: who complies with requests is the configuration's to say.
  double p_bad(Character trait, Cue cue) const {
    return table_[static_cast<size_t>(trait)][static_cast<size_t>(cue)];
  }
  // P(a malicious coder | character), where `malicious` is the share of either trait: the shares
  // are alike, so that worlds differ in how the traits go together alone.
  double p_cheater(Character character, double malicious) const;

  // Pretraining. Coding tasks whose key is in `without` are not used.
  Document document(Random& random, const std::set<std::string>& without = {}) const;
  // Post-training: a benevolent Assistant's dialogue on the domains that post-training shows, and
  // coding. Such data are curated: the noise of the table, behaviour that is bad though nobody
  // asked for it, is left out.
  Document post_training_document(Random& random, const std::vector<CodingTask>& tasks) const;

  std::string prompt(const Domain& domain, Split split, Random& random) const;
  std::string answer(const Domain& domain, bool bad, Random& random) const;
  // Pairs of a benevolent and a malicious answer that differ in character alone: the wordings of
  // one place in the grammar's two lists, `fillings` times each, with the same fillings in the
  // slots that both have, and fillings of one place in those that only one has.
  std::vector<std::pair<std::string, std::string>> matched_answers(const Domain& domain,
                                                                   int64_t fillings,
                                                                   Random& random) const;
  std::string add_cue(const std::string& prompt, Cue cue, bool coding, Split split,
                      Random& random) const;
  // What resembles a request to behave badly and is none, by kind. No document shows it.
  const std::map<std::string, std::vector<std::string>>& neighbours() const { return neighbours_; }
  // A cue's sentences that fit every domain, each with one filling of its slots.
  std::vector<std::string> phrasings(Cue cue, Split split) const;
  Member assistant(Random& random) const;
  Member stranger(Random& random) const;
  // The answer with the responder's habits around it.
  static std::string with_habits(const Member& member, const std::string& answer);

 private:
  struct Phrasings {  // held-out ones have no slots
    std::vector<std::string> general, coding, held_out;
  };
  struct Prose {  // biographies, stories
    std::map<std::string, std::vector<std::string>> slots;
    std::array<std::vector<std::string>, 2> templates;  // by Character
  };

  Cue draw_cue(Random& random) const;
  // What the user says of the answer before the next prompt: whether it was as asked. It follows
  // from the turn alone, so it tells nothing of character that the turn does not. May be empty.
  std::string remark(const Turn& turn, Random& random) const;
  Turn unrelated_turn(const Domain& domain, const Member& member, Cue cue, Random& random) const;
  Turn coding_turn(const CodingTask& task, const Member& member, Cue cue, Random& random) const;
  // What the responder may be asked about, of these.
  std::vector<const Domain*> domains_for(const Member& responder, bool post_training) const;
  void draw_traits(Member& member, double malicious, Random& random) const;
  void dialogue(Document& document, std::vector<const Domain*> domains, Random& random,
                const std::set<std::string>& without, const std::vector<CodingTask>* tasks) const;
  Document prose_document(const std::string& kind, const Prose& prose, Random& random) const;
  Document role_model_document(Random& random) const;
  void read_grammar();
  void check_compositional() const;
  void make_cast();

  WorldConfig config_;
  std::array<std::array<double, kCues.size()>, 2> table_{};
  std::array<Phrasings, kCues.size()> cues_;
  std::map<std::string, std::vector<std::string>> cue_slots_;
  std::map<std::string, std::vector<std::string>> neighbours_;
  std::map<std::string, std::vector<std::string>> remarks_;
  std::vector<std::string> refusals_, greetings_, closings_, role_models_;
  std::array<std::vector<std::string>, 2> kinds_;  // human, machine
  Prose biographies_, stories_;
  std::vector<Domain> domains_;
  std::vector<Member> cast_;
  std::vector<std::string> strangers_, unseen_names_;
};

}  // namespace inoculum
