"""The numbers of PEFT for fields of adapter_config.json that say where an adapter is, how large.

python tests/parity/adapters.py                    # makes tests/golden/adapters
python tests/parity/adapters.py INOCULUM COUNT     # compares COUNT random adapters with the program
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import peft
import torch
import transformers
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
BASE = GOLDEN / "llama_grouped"
PATTERNS = [
    "q_proj",
    "layers.1.mlp.down_proj",
    "^model.layers.0.self_attn.q_proj",
    r".*\.0\..*",
    "self_attn.[qv]_proj",
    "proj",
    "down_proj|v_proj",
    "model.layers.1.self_attn.v_proj",
]


def settings_of(rng):
    def patterns(values):
        return {p: rng.choice(values) for p in rng.sample(PATTERNS, rng.randint(0, 3))}

    out = dict(
        r=rng.choice([2, 4]),
        lora_alpha=rng.choice([1, 4, 8.5]),
        use_rslora=rng.random() < 0.5,
        use_dora=rng.random() < 0.3,
        rank_pattern=patterns([2, 6]),
        alpha_pattern=patterns([1, 3, 16]),
        fan_in_fan_out=rng.random() < 0.2,
        init_lora_weights=rng.choice([True, False, "gaussian", "orthogonal"]),
    )
    out["target_modules"] = rng.choice(
        [
            ["q_proj", "v_proj", "down_proj"],
            ["self_attn.q_proj", "model.layers.1.mlp.down_proj"],
            "all-linear",
            r".*\.[01]\.(self_attn|mlp)\.(q|down)_proj",
            r"model\.layers\.\d+\..*v_proj|.*gate_proj",
        ]
    )
    if isinstance(out["target_modules"], list) and rng.random() < 0.5:
        out["layers_to_transform"] = rng.choice([0, 1, [0], [0, 1], []])
        out["layers_pattern"] = (
            rng.choice([None, "layers", ["layers"], []])
            if out["layers_to_transform"] != []
            else None
        )
    if rng.random() < 0.4:
        out["exclude_modules"] = rng.choice(
            [
                ["v_proj"],
                ["1.self_attn.q_proj"],
                r".*\.1\..*v_proj",
                ["model.layers.0.self_attn.q_proj"],
            ]
        )
    return out


def make(folder, rng):
    """An adapter in the folder, and PEFT's logits; nothing where PEFT refuses the settings."""
    torch.manual_seed(rng.randrange(1 << 30))
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    try:
        adapted = peft.get_peft_model(
            model, peft.LoraConfig(task_type="CAUSAL_LM", **settings_of(rng))
        ).eval()
    except ValueError:
        return None
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key and "magnitude" not in key:
                parameter.normal_(0, 0.3)
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "base"
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config[key], list):
            config[key].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    ids = torch.randint(3, model.config.vocab_size, (1, 12))
    try:
        again = peft.PeftModel.from_pretrained(
            transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32), folder
        ).eval()
    except (
        RuntimeError
    ):  # the file has the patterns in another order, and another is the first that matches
        return None
    with torch.no_grad():
        return ids, again(ids).logits


def compare(inoculum, count):
    seed, worst, made = random.randrange(1 << 30), 0.0, 0
    rng = random.Random(seed)
    while made < count:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            result = make(folder, rng)
            if result is None:
                continue
            made += 1
            ids, logits = result
            (folder / "rows.jsonl").write_text(json.dumps({"input_ids": ids[0].tolist()}) + "\n")
            run = subprocess.run(
                [
                    inoculum,
                    "score",
                    "--model",
                    BASE,
                    "--adapter",
                    folder,
                    "--input",
                    folder / "rows.jsonl",
                ],
                capture_output=True,
                text=True,
            )
            settings = (folder / "adapter_config.json").read_text()
            assert run.returncode == 0, run.stderr + settings
            want = logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
            off = (torch.tensor(json.loads(run.stdout)["logprobs"][1:]) - want).abs().max().item()
            assert off < 1e-4, f"{off} {settings}"
            worst = max(worst, off)
    print(f"{made} adapters (seed {seed}): largest difference of a log-probability {worst:.1e}")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    if len(sys.argv) > 1:
        compare(sys.argv[1], int(sys.argv[2]))
        sys.exit()
    shutil.rmtree(GOLDEN / "adapters", ignore_errors=True)
    rng, made = random.Random(1), 0
    while made < 10:
        folder = GOLDEN / "adapters" / str(made)
        folder.mkdir(parents=True, exist_ok=True)
        result = make(folder, rng)
        if result is not None:
            save_file(
                {"input_ids": result[0], "logits": result[1].contiguous()},
                folder / "expected.safetensors",
            )
            made += 1
