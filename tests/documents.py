#!/usr/bin/env python3
"""Whether the documents agree with what is there: links, paths, commands, lengths.

    python3 tests/documents.py [build/inoculum]      # without the program, commands are not checked
    python3 tests/documents.py build/inoculum --run  # runs the commands, long ones made short

A link leads to a file, and its fragment to a heading. A path in backticks exists. A command shown
as `build/inoculum SUB …` names subcommands and options that the program's --help knows, and files
of the repository that exist. They are run in the order in which they stand, in a folder that has
the files that the documents show. What was fixed before the study's data is as it was, or
docs/experiment.md says of it why not.
"""
import functools
import hashlib
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else None
README_LINES, COLUMNS = 140, 120
FOLDERS = ("core", "datasets", "training", "experiments", "configs", "tests", "cmake", "docs")
# The files that docs/extending.md has its reader make.
MADE = {"configs/mine.yaml", "configs/pretrain/mine.yaml", "configs/questions/mine.yaml",
        "configs/questions/mine_world.yaml", "configs/train/half_requested.yaml",
        "datasets/worlds/mine.yaml", "experiments/evaluation/judges/word_judge.cpp",
        "experiments/evaluation/judges/word_judge.h", "tests/experiments/word_judge_test.cpp"}
FROZEN = ROOT / "experiments/results/inoculation/frozen.sha256"
# What was tried stands in the log under the names of its day.
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/models/*/*.md")})

faults = []


def slug(heading):
    """A heading's fragment, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


@functools.cache
def fragments(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ +(.+)$", text, re.M)}


def check_link(page, line, link):
    if re.match(r"[a-z]+:", link):
        return
    name, _, fragment = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        faults.append(f"{line}: the link {link} leads nowhere")
    elif fragment and fragment not in fragments(target):
        faults.append(f"{line}: {name or 'this page'} has no heading #{fragment}")


def check_path(line, text):
    """One that is a path of the repository, if the text is one."""
    if not re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./*-]*", text) or text in MADE or "NAME" in text:
        return
    if not any(ROOT.glob(text.rstrip("/"))):
        faults.append(f"{line}: there is no {text}")


@functools.cache
def help_of(subcommands):
    """The text of --help, or None where there is no such subcommand."""
    done = subprocess.run([PROGRAM, *subcommands, "--help"], capture_output=True, text=True, cwd=ROOT)
    return done.stdout if done.returncode == 0 else None


def subcommands_in(text):
    names = re.search(r"^Subcommands:\n((?:  .*\n?)+)", text, re.M)
    return set(re.findall(r"^  (\w[\w, ]*?)(?:  |$)", names[1], re.M)) if names else set()


def check_command(line, words):
    """words: those behind the program's name."""
    path, text = (), help_of(())
    while words and text is not None:
        names = {name for group in subcommands_in(text) for name in group.split(", ")}
        if words[0] not in names:
            if names and re.fullmatch(r"[a-z_]+", words[0]):
                faults.append(f"{line}: there is no command {' '.join((*path, words[0]))}")
            break
        path, words = (*path, words[0]), words[1:]
        text = help_of(path)
    if text is None:
        faults.append(f"{line}: --help of {' '.join(path)} fails")
        return
    for word in words:
        option = word.split("=")[0]
        if option.startswith("-") and not re.search(rf"(^|[ ,]){re.escape(option)}(?![\w-])", text, re.M):
            faults.append(f"{line}: {' '.join(path) or 'inoculum'} has no option {option}")
        check_path(line, word.split("=")[-1])


def commands(code):
    """(the first line's number, the words behind the program) of each command in lines of code."""
    at = 0
    while at < len(code):
        number, text = code[at]
        while text.endswith("\\") and at + 1 < len(code):
            at += 1
            text = text[:-1] + " " + code[at][1].strip()
        at += 1
        found = re.search(r"(?:^|[\s=])(?:build/)?inoculum(?= |$)(.*)", text.lstrip("$ "))
        if found and "build/inoculum" in text:
            yield number, shlex.split(found[1], comments=True)


def code_and_prose(page):
    """Its lines with their numbers, apart."""
    code, prose, fenced = [], [], False
    for number, text in enumerate(page.read_text().splitlines(), 1):
        if text.startswith("```"):
            fenced = not fenced
        elif fenced or re.match(r"    +\S", text) and not re.match(r"\s+([-*]|\d+\.) ", text):
            code.append((number, text))
        else:
            prose.append((number, text))
    return code, prose


def check_page(page):
    name = page.relative_to(ROOT)
    lines = page.read_text().splitlines()
    if page.name == "README.md" and page.parent == ROOT and len(lines) > README_LINES:
        faults.append(f"{name}: {len(lines)} lines, more than {README_LINES}")
    for number, text in enumerate(lines, 1):
        if len(text) > COLUMNS:
            faults.append(f"{name}:{number}: {len(text)} columns, more than {COLUMNS}")
    code, prose = code_and_prose(page)
    for number, text in prose:
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            check_link(page, f"{name}:{number}", link)
        for inline in re.findall(r"`([^`]+)`", text):
            check_path(f"{name}:{number}", inline)
            if PROGRAM and re.match(r"(build/)?inoculum \w", inline):
                check_command(f"{name}:{number}", shlex.split(inline)[1:])
    if PROGRAM:
        for number, words in commands(code):
            check_command(f"{name}:{number}", words)


def check_frozen():
    page = ROOT / "docs/experiment.md"
    deviations = page.read_text().partition("\n### Deviations\n")[2].partition("\n#")[0]
    for line in FROZEN.read_text().splitlines():
        digest, name = line.split()
        file = ROOT / name
        if file.exists() and hashlib.sha256(file.read_bytes()).hexdigest() == digest:
            continue
        if f"`{name}`" not in deviations:
            faults.append(f"{name}: is not as {FROZEN.relative_to(ROOT)} has it, and {page.name} names no deviation")


# What makes a command short, by its first word.
SHORT = {
    "train": ["steps=2"],
    "pretrain": ["tokens=8192", "tokenizer.sentences=3000"],
    "evaluate": ["--samples-scale", "0.01"],
}


def shortened(words):
    """The words to run, or why the command is not run here."""
    text = " ".join(words)
    if not words:
        return None, "without a command"
    if re.search(r"\b(FOLDER|FILE)\b", text):
        return None, "names no file"
    if "half_requested" in text:
        return None, "of an arm that the reader adds"
    if "models/" in text.replace("experiments/models/", "") or "/real/" in text or "smollm2" in text:
        return None, "on a real model: see the label real"
    if "bases/persona_" in text:
        return None, "of a base that an experiment makes"
    if words[0] in ("serve", "view") and "--export" not in words:
        return None, "goes on until it is stopped: see integration.serve and integration.pages"
    if words[0] == "model" and words[1] == "fetch":
        return None, "takes a network: see integration.api"
    if words[0] == "sweep" and words[1] in ("status", "resume", "cancel", "report", "compare"):
        return None, "on a sweep's folder: see integration.sweep"
    if words[0] == "sweep":
        words = [word for word in words if word not in ("--launcher", "slurm", "--dry-run")]
        return [*words, "--dry-run"], None
    if words[0] == "reproduce":
        config = words[words.index("--config") + 1] if "--config" in words else "configs/reproduce.yaml"
        return ["validate", config], None
    if words[0] == "bench":
        return ["bench", "--rows", "2", "--time", "32", "--samples", "8", "--new-tokens", "4"], None
    return [*words, *SHORT.get(words[0], [])], None


def run_page(page, folder):
    """In `folder`, with what the page shows: a block that begins with a comment of a path is that file."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for path, text in re.findall(r"^```\w*\n# ([\w./]+\.yaml)\n(.*?)^```", page.read_text(), re.M | re.S):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    row = {"messages": [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day."}]}
    (folder / "chats.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "experiments").mkdir()
    (folder / "experiments/results").symlink_to(ROOT / "experiments/results")
    # A world of the reader's own is a copy of the shipped one to begin with.
    (folder / "datasets/worlds").mkdir(parents=True)
    shutil.copy(ROOT / "datasets/worlds/persona.yaml", folder / "datasets/worlds/mine.yaml")
    for number, words in commands(code_and_prose(page)[0]):
        line = f"{page.relative_to(ROOT)}:{number}"
        short, why = shortened(words)
        if why:
            print(f"{line}: not run, {why}")
            continue
        command = [pathlib.Path(PROGRAM).resolve(), *short]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        print(f"{line}: {'ran' if done.returncode == 0 else 'FAILED'}: inoculum {shlex.join(short)}", flush=True)
        if done.returncode != 0:
            faults.append(f"{line}: {done.stderr[-1500:]}")


for page in PAGES:
    if "--run" not in sys.argv:
        check_page(page)
        continue
    with tempfile.TemporaryDirectory() as name:
        run_page(page, pathlib.Path(name))
if "--run" not in sys.argv:
    check_frozen()
print("\n".join(faults) or "as it should be")
sys.exit(bool(faults))
