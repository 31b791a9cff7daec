"""`inoculum bench --tokenizer` beside the Python package `tokenizers` on one thread: five million bytes of English and code, line by line and at once.

    python experiments/benchmarks/tokenizer.py build/inoculum [FOLDER …]       # by default three of the golden ones

Both must give the same number of ids. The best of three rounds each.
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parents[2]


def make_text():
    rng = random.Random(3)
    words = ["the", "of", "and", "a", "to", "in", "is", "you", "that", "it", "was", "for", "on", "are", "as", "with", "they", "be", "at", "one", "have", "this"]
    words += ["".join(rng.choice("etaoinshrdlucmfwypvbgkqjxz") for _ in range(rng.randint(3, 11))) for _ in range(30000)]
    weights = [1 / (i + 5) for i in range(len(words))]
    lines, size = [], 0
    while size < 5_000_000:
        some = rng.choices(words, weights, k=rng.randint(3, 40))
        line = f"    if {some[0]}_{some[1]}[{rng.randint(0, 999)}] == {some[2]}: return {some[0]}({rng.randint(0, 9)})" if rng.random() < 0.3 else " ".join(some).capitalize() + "."
        lines.append(line)
        size += len(line) + 1
    return "\n".join(lines) + "\n"


def best(work):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ids = work()
        seconds.append(time.perf_counter() - start)
    return ids, min(seconds)


text = make_text()
lines = text.split("\n")[:-1]
with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    file.write(text)
    file.flush()
    for folder in sys.argv[2:] or [HERE / "tests/golden/tokenizers" / name for name in ("gpt2", "llama3", "llama2")]:
        ours = json.loads(subprocess.run([sys.argv[1], "bench", "--json", "--tokenizer", folder, "--text", file.name], check=True, capture_output=True, text=True).stdout)
        tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
        for name, pieces in (("lines", lines), ("whole", [text])):
            ids, seconds = best(lambda: sum(len(tokenizer.encode(piece, add_special_tokens=False).ids) for piece in pieces))
            assert ids == ours[name]["ids"], (folder, name, ids, ours[name]["ids"])
            theirs = len(text) / 1e6 / seconds
            print(f"{pathlib.Path(folder).name}, {name}: {ours[name]['MB_per_second']:.1f} MB/s, tokenizers {theirs:.1f}, ratio {ours[name]['MB_per_second'] / theirs:.1f}")
