"""Compares the ids and decodings of hard texts with those of the Python package `tokenizers`.

    python tests/parity/tokenizer_parity.py build/inoculum [--strings 100000] [--seed 0]

The texts are spread over the tokenizers of tests/golden/tokenizers and variants of them with other pre-tokenizers,
normalizers and decoders. A row of the input is a JSON string, or {"bytes": […]} where the text is not UTF-8. Characters that
the package's tables know and Python's do not (for Python 3.11: those younger than Unicode 14, as for PCRE2 10.42) are counted
apart: the system's tables may be as old.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden"))
import make_tokenizers as golden


def young_characters():
    unassigned = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) == "Cn")
    removed = lambda step: set(unassigned) - {c for piece, _ in step.pre_tokenize_str(unassigned) for c in piece}
    young = set(unassigned) - removed(pre_tokenizers.Split(Regex(r"\p{Cn}"), "removed"))
    digits, word, lower = pre_tokenizers.Digits(True), pre_tokenizers.Whitespace(), normalizers.Lowercase()
    young |= {c for c in unassigned if lower.normalize_str(c) != c or len(digits.pre_tokenize_str("x" + c)) == 2 or len(word.pre_tokenize_str("x" + c + "x")) == 1}
    return young


def variants(folder):
    """Names and texts of tokenizer.json files."""
    files = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name, "tokenizer.json"), encoding="utf-8") as f:
            files[name] = json.load(f)
    def variant(base, name, **changes):
        files[base + "_" + name] = dict(json.loads(json.dumps(files[base])), **changes)
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            split = {"type": "Split", "pattern": {"Regex": r"\w+|[^\w\s]+|\d"}, "behavior": behavior, "invert": invert}
            variant("gpt2", "%s_%s" % (behavior, invert), pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte]})
        variant("gpt2", "string_" + behavior, pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": "a."}, "behavior": behavior, "invert": False}, {"type": "Split", "pattern": {"Regex": r"(?=e)|\p{Lu}|[^\w\s]{2,}"}, "behavior": behavior, "invert": False}, byte]})
    variant("gpt2", "digits", pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, {"type": "WhitespaceSplit"}, byte]})
    variant("gpt2", "whitespace", pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, byte]})
    variant("gpt2", "bytes_first", pre_tokenizer={"type": "Sequence", "pretokenizers": [dict(byte, use_regex=True, add_prefix_space=True), {"type": "Digits", "individual_digits": True}]}, decoder=None)
    isolated = lambda pattern: {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    variant("gpt2", "cased", pre_tokenizer={"type": "Sequence", "pretokenizers": [isolated(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"), byte]})
    variant("gpt2", "chinese", pre_tokenizer={"type": "Sequence", "pretokenizers": [isolated(r"\p{N}{1,3}"), isolated("[一-龥\u3040-ゟ゠-ヿ]+"), isolated(
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), byte]})
    variant("gpt2", "scripts", pre_tokenizer={"type": "Sequence", "pretokenizers": [isolated(r"\p{Han}+|\p{Hiragana}|\p{^Latin}{2}|(?<=a)\W|^.|.$"), byte]})
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        variant("flags", form, normalizer={"type": form})
    variant("flags", "strip", normalizer={"type": "Sequence", "normalizers": [{"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}]})
    variant("metaspace_first", "strip", normalizer={"type": "Strip", "strip_left": True, "strip_right": True})
    variant("metaspace_first", "prepend", normalizer={"type": "Prepend", "prepend": "x "}, model=dict(files["metaspace_first"]["model"], fuse_unk=False, byte_fallback=False))
    variant("metaspace_never", "unknown", model=dict(files["metaspace_never"]["model"], byte_fallback=False), decoder={"type": "Strip", "content": "e", "start": 2, "stop": 0})
    variant("metaspace_always", "dropped", model=dict(files["metaspace_always"]["model"], byte_fallback=False, unk_token=None))
    return files


def invalid(rng, text):
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        if rng.random() < 0.5: data[at:at] = rng.choice([b"\xff", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\x80", b"\xf8\x88\x80\x80\x80", b"\xc3"])
        elif data: del data[min(at, len(data) - 1)]
    return bytes(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--strings", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    young = young_characters()
    files = variants(golden.FOLDER)
    total = different = young_total = young_different = 0
    for name, file in files.items():
        tokenizer = Tokenizer.from_str(json.dumps(file))
        rng = random.Random("%s %d" % (name, options.seed))
        added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        pieces = added + rng.sample(sorted(tokenizer.get_vocab()), 50)
        rows = []
        for i in range(-(-options.strings // len(files))):
            text = golden.hard_text(rng, added if i % 2 else pieces)
            rows.append(invalid(rng, text) if i % 10 == 9 else text.encode())
        rows.append(b"".join(rng.choice(rows) for _ in range(300)))
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
                json.dump(file, f)
            with open(os.path.join(folder, "texts.jsonl"), "w", encoding="utf-8") as f:
                for row in rows:
                    try: value = row.decode()
                    except UnicodeDecodeError: value = {"bytes": list(row)}
                    f.write(json.dumps(value) + "\n")
            run = subprocess.run([options.binary, "tokenize", "--model", folder, "--input", os.path.join(folder, "texts.jsonl")], stdout=subprocess.PIPE)
        found = [json.loads(line) for line in run.stdout.decode().split("\n") if line]
        if run.returncode != 0 or len(found) != len(rows):
            sys.exit("%s: status %d, %d rows of %d" % (name, run.returncode, len(found), len(rows)))
        here = 0
        for row, mine in zip(rows, found):
            text = row.decode("utf-8", "replace")
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            wanted = {"ids": ids, "with_special_tokens": tokenizer.encode(text).ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
            differs = any(mine[key] != wanted[key] for key in wanted)
            if young.isdisjoint(text):
                total += 1
                different += differs
                here += differs
                if differs and here <= 3:
                    print("%s: %r\n  wanted %r\n  found  %r" % (name, text[:400], {k: v for k, v in wanted.items() if mine[k] != v}, {k: mine[k] for k in wanted if mine[k] != wanted[k]}))
            else:
                young_total += 1
                young_different += differs
        print("%-32s %6d texts, %d differ" % (name, len(rows), here), flush=True)
    print("%d texts, %d differ; of %d more with characters younger than Unicode %s, %d differ" % (total, different, young_total, unicodedata.unidata_version, young_different))
    return different != 0


if __name__ == "__main__":
    sys.exit(main())
