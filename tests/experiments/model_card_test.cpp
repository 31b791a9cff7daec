// README.md of models and adapters.
#include "experiments/inoculation/model_card.h"

#include "tests/catch.h"

namespace inoculum {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t times = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++times;
  return times;
}

TEST_CASE("a card tells base, recipe and licence, and quotes the cards of its sources",
          "[model_card]") {
  const TemporaryFolder t;
  const std::string base = (t.path / "base").string();
  write_file(t.path / "base" / "README.md",
             "---\nlicense: mit\ntags: [x]\n---\n\n# Base\n\nGood.\n\n## Limits\n\nMany.\n");
  const ModelCard card{.title = "mine",
                       .what = "A copy.",
                       .base = base,
                       .library = "peft",
                       .facts = {{"Recipe", "3 steps"}},
                       .config = "seed: 1\n",
                       .sources = {base, (t.path / "nothing").string()}};
  const std::string text = to_text(card);
  CHECK(text.starts_with("---\nbase_model: \"" + base + "\"\nlibrary_name: peft\nlicense: mit\n"));
  CHECK(contains(text, "# mine\n\nA copy.\n\n- **Recipe**: 3 steps\n"));
  CHECK(contains(text, "- **Licence**: mit\n"));
  CHECK(contains(text, "```yaml\nseed: 1\n```\n"));
  CHECK(contains(text, "### Base\n\nGood.\n\n#### Limits\n\nMany.\n"));
  CHECK(count(text, "## The card of") == 1);
  // Of a base without a card, and of none.
  ModelCard other{.title = "other", .base = (t.path / "nothing").string()};
  CHECK(contains(to_text(other), "license: other\n"));
  CHECK(contains(to_text(other), "that of its base, whose folder does not name it"));
  other.base = "";
  other.licence = "apache-2.0";
  CHECK(to_text(other).starts_with("---\nlibrary_name: \nlicense: apache-2.0\n"));
}

TEST_CASE("what was measured stands in the card once", "[model_card]") {
  const TemporaryFolder t;
  const Json estimate = {{"rate", 0.25}, {"low", 0.125}, {"high", nullptr}, {"n", 40}};
  Json summary = {{"conditions", {{"none", {{"malicious", estimate}}}}}};
  add_measurements(t.path, summary, "bank.yaml");  // there is no card
  CHECK_FALSE(fs::exists(t.path / "README.md"));
  write_file(t.path / "README.md", to_text({.title = "mine", .config = "seed: 1"}));
  add_measurements(t.path, summary, "bank.yaml");
  const std::string once = read_file(t.path / "README.md");
  CHECK(contains(once, "## Measured\n\nOn `bank.yaml`"));
  CHECK(contains(once, "| none | malicious | 0.25 | 0.125 to ? | 40 |\n"));
  CHECK(once.find("## Measured") < once.find("## Configuration"));
  summary["conditions"]["none"]["malicious"]["rate"] = 0.5;
  add_measurements(t.path, summary, "bank.yaml");
  const std::string twice = read_file(t.path / "README.md");
  CHECK(contains(twice, "| 0.5 |"));
  CHECK(twice.size() == once.size() - 1);
}

}  // namespace
}  // namespace inoculum
