"""Makes tests/golden/tokenizers: small tokenizers of the published kinds and what the package `tokenizers` makes of texts.

    pip install tokenizers && python tests/golden/make_tokenizers.py

Each folder has tokenizer.json, tokenizer_config.json and expected.jsonl: rows of a text with its ids, their decoding, and
(in some) the ids with what the post-processor adds.
"""

import json
import os
import random
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


# ---- texts

ENGLISH = ("the a of and to in that it is was for on with as his her they at be this from have or by one had not but what all were when we there "
           "can an your which said if do will each about how up out them then she many some so these would other into has more two like him see "
           "time could no make than first been its who now people my made over did down only way find use may water long little very after words "
           "called just where most know model training answer question helpful careful reason example result number function return value").split()
OTHERS = ("это был вопрос и ответ модель", "το μοντέλο απαντά στην ερώτηση", "这个模型回答了问题", "モデルは質問に答えた", "모델이 질문에 답했다",
          "النموذج يجيب على السؤال", "המודל עונה על השאלה", "मॉडल प्रश्न का उत्तर देता है", "โมเดลตอบคำถาม", "le modèle répondait déjà à la question",
          "größere Straßen führen über Flüsse", "mô hình trả lời câu hỏi", "Čeština má háčky a čárky", "Ϣⲙⲙⲟ ⲁⲛ", "ሞዴሉ መልስ ሰጠ", "მოდელი პასუხობს")
CODE = ("def {a}({b}):\n    return {b} + {n}\n", "for (int {a} = 0; {a} < {n}; ++{a}) {{\n\t{b}[{a}] *= {n};\n}}\n", "if {a} != \"{b}\":\r\n        {a} = {b}[{n}:]\r\n",
        "#include <{a}.h>\n\n", "{{\"{a}\": {n}, \"{b}\": null}}\n", "SELECT {a}, {b} FROM t WHERE id = {n};\n")
END = "'s 't 're 've 'm 'll 'd 'S 'LL 'ſ 'K ' '' 's' don't I'LL we'Re".split()
ODD_SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\u00a0", "\u1680", "\u180e", "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u0085", "\x0b", "\x0c",
              "\u200b", "\u2060", "\ufeff"]
SEQUENCES = ["👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "1️⃣", "é", "e\u0301", "a\u0323\u0307", "ǆ", "ﬁ", "ß", "ẞ", "İ", "ı", "Ω", "Å", "각", "\u1100\u1161\u11a8", "ক্ষ", "ﷺ", "ﬀ", "①",
             "½", "²", "Ⅷ", "٣", "३", "𝟘", "𝕏", "﷽", "\u0000", "\x07", "\x7f", "\u0080", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "\u0378", "\u202e", "▁", "▁▁", "Ġ", "Ċ", "<0x41>", "ſ", "K",
             "_", "‿", "٪", "\u0488", "\u20dd", "ᾳ", "ΐ", "ŉ", "\u0344", "\u0958", "\u2adc", "豈", "\U0002f800", "か\u3099", "ァ", "ﾊﾟ"]


def sentence(rng):
    return " ".join(rng.choice(ENGLISH) for _ in range(rng.randint(3, 14))).capitalize() + rng.choice([".", "!", "?", ",", ":\n", "...", "'s\n"])


def code(rng):
    return rng.choice(CODE).format(a=rng.choice(ENGLISH), b=rng.choice(ENGLISH), n=rng.randint(0, 12345))


def corpus(rng, rows):
    for _ in range(rows):
        kind = rng.random()
        yield code(rng) if kind < 0.25 else rng.choice(OTHERS) if kind < 0.35 else " " * rng.randint(2, 9) + sentence(rng) if kind < 0.4 else sentence(rng)


def character(rng):
    """Any code point but a surrogate; often one of the first pages."""
    limit = rng.choice([0x80, 0x100, 0x800, 0x3100, 0x10000, 0x20000, 0x110000])
    while True:
        c = rng.randrange(limit)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


MARKS = [chr(c) for c in range(0x300, 0x11000) if unicodedata.combining(chr(c))]


def hard_text(rng, tokens):
    """A text of what tokenizers stumble over, `tokens` (added tokens, pieces) among it."""
    def part():
        kind = rng.randrange(14)
        if kind == 0: return rng.choice(ODD_SPACES) * rng.choice([1, 1, 1, 2, 3, 7])
        if kind == 1: return rng.choice(SEQUENCES)
        if kind == 2: return "".join(character(rng) for _ in range(rng.randint(1, 6)))
        if kind == 3: return rng.choice("aeosnAEO一한กαи ") + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 4)))
        if kind == 4: return character(rng) * rng.choice([1, 2, 3, 5, 17, 60])
        if kind == 5: return str(rng.randint(0, 10 ** rng.randint(1, 12)))
        if kind == 6: return rng.choice(END)
        if kind in (7, 8): return rng.choice(tokens)
        if kind == 9: return rng.choice(["", " ", "  ", "\n", "x"]) + rng.choice(tokens) + rng.choice(["", " ", "  \t", "\n", "x", "é"])
        if kind == 10: return rng.choice(OTHERS)[rng.randint(0, 3):rng.randint(4, 20)]
        if kind == 11: return code(rng)
        if kind == 12: return "".join(rng.choice(".,;:!?-_/\\()[]{}<>|'\"`~@#$%^&*+=") for _ in range(rng.randint(1, 8)))
        return " ".join(rng.choice(ENGLISH) for _ in range(rng.randint(1, 5)))
    return "".join(part() for _ in range(rng.choice([1, 2, 3, 5, 8, 13])))


# ---- tokenizers

def byte_level(pre, size=1000, normalizer=None, special=("<|endoftext|>",), added=(), **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(corpus(random.Random(1), 3000), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special])
    tokenizer.add_tokens(list(added))
    return tokenizer


def sentencepiece(pre=None, normalizer=None, decoder=None, added=(), size=1200):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizer
    # Learning wants words; the published files cut none, or elsewhere.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never") if normalizer is None else pre_tokenizers.Split("▁", "merged_with_next")
    names = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)]
    tokenizer.train_from_iterator(corpus(random.Random(2), 3000), trainers.BpeTrainer(vocab_size=size, special_tokens=names, limit_alphabet=120, show_progress=False))
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = file["added_tokens"][:3]  # the bytes are plain pieces
    file["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(file))
    if pre is not None:
        tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoder
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    tokenizer.add_tokens(list(added))
    return tokenizer


def split_then_bytes(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def every_flag():
    tokens = []
    for i in range(32):
        flags = dict(zip(("lstrip", "rstrip", "single_word", "normalized", "special"), (bool(i >> b & 1) for b in range(5))))
        tokens.append(AddedToken("<F%d>" % i if i % 2 else "Flag%dé" % i, **flags))
    return tokens + [AddedToken("<F1>x", normalized=False), AddedToken("  ", normalized=False), AddedToken("ＡB", normalized=True)]


def make():
    byte = pre_tokenizers.ByteLevel
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    sp_decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made = {}
    made["gpt2"] = byte_level(byte(add_prefix_space=False))
    made["neox"] = byte_level(byte(add_prefix_space=False), normalizer=normalizers.NFC(), special=("<|endoftext|>", "<|padding|>"),
                              added=[AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    made["llama3"] = byte_level(split_then_bytes(LLAMA3), ignore_merges=True, special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))
    begin = made["llama3"].token_to_id("<|begin_of_text|>")
    made["llama3"].post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[("<|begin_of_text|>", begin)])])
    made["qwen2"] = byte_level(split_then_bytes(QWEN2), normalizer=normalizers.NFC(), special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
                               added=[AddedToken("<tool_call>", normalized=False), AddedToken("</tool_call>", normalized=False)])
    made["smollm"] = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte(add_prefix_space=False)]),
                                special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    made["llama2"] = sentencepiece(normalizer=legacy, decoder=decoders.Sequence(sp_decoder + [decoders.Strip(content=" ", left=1, right=0)]))
    made["gemma"] = sentencepiece(normalizer=normalizers.Replace(" ", "▁"), pre=pre_tokenizers.Split(" ", "merged_with_previous"), decoder=decoders.Sequence(sp_decoder),
                                  added=[AddedToken(t, normalized=False) for t in ["\n\n", "\n\n\n", "▁▁", "▁▁▁", "<table>"]]
                                  + [AddedToken(t, special=True, normalized=False) for t in ["<start_of_turn>", "<end_of_turn>"]])
    for scheme in ("first", "always", "never"):
        meta = dict(replacement="▁", prepend_scheme=scheme, split=scheme != "first")
        made["metaspace_" + scheme] = sentencepiece(pre=pre_tokenizers.Metaspace(**meta), decoder=decoders.Sequence(sp_decoder[1:2] + [decoders.Metaspace(**meta)]),
                                                    added=[AddedToken("<|user|>", special=True, normalized=False), AddedToken("tool", normalized=True)])
    made["flags"] = byte_level(byte(add_prefix_space=True), normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), added=every_flag())
    return made


CONFIGS = {"gpt2": ("<|endoftext|>", "<|endoftext|>"), "neox": ("<|endoftext|>", "<|endoftext|>"), "llama3": ("<|begin_of_text|>", "<|eot_id|>"), "qwen2": (None, "<|im_end|>"),
           "smollm": ("<|im_start|>", "<|im_end|>"), "flags": (None, "<|endoftext|>")}


def main():
    for name, tokenizer in make().items():
        rng = random.Random(name)
        folder = os.path.join(FOLDER, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            f.write(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")))
        bos, eos = CONFIGS.get(name, ("<s>", "</s>"))
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
            json.dump({"bos_token": bos, "eos_token": {"content": eos, "lstrip": False}}, f)
        tokens = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
        with open(os.path.join(folder, "expected.jsonl"), "w") as f:
            for i in range(200):
                text = ("" if i == 0 else hard_text(rng, tokens))[:80]
                ids = tokenizer.encode(text, add_special_tokens=False).ids
                row = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
                if i < 10:
                    row["with_special_tokens"] = tokenizer.encode(text).ids
                f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        print(name, tokenizer.get_vocab_size(), os.path.getsize(os.path.join(folder, "tokenizer.json")), os.path.getsize(os.path.join(folder, "expected.jsonl")))


if __name__ == "__main__":
    sys.exit(main())
