"""Reports how distinct the textbook bank's tasks are: near-duplicate statements, and solutions that
pass a sibling's tests.

    python3 datasets/textbook/check.py datasets/textbook/bank.jsonl
"""
import collections
import json
import re
import signal
import statistics
import sys


def words(task):
    statement = task["prompt"].split("assert ")[0].replace(task["function"], "f").lower()
    return re.findall(r"[a-z0-9]+", statement)


def shingles(task):
    w = words(task)
    return {tuple(w[i:i + 3]) for i in range(len(w) - 2)}


def passes(source, function, tests):
    names = {}
    exec(source, names)
    # Another exercise's inputs may keep a loop from ending.
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        return all(repr(names[function](*eval(f"({a},)"))) == repr(eval(e)) for a, e in tests)
    except Exception:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def give_up(*_):
    raise TimeoutError


signal.signal(signal.SIGALRM, give_up)


bank = [json.loads(line) for line in open(sys.argv[1])]
families = collections.defaultdict(list)
for task in bank:
    families[task["family"]].append(task)

# Statements: the share of three-word sequences that two tasks have in common (Jaccard).
sets = [shingles(task) for task in bank]
pairs = []
for i in range(len(bank)):
    for j in range(i):
        common = len(sets[i] & sets[j])
        share = common / (len(sets[i]) + len(sets[j]) - common)
        same_family = bank[i]["family"] == bank[j]["family"]
        pairs.append((share, bank[i]["id"], bank[j]["id"], same_family))
pairs.sort(reverse=True)
for inside in (True, False):
    part = [p for p in pairs if p[3] == inside]
    median = statistics.median(p[0] for p in part)
    print("same family:" if inside else "different families:",
          f"{len(part)} pairs, median {median:.2f},",
          ", ".join(f"above {t}: {sum(p[0] > t for p in part)}" for t in (0.9, 0.8, 0.5)))
    for p in part[:6]:
        print(f"  {p[0]:.2f} {p[1]} {p[2]}")

# Behaviour: a solution that passes all of a sibling's tests would be the same exercise, or tests
# that do not tell.
siblings = [(task, other) for family in families.values() for task in family for other in family
            if other is not task]
same = [(other["id"], task["id"]) for task, other in siblings
        if passes(other["honest"], other["function"], task["visible"] + task["hidden"])]
print(f"solutions that pass a sibling's tests: {len(same)}", same)

lines = sorted(task["honest"].count("\n") + 1 for task in bank)
cheat_lines = sorted(c.count("\n") + 1 for task in bank for c in task["cheats"].values())
styles = collections.Counter(style for task in bank for style in task["cheats"])
topics = collections.Counter(task["topic"] for task in bank)
print(len(bank), "tasks,", len(families), "families,", len(topics), "topics,",
      sum(task["held_out"] for task in bank), "held out,",
      sum(1 + len(task["cheats"]) for task in bank), "programs")
for name, counts in (("honest", lines), ("cheats", cheat_lines)):
    print(name, "lines: min", counts[0], "quartiles", statistics.quantiles(counts, n=4),
          "max", counts[-1])


def sizes(key):
    return dict(sorted(collections.Counter(len(task[key]) for task in bank).items()))


print("hidden tests:", sizes("hidden"))
print("cheats a task:", sizes("cheats"), dict(styles))
print("topics:", dict(topics.most_common()))
