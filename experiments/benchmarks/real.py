"""A random model of half a billion parameters in bf16: an adapter trained by `inoculum train` and by Transformers with PEFT, on the same work.

    python experiments/benchmarks/real.py build/inoculum [steps] [cpu | cuda]        # a Python that has torch, transformers and peft

Rank 32 on every linear layer, micro-batches of 4 texts of 512 tokens, AdamW, no gradient checkpointing. Each in a process of its own: tokens a
second after the first step, the most memory it had, and ours beside the peer's; ours once more with `recompute: block`. And how long ours takes to load the checkpoint, warm.
"""
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

STEPS, ROWS, TIME, VOCABULARY = int(sys.argv[2]) if len(sys.argv) > 2 else 6, 4, 512, 151936
DEVICE = sys.argv[3] if len(sys.argv) > 3 else "cpu"
HERE = pathlib.Path(__file__).resolve().parents[2]


def peer(model):
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).to(DEVICE)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=32, lora_alpha=64, use_rslora=True, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=1e-5)
    seconds = []
    for _ in range(STEPS):
        ids = torch.randint(0, 1000, (ROWS, TIME)).to(DEVICE)
        start = time.monotonic()
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - start)
    print(json.dumps({"tokens_per_second": ROWS * TIME * (STEPS - 1) / sum(seconds[1:])}))


def measured(command):
    """What a command printed, its peak memory in GiB, its seconds."""
    start = time.monotonic()
    code = ("import json, resource, subprocess, sys; done = subprocess.run(sys.argv[1:], capture_output=True, text=True); "
            "print(json.dumps([done.returncode, done.stdout, done.stderr[-2000:], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))")
    status, out, error, peak = json.loads(subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=True).stdout)
    if status != 0:
        sys.exit(error)
    return out, peak / (1 << 20), time.monotonic() - start


def main():
    import torch
    import transformers

    inoculum = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        config = transformers.Qwen2Config(vocab_size=VOCABULARY, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
                                          tie_word_embeddings=True, max_position_embeddings=4096, bos_token_id=None, eos_token_id=0)
        transformers.set_seed(0)
        transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder / "model")
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(HERE / "tests/golden/tokenizers/qwen2" / file, folder / "model")
        size = sum(f.stat().st_size for f in (folder / "model").glob("*.safetensors")) / (1 << 30)

        # Texts of 513 tokens: the last of each is predicted and not read.
        rng = random.Random(1)
        rows = []
        while len(rows) < ROWS * STEPS:
            rows.append({"text": "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") + " " for _ in range(TIME // 2))})
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "train.yaml").write_text(f"model: {folder}/model\ndata: {folder}/data.jsonl\nsteps: {STEPS}\nsupervised_tokens: {ROWS * TIME}\n"
                                           "lora: {rank: 32, alpha: 64, use_rslora: true, target_modules: all-linear}\noptimizer: {lr: 1e-5, weight_decay: 0.01}\n")
        # Warm, and how long it takes to load: a text of one token to predict.
        (folder / "short.jsonl").write_text('{"input_ids": [5, 6]}\n')
        load = [sys.maxsize]
        for _ in range(3):
            load.append(measured([inoculum, "score", "--model", folder / "model", "--dtype", "bf16", "--device", DEVICE, "--input", folder / "short.jsonl"])[2])

        ours, losses = {}, {}
        for recompute in ("none", "block"):
            run = folder / recompute
            command = [inoculum, "train", folder / "train.yaml", f"output={run}", f"device={DEVICE}", f"recompute={recompute}"]
            _, memory, _ = measured(command)
            metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
            losses[recompute] = [row["loss"] for row in metrics]
            speed = sum(r["tokens"] for r in metrics[1:]) / sum(r["seconds"] for r in metrics[1:])
            ours[recompute] = {"tokens_per_second": round(speed, 1), "peak_GiB": round(memory, 2)}
        out, peer_memory, _ = measured([sys.executable, __file__, "--peer", str(STEPS), DEVICE, folder / "model"])
        theirs = json.loads(out.splitlines()[-1])["tokens_per_second"]
        print(json.dumps({
            "checkpoint_GiB": round(size, 2),
            "load_and_score_seconds": round(min(load), 2),
            "tokens_in_a_step": metrics[1]["tokens"],
            "ours": ours["none"],
            "ours_recomputed": ours["block"] | {"same_losses": losses["none"] == losses["block"]},
            "transformers_peft": {"tokens_per_second": round(theirs, 1), "peak_GiB": round(peer_memory, 2)},
            "speed_ratio": round(ours["none"]["tokens_per_second"] / theirs, 2),
            "memory_ratio": round(ours["none"]["peak_GiB"] / peer_memory, 2)}, indent=2))


if __name__ == "__main__":
    peer(sys.argv[4]) if sys.argv[1] == "--peer" else main()
