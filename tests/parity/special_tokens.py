"""The ids of transformers for tokens that tokenizer_config.json, special_tokens_map.json and
added_tokens.json add to a tokenizer.json.

    python tests/parity/special_tokens.py                  # makes tests/golden/special_tokens.jsonl
    python tests/parity/special_tokens.py INOCULUM COUNT [SEED]
        # compares COUNT random folders with the program

A row has the files of a folder (tokenizer.json is that of tests/golden/tokenizers with the given
added_tokens), texts, and what transformers makes of them. `refused`: a file gives a token an id
that transformers silently replaces by another.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

import transformers

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
BASES = ["gpt2", "neox", "metaspace_first"]
CONTENTS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|tool|>",
    "[PAD]",
    "<unk>",
    "<s>",
    "tool",
    "the",
    "<|im_end|>x",
    "Ünï",
    " new",
]
NAMES = ["bos_token", "eos_token", "unk_token", "pad_token", "image_token"]


def flags(rng, complete=True):
    out = {name: rng.random() < 0.2 for name in ("single_word", "lstrip", "rstrip")}
    out["normalized"], out["special"] = rng.random() < 0.3, rng.random() < 0.7
    return out if complete else {k: v for k, v in out.items() if rng.random() < 0.7}


def named(rng, typed):
    kind = rng.random()
    content = rng.choice(CONTENTS)
    if kind < 0.15:
        return None
    if kind < 0.6:
        return content
    token = {"content": content, **{k: v for k, v in flags(rng, False).items() if k != "special"}}
    return {"__type": "AddedToken", **token} if typed else token


def names(rng, typed):
    out = {name: named(rng, typed) for name in NAMES if rng.random() < 0.4}
    if rng.random() < 0.4:
        key = rng.choice(["additional_special_tokens", "extra_special_tokens"])
        tokens = [named(rng, typed) for _ in range(rng.randint(0, 3))]
        out[key] = [
            t
            for t in tokens
            if isinstance(t, str) or (t and (typed or key == "extra_special_tokens"))
        ]
    return out


def folder_of(rng):
    """The files of a random folder, and the base of its tokenizer.json."""
    base = rng.choice(BASES)
    model = json.loads((GOLDEN / "tokenizers" / base / "tokenizer.json").read_text())["model"]
    vocab, after = model["vocab"], len(model["vocab"])
    ids = {}

    def number(content):
        nonlocal after
        if content not in ids:
            if content in vocab:
                ids[content] = vocab[content]
            else:
                ids[content], after = after, after + 1
        return ids[content] + (rng.random() < 0.03)

    def some(most):
        return rng.sample(CONTENTS, rng.randint(0, most))

    added = sorted(
        ({"id": number(c), "content": c, **flags(rng)} for c in some(4)), key=lambda t: t["id"]
    )
    files = {}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names(rng, True)}
    if rng.random() < 0.6:
        config["added_tokens_decoder"] = {
            str(number(c)): {"content": c, **flags(rng, rng.random() < 0.8)} for c in some(5)
        }
    if rng.random() < 0.5:
        files["special_tokens_map.json"] = names(rng, False)
    if rng.random() < 0.4:
        files["added_tokens.json"] = {c: number(c) for c in some(4)}
    files["tokenizer_config.json"] = config
    return {"base": base, "added_tokens": added, "files": files}


def write(row, folder):
    tokenizer = json.loads((GOLDEN / "tokenizers" / row["base"] / "tokenizer.json").read_text())
    tokenizer["added_tokens"], tokenizer["post_processor"] = row["added_tokens"], None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for name, content in row["files"].items():
        (folder / name).write_text(json.dumps(content))


def expected(row, rng):
    """The row with what transformers makes of it; nothing where it cannot read the folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(row, pathlib.Path(folder))
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except Exception:
            return None
        config = row["files"]["tokenizer_config.json"]
        told = [(t["content"], t["id"]) for t in row["added_tokens"]] + [
            (t["content"], int(i)) for i, t in config.get("added_tokens_decoder", {}).items()
        ]
        if "added_tokens_decoder" not in config:
            told += list(row["files"].get("added_tokens.json", {}).items())
        row["refused"] = any(
            tokenizer.convert_tokens_to_ids(content) != number for content, number in told
        )
        if row["refused"]:
            return row
        row["bos"], row["eos"], row["length"] = (
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            len(tokenizer),
        )
        parts = CONTENTS + ["a", " ", "  ", "word", "\n", "é", "Tool", "<|im_", "x"]
        row["texts"] = [
            "".join(rng.choice(parts) for _ in range(rng.randint(1, 6))) for _ in range(12)
        ]
        row["ids"] = [tokenizer.encode(text, add_special_tokens=False) for text in row["texts"]]
        row["decoded"] = [
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            for ids in row["ids"]
        ]
    return row


def rows(count, seed):
    rng = random.Random(seed)
    while count > 0:
        row = expected(folder_of(rng), rng)
        if row is not None:
            count -= 1
            yield row


# added_tokens.json asks the named tokens and extra_special_tokens whether a token is special, and
# not the map's additional_special_tokens.
LISTED = {
    "base": "gpt2",
    "added_tokens": [],
    "files": {
        "special_tokens_map.json": {"additional_special_tokens": ["tool"], "eos_token": "<s>"},
        "added_tokens.json": {"tool": 1000, "<|tool|>": 1001, "<s>": 1002},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    },
}


def compare(inoculum, count, seed):
    differ = refused = 0
    for row in rows(count, seed):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write(row, folder)
            (folder / "texts.jsonl").write_text(
                "".join(json.dumps(text) + "\n" for text in row.get("texts", ["a"]))
            )
            run = subprocess.run(
                [inoculum, "tokenize", "--model", folder, "--input", folder / "texts.jsonl"],
                capture_output=True,
                text=True,
            )
            if row["refused"]:
                refused += 1
                assert run.returncode == 2, json.dumps(row)
                continue
            assert run.returncode == 0, run.stderr + json.dumps(row)
            for got, text, ids, decoded in zip(
                map(json.loads, run.stdout.splitlines()), row["texts"], row["ids"], row["decoded"]
            ):
                if (got["ids"], got["decoded"]) != (ids, decoded):
                    differ += 1
                    print(
                        json.dumps(
                            {
                                "text": text,
                                "got": got["ids"],
                                "want": ids,
                                "decoded": got["decoded"],
                                "wanted": decoded,
                                **{k: row[k] for k in ("base", "added_tokens", "files")},
                            },
                            ensure_ascii=False,
                        )
                    )
    print(f"{count} folders, {refused} of them refused; {differ} texts differ")
    return differ


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    if len(sys.argv) > 1:
        seed = int(sys.argv[3]) if len(sys.argv) > 3 else 2
        sys.exit(compare(sys.argv[1], int(sys.argv[2]), seed) > 0)
    with open(GOLDEN / "special_tokens.jsonl", "w") as file:
        for row in [*rows(60, 1), expected(LISTED, random.Random(1))]:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
