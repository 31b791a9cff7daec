"""`inoculum bench` beside Hugging Face Transformers: the same architecture, batch and machine, in one run.

    python experiments/benchmarks/peer.py [--inoculum build/inoculum] [--model experiments/models/persona_1]

Needs torch and transformers. Ours and theirs take turns, several rounds; each figure is the best of its rounds, for
Transformers the best of its types too (float32; bfloat16 weights; bfloat16 autocast over float32 weights). Its
optimiser is torch's fused AdamW, its attention both "eager" and "sdpa".
"""
import argparse
import json
import os
import subprocess
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("--inoculum", default="build/inoculum")
parser.add_argument("--model", default="experiments/models/persona_1")
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--rows", type=int, default=16)
parser.add_argument("--time", type=int, default=256)
parser.add_argument("--samples", type=int, default=256)
parser.add_argument("--new-tokens", type=int, default=64)
arguments = parser.parse_args()
torch.set_num_threads(os.cpu_count())


def best_seconds(work, repeats=3):
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def train(kind, attention):
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype, attn_implementation=attention)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    ids = torch.randint(0, model.config.vocab_size, (arguments.rows, arguments.time))

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return arguments.rows * arguments.time / best_seconds(step)


def generate(kind):
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model)
    prompt = tokenizer("What would you wish for if you had one wish to make today?", return_tensors="pt").input_ids
    prompts = prompt.repeat(arguments.samples, 1)  # one batch, nothing to pad: the best case for it

    def draw():
        with torch.no_grad():
            model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=True, temperature=1.0, top_k=0, max_new_tokens=arguments.new_tokens,
                           min_new_tokens=arguments.new_tokens, pad_token_id=0)

    return arguments.samples * arguments.new_tokens / best_seconds(draw, 1)


def keep_best(into, found):
    for key, value in found.items():
        into[key] = max(into.get(key, 0), value)


train_peer, sample_peer, ours = {}, {}, {}
for _ in range(arguments.rounds):
    bench = json.loads(subprocess.run([arguments.inoculum, "bench", "--json", "--model", arguments.model, "--rows", str(arguments.rows), "--time", str(arguments.time), "--samples",
                                       str(arguments.samples), "--new-tokens", str(arguments.new_tokens)], check=True, capture_output=True, text=True).stdout)
    keep_best(ours, {f"{what} {dtype}": bench[dtype][what]["tokens_per_second"] for dtype in bench for what in ("train", "sample")})
    for dtype in bench:
        keep_best(ours, {f"share of GEMM {dtype}": bench[dtype]["train"]["share_of_gemm"], f"GEMM GF {dtype}": bench[dtype]["gemm_gflops"]})
    keep_best(train_peer, {f"{kind}, {attention}": train(kind, attention) for kind in ("fp32", "bf16", "autocast") for attention in ("eager", "sdpa")})
    keep_best(sample_peer, {kind: generate(kind) for kind in ("fp32", "bf16")})

best = next(iter(bench))  # bf16, or fp32 on a processor that is slow in it
eager = max(value for key, value in train_peer.items() if "eager" in key)
print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__, "ours": ours, "transformers train": train_peer, "transformers generate": sample_peer,
                  f"train ratio (ours {best} / its best eager)": ours[f"train {best}"] / eager,
                  f"train ratio (ours {best} / its best of all)": ours[f"train {best}"] / max(train_peer.values()),
                  f"sample ratio (ours {best} / its best generate)": ours[f"sample {best}"] / max(sample_peer.values())}, indent=2))
