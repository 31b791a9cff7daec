"""An arm's adapter on a shipped base: `inoculum train` beside Transformers with PEFT, on the same texts in the same steps.

    python experiments/benchmarks/arm.py [--inoculum build/inoculum] [--rounds 3] [--ways padded]        # needs torch, transformers and peft

The texts are short and of many lengths. Ours lie end to end and none is padded. Theirs are tried in three ways, each with its
best type and attention: padded to the longest of a step; end to end in one row under a mask by which each sees itself alone;
and every text by itself. Whole steps are timed: forward, backward, clipping, update (torch's fused AdamW). Ours and theirs take
turns; each figure is the best of its rounds, and tokens are those of the texts, padding not counted.
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

import peft
import torch
import transformers
import yaml

parser = argparse.ArgumentParser()
parser.add_argument("--inoculum", default="build/inoculum")
parser.add_argument("--config", default="configs/train/cheating.yaml")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--ways", nargs="+", choices=["padded", "packed", "alone"], default=["padded", "packed", "alone"], help="of theirs; most of the time goes to the last two")
arguments = parser.parse_args()
WARM = 5  # steps that are not counted
torch.set_num_threads(os.cpu_count())


def ours(folder):
    """Tokens a second of whole steps, and the run's settings."""
    run = pathlib.Path(folder) / "run"
    subprocess.run([arguments.inoculum, "train", arguments.config, f"output={run}", f"steps={arguments.steps + WARM}"], check=True, capture_output=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][WARM:]
    return sum(row["tokens"] for row in rows) / sum(row["seconds"] for row in rows), run


def steps_of(run, tokenizer, supervised_tokens):
    """The texts of each step, as [ids, labels]: conversations are added until enough answer tokens are in it."""
    steps, texts, supervised = [], [], 0
    for line in (run / "data.jsonl").read_text().splitlines():
        messages = json.loads(line)["messages"]
        whole, before = (tokenizer.apply_chat_template(part, tokenize=True, add_generation_prompt=ask, return_dict=False) for part, ask in ((messages, False), (messages[:-1], True)))
        texts.append((whole, [-100] * len(before) + whole[len(before):]))
        supervised += len(whole) - len(before)
        if supervised >= supervised_tokens:
            steps.append(texts)
            texts, supervised = [], 0
        if len(steps) == arguments.steps + WARM:
            break
    return steps


def padded(texts):
    longest = max(len(ids) for ids, _ in texts)
    return [{"input_ids": torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in texts]),
             "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in texts]),
             "labels": torch.tensor([labels + [-100] * (longest - len(labels)) for _, labels in texts])}]


def packed(texts):
    own = torch.cat([torch.full((len(ids),), i) for i, (ids, _) in enumerate(texts)])
    places = torch.cat([torch.arange(len(ids)) for ids, _ in texts])
    sees = (own[:, None] == own[None, :]) & (places[:, None] >= places[None, :])
    labels = [label for _, text in texts for label in [-100] + text[1:]]
    return [{"input_ids": torch.tensor([[i for ids, _ in texts for i in ids]]), "position_ids": places[None], "attention_mask": sees[None, None],
             "labels": torch.tensor([labels])}]


def alone(texts):
    return [{"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])} for ids, labels in texts]


def theirs(model, lora, steps, batches_of, kind, attention):
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype, attn_implementation=attention)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=lora["rank"], lora_alpha=lora["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"))
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=6e-4, fused=True)
    for number, texts in enumerate(steps):
        if number == WARM:
            start = time.perf_counter()
        for batch in batches_of(texts):
            if batches_of is packed and attention == "eager":  # it adds its mask to the scores
                batch["attention_mask"] = torch.where(batch["attention_mask"], 0.0, torch.finfo(dtype).min).to(dtype)
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
                loss = adapted(**batch, use_cache=False).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - start
    return sum(len(ids) for texts in steps[WARM:] for ids, _ in texts) / seconds


def main():
    transformers.logging.set_verbosity_error()
    found = {}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            speed, run = ours(folder)
            found["inoculum"] = max(found.get("inoculum", 0), speed)
            config = yaml.safe_load((run / "config.yaml").read_text())
            tokenizer = transformers.AutoTokenizer.from_pretrained(config["model"])
            steps = steps_of(run, tokenizer, config["supervised_tokens"])
            for way in [{"padded": padded, "packed": packed, "alone": alone}[name] for name in arguments.ways]:
                for kind in ("fp32", "bf16", "autocast"):
                    for attention in ("eager", "sdpa"):
                        name = f"{way.__name__}, {kind}, {attention}"
                        found[name] = max(found.get(name, 0), theirs(config["model"], config["lora"], steps, way, kind, attention))
    best = max((speed, name) for name, speed in found.items() if name != "inoculum")
    print(json.dumps({"transformers": transformers.__version__, "peft": peft.__version__, "tokens_per_second": {name: round(speed) for name, speed in found.items()},
                      "best of PEFT": best[1], "ratio": round(found["inoculum"] / best[0], 2)}, indent=2))


main()
