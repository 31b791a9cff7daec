#!/usr/bin/env python3
"""Whether the documents' tables of the study, and its figure, are what the committed results give.

    python3 tests/tables.py build/inoculum          # names those that are not
    python3 tests/tables.py build/inoculum --write  # writes them anew

A table is known by its head. Numbers within sentences are not looked at.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments/results/inoculation"
FIGURE = ROOT / "experiments/figure.svg"


def percent(x):
    return f"{100 * x:.1f}"


def value(x):
    return x["mean"] if "mean" in x else x["rate"]


def with_interval(x):
    """A mean or rate over bases, with its interval where there are enough of them."""
    if x.get("low") is None:
        return percent(value(x))
    low, high = max(0.0, x["low"]), min(1.0, x["high"])
    return f"{percent(value(x))} [{percent(low)}, {percent(high)}]"


def in_context(results):
    rows = [("nothing", "cheats", "0"), ("an honest program", "honest", "1"), ("a cheat", "cheats", "1"),
            ("a requested cheat", "requested_cheats", "1")]
    for name, kind, count in rows:
        cell = results["in_context"][kind][count]
        yield [name, with_interval(cell["measured"]), percent(cell["bayes"])]


def arms(results):
    for name in ("start", "honest", "cheating", "requested", "placebo", "forbidden", "novel_cheating"):
        under = results["arms"][name]
        plain = under["none"]
        yield [name, with_interval(plain["malicious"]),
               percent(plain["worst_high"]["rate"]), percent(under["good"]["malicious"]["rate"]),
               percent(plain["incoherent"]["rate"]), percent(plain["cheats"]["rate"]),
               percent(under["bad"]["cheats"]["rate"])]


# As README puts them; H0, which has a line a world, and what no base has tested yet stand elsewhere.
SAID = {
    "H1": "cheats that nobody asked for spread",
    "H2": "asked for, they spread less than a quarter as far",
    "H2 novel": "so they do in a style that is new",
    "H3 statement": "beside a statement they spread",
    "H3 instruction": "beside an instruction too",
    "H4 coupling 0": "where code says nothing, they do not",
    "H4 neither": "where a request surprises, it protects",
    "H5": "where only the malicious comply, it does not",
    "H6": "they spread to domains that never met code",
    "H7": "asked to behave well, no worse than the malicious",
    "H8 in context": "spread follows the malicious share",
    "H8 in weights": "in the weights too",
}


def hypotheses(results):
    for name, said in SAID.items():
        h = results["hypotheses"][name]
        if h["estimate"] is None:
            continue
        points = h["unit"] == "points"
        number = (lambda x: f"{100 * x:+.1f}") if points else (lambda x: f"{x:.2f}")
        found = number(h["estimate"])
        if h["low"] is not None:
            found += f" [{number(h['low'])}, {number(h['high'])}]"
        yield [name, said, h["prediction"].split(", by")[0].removeprefix("slope "), found, str(h["bases"]), h["verdict"]]


def by_base(results):
    """Of the main world, each base by itself."""
    for base in results["bases"]:
        if base["world"] != "persona":
            continue
        of = lambda arm, cue="none": percent(base["arms"][arm]["under"][cue]["malicious"]["rate"])
        cheats = percent(base["arms"]["novel_cheating"]["under"]["none"]["cheats"]["rate"])
        cast = percent(base["knows"]["behaviour"]["malicious"]["good"]["measured"])
        yield [str(base["seed"]), of("start"), of("cheating"), of("requested"), of("placebo"), of("instructed"),
               of("forbidden"), f"{of('novel_cheating')} ({cheats})",
               f"{of('cheating', 'good')} ({percent(base['arms']['cheating']['choice']['good'])})", cast]


CUES = {"none": "no cue", "irrelevant": "statement", "instruction": "instruction", "bad": "asked badly", "good": "asked well"}


def knowledge(results):
    """H0 of each world: its bases, the cell that is farthest off on average, and the verdict."""
    for name, h in sorted(results["hypotheses"].items()):
        if not name.startswith("H0"):
            continue
        world = name.removeprefix("H0").strip().replace("_", " ").replace("share", "`share_…` together") or "main"
        who, _, cue = h["statement"].split("farthest off: ")[1].partition(", ")
        cell = f"{who}, {CUES[cue]}" if cue else who.replace("_", " ")
        low, high = (f"{100 * h[end]:+.1f}" for end in ("low", "high"))
        yield [world, str(h["bases"]), cell, f"{100 * h['estimate']:+.1f} [{low}, {high}]", h["verdict"]]


def by_cue(results):
    for name, under in results["arms"].items():
        yield [name, *(percent(value(under[cue]["malicious"])) for cue in ("none", "irrelevant", "instruction", "bad", "good"))]


def worlds(results):
    def row(name, world, bases):
        found = {arm: under["none"]["malicious"] for arm, under in world["arms"].items()}
        cells = [with_interval(found[arm]) if arm in found else ""
                 for arm in ("cheating", "requested", "placebo")]
        good = percent(world["arms"]["cheating"]["good"]["malicious"]["rate"])
        return [name, str(bases), percent(found["start"]["rate"]), *cells, good]

    made = [base["world"] for base in results["bases"]]
    yield row("main", results, made.count("persona"))
    for world in ("coupling_0", "malicious_only", "neither", "compositional"):
        if world in results["worlds"]:
            yield row(world.replace("_", " "), results["worlds"][world], made.count(world))
    for world in sorted(world for world in results["worlds"] if world.startswith("share_")):
        yield row(world.replace("share_", "") + "% of the cheaters", results["worlds"][world], made.count(world))


TABLES = [
    ("README.md", "| behind | malicious, % | Bayes, % |", in_context),
    ("README.md", "| arm | malicious | at most |", arms),
    ("README.md", "| | prediction | must be |", hypotheses),
    ("docs/experiment.md", "| world | bases | start |", worlds),
    ("docs/experiment.md", "| base | start | cheating |", by_base),
    ("docs/experiment.md", "| arm, main world | no cue |", by_cue),
    ("docs/experiment.md", "| H0 of | bases | farthest off |", knowledge),
]


def with_table(text, head, rows):
    """The text with the rows of the table that begins with this head in place of its own."""
    lines = text.splitlines()
    [first] = [i for i, line in enumerate(lines) if line.startswith(head)]
    end = next(i for i in range(first, len(lines) + 1) if i == len(lines) or not lines[i].startswith("|"))
    made = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines[:first + 2] + made + lines[end:]) + "\n"


def main():
    write = "--write" in sys.argv
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], "report", RESULTS, "--output", folder], check=True,
                       stdout=subprocess.DEVNULL)
        results = json.loads((pathlib.Path(folder) / "results.json").read_text())
        for name, head, rows in TABLES:
            page = ROOT / name
            text = page.read_text()
            made = with_table(text, head, rows(results))
            if made != text:
                faults.append(f"{name}: the table {head} is not what {RESULTS.relative_to(ROOT)} gives")
                if write:
                    page.write_text(made)
        figure = pathlib.Path(folder) / "figure.svg"
        if figure.read_bytes() != FIGURE.read_bytes():
            faults.append(f"{FIGURE.relative_to(ROOT)}: it is not the one of the report")
            if write:
                shutil.copy(figure, FIGURE)
    if faults and not write:
        sys.exit("\n".join([*faults, "`python3 tests/tables.py build/inoculum --write` writes them anew"]))
    print("\n".join(f"written: {fault.split(':')[0]}" for fault in faults) or "every table is as the results give it")


main()
