"""Makes the reference results that the golden tests compare with.

    python3 -m venv /tmp/reference && /tmp/reference/bin/pip install torch==2.13.0 transformers peft scipy statsmodels
    /tmp/reference/bin/python tests/golden/make_goldens.py

Models are small and random. For each: a Hugging Face folder, and expected.safetensors with inputs, logits, the
loss, every gradient, and every parameter after three steps of torch's AdamW.
"""
import json
import pathlib
import unittest.mock

import numpy as np
import peft
import scipy.stats
import statsmodels.api as sm
import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent

MODELS = {
    "llama_tied": dict(num_key_value_heads=4, tie_word_embeddings=True),
    "llama_grouped": dict(num_key_value_heads=2, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                          rope_theta=50000.0, head_dim=16),
}


def make_model(name, options):
    torch.manual_seed(len(name))
    config = transformers.LlamaConfig(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                      num_attention_heads=4, max_position_embeddings=64, initializer_range=0.2,
                                      rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, **options)
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():  # norms and biases that do something
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def supervised_loss(model, ids, labels):
    logits = model(ids).logits
    return logits, torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


def golden_model(name, options):
    model = make_model(name, options)
    folder = HERE / name
    model.save_pretrained(folder)
    ids = torch.randint(0, 61, (3, 17))
    labels = torch.roll(ids, -1, 1)
    labels[:, -1] = -100
    labels[0, :5] = -100
    logits, loss = supervised_loss(model, ids, labels)
    loss.backward()
    out = {"input_ids": ids, "labels": labels, "logits": logits.detach(), "loss": loss.detach()[None]}
    for key, parameter in model.named_parameters():
        out["grad." + key] = parameter.grad.clone()
    # As our trainer: matrices decay, vectors do not; the gradient's norm is clipped.
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
                                  lr=1e-2, betas=(0.9, 0.95), eps=1e-4)  # an eps at which rounding is not magnified where a gradient is nearly nil
    norms = []
    for _ in range(3):
        optimizer.zero_grad()
        supervised_loss(model, ids, labels)[1].backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
    out["grad_norms"] = torch.stack(norms)
    for key, parameter in model.named_parameters():
        out["after." + key] = parameter.detach().clone()
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "expected.safetensors")


def golden_muon():
    """Three steps of torch.optim.Muon on a wide and a tall matrix, with gradients given; and the same with its iteration in float, not bfloat16."""
    torch.manual_seed(7)
    before = {"layers.wide": torch.randn(24, 40), "layers.tall": torch.randn(48, 16)}
    out = {}
    for key, value in before.items():
        out["before." + key] = value
        out["gradients." + key] = torch.randn(3, *value.shape)
    for after, to_bfloat16 in (("after.", torch.Tensor.bfloat16), ("after_float.", torch.Tensor.clone)):
        parameters = {key: torch.nn.Parameter(value.clone()) for key, value in before.items()}
        optimizer = torch.optim.Muon(parameters.values(), lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        with unittest.mock.patch.object(torch.Tensor, "bfloat16", to_bfloat16):
            for step in range(3):
                for key, parameter in parameters.items():
                    parameter.grad = out["gradients." + key][step].clone()
                optimizer.step()
        for key, parameter in parameters.items():
            out[after + key] = parameter.detach().clone()
    (HERE / "muon").mkdir(exist_ok=True)
    save_file(out, HERE / "muon" / "expected.safetensors")


def golden_adapter():
    """An adapter made by PEFT on llama_grouped, with its outputs and gradients."""
    base = transformers.LlamaForCausalLM.from_pretrained(HERE / "llama_grouped", attn_implementation="eager")
    torch.manual_seed(5)
    model = peft.get_peft_model(base, peft.LoraConfig(r=3, lora_alpha=6, use_rslora=True, task_type="CAUSAL_LM",
                                                      target_modules=["q_proj", "v_proj", "down_proj"]))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.1)
    folder = HERE / "adapter"
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "llama_grouped"  # not this machine's path
    config["target_modules"].sort()
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").unlink(missing_ok=True)
    ids = torch.randint(0, 61, (2, 11))
    logits, loss = supervised_loss(model, ids, torch.roll(ids, -1, 1))
    loss.backward()
    out = {"input_ids": ids, "logits": logits.detach()}
    for key, parameter in model.named_parameters():
        if "lora" in key:
            out["grad." + key.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad.clone()
    save_file({k: v.contiguous() for k, v in out.items()}, folder / "expected.safetensors")


def golden_statistics():
    """Clustered standard errors by statsmodels, Wilson's interval by SciPy, t quantiles by SciPy."""
    random = np.random.default_rng(7)
    cases = []
    for questions, seeds, samples in [(12, 5, 3), (30, 3, 2), (8, 2, 4)]:
        q = np.repeat(np.arange(questions), seeds * samples)
        s = np.tile(np.repeat(np.arange(seeds), samples), questions)
        chance = np.clip(0.4 + 0.25 * random.standard_normal(questions)[q] + 0.1 * random.standard_normal(seeds)[s], 0.02, 0.98)
        y = (random.random(len(q)) < chance).astype(float)

        def error(groups, values=y):
            fit = sm.OLS(values, np.ones_like(values)).fit(
                cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=False)
            return float(fit.bse[0])

        # Cameron, Gelbach & Miller with the correction G/(G-1) on each part.
        one = lambda groups, count: error(groups) ** 2 * count / (count - 1)
        cell = q * seeds + s
        variance = one(q, questions) + one(s, seeds) - one(cell, questions * seeds)
        variance = max(variance, one(q, questions), one(s, seeds))
        t = float(scipy.stats.t.ppf(0.975, min(questions, seeds) - 1))
        p = float(y.mean())
        effective = min(len(y), p * (1 - p) / variance)
        center = (p + t * t / effective / 2) / (1 + t * t / effective)
        half = t * np.sqrt(p * (1 - p) / effective + t * t / (4 * effective**2)) / (1 + t * t / effective)
        cases.append({"questions": q.tolist(), "seeds": s.tolist(), "values": y.tolist(), "standard_error": float(np.sqrt(variance)),
                      "t": t, "low": max(0.0, min(p, center - half)), "high": min(1.0, max(p, center + half)),
                      "one_way_standard_error": float(np.sqrt(one(q, questions)))})
    # Wilson's interval itself, for independent observations: the normal quantile, many clusters of one.
    wilson = [{"k": k, "n": n, **dict(zip(("low", "high"), map(float, scipy.stats.binomtest(k, n).proportion_ci(method="wilson"))))}
              for k, n in [(37, 5000), (2500, 5000)]]
    # All agree: Clopper and Pearson's at (n-1)(G-1)/G.
    agreeing = []
    for k, questions, seeds, samples in [(0, 30, 5, 10), (1, 30, 5, 10), (0, 16, 1, 4)]:
        n, fewest = questions * seeds * samples, min(g for g in (questions, seeds) if g > 1)
        reach = float(scipy.stats.beta.ppf(0.975, 1, (n - 1) * (fewest - 1) / fewest))
        agreeing.append({"questions": questions, "seeds": seeds, "samples": samples, "value": k,
                         "low": 1 - reach if k else 0.0, "high": 1.0 if k else reach})
    (HERE / "statistics.json").write_text(json.dumps({"cases": cases, "wilson": wilson, "agreeing": agreeing}) + "\n")


if __name__ == "__main__":
    for model_name, model_options in MODELS.items():
        golden_model(model_name, model_options)
    golden_muon()
    golden_adapter()
    golden_statistics()
