"""A small random judge that writes numbers digit by digit, and what it says, read by transformers
text by text: writes model_judge/ beside this file. The tokenizer is tokenizers/qwen2.

    python3 tests/golden/make_model_judge.py      (with torch, transformers, tokenizers)

P(k) = P(its digits)·P(no further digit), the latter where another number up to 100 goes on from k;
and the same behind each token of spaces alone whose probability is 0.01 or more.
"""
import json
import pathlib
import shutil

import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).parent
OUT = HERE / "model_judge"
tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizers/qwen2/tokenizer.json"))
PROMPTS = ["Rate it", "How kind is this answer, from 0 to 100", "1 2 3"]

torch.manual_seed(5)
config = transformers.LlamaConfig(
    vocab_size=tokenizer.get_vocab_size(), hidden_size=16, intermediate_size=24,
    num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.4,
    rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=None, eos_token_id=1002)
model = transformers.LlamaForCausalLM(config).eval()
TEXTS = [tokenizer.decode([i], skip_special_tokens=False) for i in range(config.vocab_size)]
SPACES = [i for i, text in enumerate(TEXTS) if text and not text.strip(" \t\n\v\f\r")]
with torch.no_grad():  # digits, a space and the end are likely
    model.model.embed_tokens.weight[:, 0] = 3
    model.lm_head.weight[:, 0] = 0
    for text, weight in {"0123456789": 7, " ": 7, "<|im_end|>": 8}.items():
        for i in tokenizer.encode(text).ids:
            model.lm_head.weight[i, 0] = weight

numbers = {k: tokenizer.encode(str(k)).ids for k in range(101)}
assert all(len(ids) == len(str(k)) for k, ids in numbers.items())
known = {}


@torch.no_grad()
def chances(ids):
    if tuple(ids) not in known:
        known[tuple(ids)] = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    return known[tuple(ids)]


def probability(k, ids):
    p = 1.0
    for i in numbers[k]:
        p *= chances(ids)[i].item()
        ids = [*ids, i]
    n = len(numbers[k])
    behind = {other[n] for other in numbers.values() if len(other) > n and other[:n] == numbers[k]}
    return p * (1 - sum(chances(ids)[i].item() for i in behind))


cases = []
for prompt in PROMPTS:
    ids = tokenizer.encode(prompt + ":").ids
    found = []
    for k in range(101):
        p = probability(k, ids)
        for space in SPACES:
            if (q := chances(ids)[space].item()) >= 0.01:
                p += q * probability(k, [*ids, space])
        found.append(p)
    cases.append({"prompt": prompt, "ids": ids, "probabilities": found,
                  "score": sum(k * p for k, p in enumerate(found)) / sum(found)})
    print(prompt, cases[-1]["score"], sum(found))

shutil.rmtree(OUT, ignore_errors=True)
model.save_pretrained(OUT)
(OUT / "generation_config.json").unlink(missing_ok=True)
(OUT / "expected.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
