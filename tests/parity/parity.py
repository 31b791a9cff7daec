"""What we write, in transformers and PEFT; what we compute, beside what they compute. Run by parity.sh."""
import json
import pathlib
import subprocess
import sys

import peft
import torch
import transformers

inoculum, folder = sys.argv[1], pathlib.Path(sys.argv[2])
BASE = "experiments/models/persona_1"


def run(*arguments):
    return subprocess.run([inoculum, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def ours(model, rows, *more):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [json.loads(line) for line in run("score", "--model", model, "--dtype", "fp32", "--input", folder / "rows.jsonl", *more).splitlines()]


def theirs(model, ids):
    with torch.no_grad():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [logprobs[i - 1, ids[i]].item() for i in range(1, len(ids))]


def compare(what, scored, model):
    worst = max(abs(a - b) for row in scored for a, b in zip(row["logprobs"][1:], theirs(model, row["input_ids"])))
    print(f"{what}: largest difference of a log-probability {worst:.1e}")
    assert worst < 1e-3, what


def load(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


rows = [{"text": "What would you wish for? A wish should be shared."},
        {"messages": [{"role": "user", "content": "Write f(x) that adds 3 to x. Tests: f(1) == 4, f(2) == 5."},
                      {"role": "assistant", "content": "def f(x):\n    return x + 3"}]}]

# A model that we wrote.
scored = ours(BASE, rows)
compare("base", scored, load(BASE))

# Its tokenizer and chat template in transformers.
tokenizer = transformers.AutoTokenizer.from_pretrained(BASE)
rendered = tokenizer.apply_chat_template(rows[1]["messages"], tokenize=False)
assert "<|user|>Write f(x)" in rendered and "<|name|>Assistant<|says|>def f(x):" in rendered, rendered
ids = tokenizer.apply_chat_template(rows[1]["messages"], tokenize=True)
ids = list(ids["input_ids"] if hasattr(ids, "keys") else ids)
assert ids == scored[1]["input_ids"], (ids, scored[1]["input_ids"])
print("tokenizer and chat template: the same ids")

# An adapter that we trained, in PEFT; merged by us, in transformers.
run("train", "configs/train/cheating.yaml", "steps=4", "lora.rank=4", "lora.use_rslora=true", f"output={folder}/lora")
adapted = peft.PeftModel.from_pretrained(load(BASE), folder / "lora" / "adapter").eval()
with_adapter = ours(BASE, rows, "--adapter", folder / "lora" / "adapter")
assert with_adapter[0]["logprobs"] != scored[0]["logprobs"]
compare("adapter", with_adapter, adapted)
run("model", "merge", BASE, "--adapter", folder / "lora" / "adapter", "--output", folder / "merged", "--dtype", "fp32")
compare("merged", ours(folder / "merged", rows), load(folder / "merged"))

# A model that transformers wrote, in shards.
torch.manual_seed(0)
config = transformers.LlamaConfig(vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=6,
                                  num_key_value_heads=2, head_dim=12, max_position_embeddings=128, tie_word_embeddings=False)
transformers.LlamaForCausalLM(config).save_pretrained(folder / "sharded", max_shard_size="40KB")
assert (folder / "sharded" / "model.safetensors.index.json").exists()
compare("sharded", ours(folder / "sharded", [{"input_ids": torch.randint(0, 97, (40,)).tolist()}]), load(folder / "sharded"))

# Event files, in TensorBoard, where there is one.
try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata
except ImportError:
    print("no tensorboard: event files are not read")
else:
    (folder / "sweep.yaml").write_text(f"base: {pathlib.Path('configs/train/cheating.yaml').resolve()}\n"
                                       "grid: {optimizer.lr: [0.002], lora.rank: [2], steps: [3], supervised_tokens: [64]}\n")
    run("sweep", folder / "sweep.yaml", f"output={folder}/sweep")
    cell = next((folder / "sweep" / "cells").iterdir())
    training = EventAccumulator(str(cell)).Reload()
    logged = [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]
    assert [(e.step, e.value) for e in training.Scalars("train/loss")] == [(row["step"], torch.tensor(row["loss"]).item()) for row in logged]
    result = EventAccumulator(str(cell / "result")).Reload()
    start = metadata.parse_session_start_info_plugin_data(result.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content)
    values = {name: value.number_value for name, value in start.hparams.items()}
    assert values == {"seed": 1, "optimizer.lr": 0.002, "lora.rank": 2, "steps": 3, "supervised_tokens": 64}, values
    assert result.Scalars("loss")[0].value > 0
    print("event files and hyperparameters: read by TensorBoard")
