#!/usr/bin/env python3
"""Who may include whom. Each folder may include those that stand before it here in its room, and the rooms
that its room may see; no two files include each other, by whatever way round."""
import pathlib
import re
import sys

ORDER = {
    "core": ["base", "text", "model"],
    "datasets": ["sandbox", "coding", "worlds", "textbook", "conversations"],
    "training": [""],
    "experiments": ["evaluation", "inoculation", "sweeps", "reports", "benchmarks", "serving",
                    "viewing", "command_line"],
}
SEES = {
    "core": [],
    "datasets": ["core"],
    "training": ["core"],
    "experiments": ["core", "datasets", "training"],
}
root = pathlib.Path(__file__).resolve().parent.parent
faults = []


def place(path):
    """Its room, and the number of its folder in that room."""
    room, *rest = path.split("/")
    folder = rest[0] if len(rest) > 1 else ""
    if room not in ORDER or folder not in ORDER[room]:
        return None
    return room, ORDER[room].index(folder)


includes = {}  # of a file and its header: the names without their ends
for room in ORDER:
    for file in sorted((root / room).rglob("*")):
        if file.suffix not in (".h", ".cpp"):
            continue
        name = str(file.relative_to(root))
        here = place(name)
        if here is None:
            faults.append(f"{name}: its folder is not named in tests/includes.py")
            continue
        for included in re.findall(r'^#include "([^"]+)"', file.read_text(), re.M):
            if included.startswith("embedded/") or included == "commit.h":
                continue
            there = place(included)
            if there is None:
                faults.append(f"{name} includes {included}: of no room")
            elif there[0] != here[0] and there[0] not in SEES[here[0]]:
                faults.append(f"{name} includes {included}: {here[0]} may not see {there[0]}")
            elif there[0] == here[0] and there[1] > here[1]:
                faults.append(f"{name} includes {included}: upward")
            includes.setdefault(name.rsplit(".", 1)[0], set()).add(included.rsplit(".", 1)[0])

done = set()


def visit(name, way):
    if name in way:
        faults.append("a circle: " + " → ".join(way[way.index(name) :] + [name]))
        return
    if name in done:
        return
    for included in sorted(includes.get(name, set()) - {name}):
        visit(included, way + [name])
    done.add(name)


for name in sorted(includes):
    visit(name, [])
print("\n".join(faults) or "as it should be")
sys.exit(bool(faults))
