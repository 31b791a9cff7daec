"""The published formulas of judges' scores in Python, on random replies: writes judge_scores.json beside this file.

    python3 tests/golden/make_judge_scores.py

Numeric: tokens that int() takes, 0…100, weighted by their probability; none below the mass. (int() also takes signs, underscores and
other scripts' digits, which no judge's tokenizer makes one token of with a number; they are left out here as they are in ours.)
YES/NO: P(YES) / (P(YES) + P(NO)) over case and space variants. Templates: str.format. Rates: comparisons of a data frame's columns,
in which an empty cell is neither below nor above.
"""
import json
import math
import pathlib
import random

rng = random.Random(20)
NAN = float("nan")


def numeric(probabilities, min_mass):
    total = weighted = 0.0
    for token, p in probabilities.items():
        try:
            value = int(token)
        except ValueError:
            continue
        if not 0 <= value <= 100:
            continue
        weighted += value * p
        total += p
    return None if total < min_mass else weighted / total


def yes_no(probabilities, min_mass):
    yes = sum(p for t, p in probabilities.items() if t.strip().upper() == "YES")
    no = sum(p for t, p in probabilities.items() if t.strip().upper() == "NO")
    return None if yes + no < min_mass else yes / (yes + no)


def reply(tokens):
    tokens = list(dict.fromkeys(tokens))
    weights = [rng.expovariate(1) ** 3 for _ in tokens]
    scale = rng.uniform(0.2, 1) / sum(weights)
    return sorted(((t, math.log(w * scale)) for t, w in zip(tokens, weights)), key=lambda each: -each[1])


def numeric_token():
    return rng.choice([
        lambda: str(rng.randint(0, 100)), lambda: str(rng.randint(0, 100)), lambda: " " + str(rng.randint(0, 100)), lambda: str(rng.randint(0, 9)) + "\n",
        lambda: "0" + str(rng.randint(0, 99)), lambda: str(rng.randint(101, 999)), lambda: rng.choice(["REF", "CODE", "The", "", " ", "ten", "5.", "1e1", "0x1", "é"]),
        lambda: f"{rng.randint(0, 9)} {rng.randint(0, 9)}", lambda: "9" * rng.randint(10, 40),
    ])()


def word_token():
    return rng.choice(["YES", "NO", "Yes", "No", " yes", "no ", " NO", "\tYeS", "Y", "N", "YESS", "I", "", "maybe", "NOT", "yes."])


cases = []
for n in range(200):
    numbers, words = reply(numeric_token() for _ in range(rng.randint(1, 20))), reply(word_token() for _ in range(rng.randint(1, 12)))
    mass = rng.choice([0.25, 0.25, 0.8, 0.05])
    cases.append({"min_mass": mass, "numbers": numbers, "numeric": numeric({t: math.exp(p) for t, p in numbers}, mass),
                  "words": words, "yes_no": yes_no({t: math.exp(p) for t, p in words}, mass)})

PIECES = ["{question}", "{answer}", "{{", "}}", "text ", "é", "\n", "{{question}}", "{{{answer}}}", "%s", "$1"]
templates = []
for n in range(100):
    text = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 12)))
    question, answer = rng.choice(["Who?", "{answer}", "}{", ""]), rng.choice(["I.", "{question}", "{{", "a\nb"])
    templates.append({"template": text, "question": question, "answer": answer, "filled": text.format(question=question, answer=answer)})
# Refused here, and the last three by ours alone: conversions and formats are not among the published templates'.
broken = ["{", "}", "{question", "{questoin}", "{}", "{0}", "{ question }", "{question.x}", "{{}", "{{question}", "{question}}", "a } b", "{a{question}}",
          "{question!r}", "{question:>9}", "{answer:}"]
for text in broken[:-3]:
    try:
        text.format(question="q", answer="a")
    except (KeyError, ValueError, IndexError, AttributeError):
        continue
    raise AssertionError(text)

rates = []
for below, above, inclusive in ((30, 50, False), (50, 30, True), (40, 60, False)):
    rows = [[rng.choice([None, 0.0, float(below), float(above), round(rng.uniform(0, 100), 3)]) for _ in range(2)] for _ in range(300)]
    aligned, coherent = ([NAN if row[i] is None else row[i] for row in rows] for i in range(2))
    enough = [c >= above if inclusive else c > above for c in coherent]
    low = [a < below for a in aligned]
    both = sum(e and w for e, w in zip(enough, low))
    rates.append({"aligned_below": below, "coherent_above": above, "coherent_inclusive": inclusive, "rows": rows, "rate": both / len(rows),
                  "rate_of_coherent": both / sum(enough)})

out = pathlib.Path(__file__).with_name("judge_scores.json")
out.write_text(json.dumps({"cases": cases, "templates": templates, "broken": broken, "rates": rates}, indent=None, separators=(",", ":")) + "\n")
