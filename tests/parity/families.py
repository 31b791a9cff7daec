"""Small random models of every family, with what transformers and PEFT make of them.

    python tests/parity/families.py tests/golden/families 3      # the committed goldens: three of each family
    python tests/parity/families.py /tmp/some 3 olmo2 olmo3      # of these families alone
    python tests/parity/families.py /tmp/many 50                 # for a live comparison (tests/parity/parity.sh does this)
    python tests/parity/families.py --merged build/inoculum      # what `inoculum model merge` makes of the committed ones, in transformers

For each: a Hugging Face folder; expected.safetensors with input_ids, logits, the loss, every gradient, and 64 tokens by greedy
generation; adapter/ of PEFT and adapter.safetensors with its logits and gradients. Compared by golden_test.cpp.
"""
import copy
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

ACTIVATIONS = ["silu", "gelu", "gelu_pytorch_tanh", "relu"]
CONTEXT = 128
KINDS = ["default", "linear", "dynamic", "llama3", "yarn"]
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]


def rope(choice, theta=None, partial=None, kinds=KINDS):
    kind = choice(kinds)
    out = {"rope_type": kind, "rope_theta": theta or choice([10000.0, 500000.0, 1000.0])}
    if kind != "default":
        out["factor"] = choice([2.0, 4.0, 8.0])
    if kind in ("llama3", "yarn"):
        out["original_max_position_embeddings"] = choice([16, 32])
    if kind == "llama3":
        out.update(low_freq_factor=1.0, high_freq_factor=choice([2.0, 4.0]))
    if kind == "yarn":
        out.update(choice([{}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"attention_factor": 0.8}, {"mscale": 1.0, "mscale_all_dim": 0.7}, {"truncate": False}]))
    if partial:
        out["partial_rotary_factor"] = partial
    return out


def by_layer_type(choice):
    """Most often as published: sliding layers turn by the default, some with another base."""
    full = rope(choice, kinds=KINDS + ["yarn", "yarn"])
    sliding = {"rope_type": "default", "rope_theta": choice([full["rope_theta"], 100.0])}
    sliding = choice([sliding, sliding, sliding, rope(choice)])
    for each in (full, sliding):
        each.pop("truncate", None)  # transformers does not look for it there
    return {"full_attention": full, "sliding_attention": sliding}


def config_of(family, seed):
    choice = random.Random(f"{family} {seed}").choice
    common = dict(vocab_size=37, initializer_range=0.2, bos_token_id=1, eos_token_id=2)
    if family == "gpt2":
        return transformers.GPT2Config(n_embd=16, n_inner=choice([None, 40]), n_layer=3, n_head=choice([1, 2, 4]), n_positions=CONTEXT,
                                       activation_function=choice(["gelu_new", "gelu", "relu"]), scale_attn_weights=choice([True, True, False]),
                                       scale_attn_by_inverse_layer_idx=choice([False, True]), tie_word_embeddings=choice([True, True, False]),
                                       reorder_and_upcast_attn=False, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **common)
    common.update(hidden_size=16, intermediate_size=choice([24, 40]), num_hidden_layers=3, max_position_embeddings=CONTEXT)
    if family == "gpt_neox":
        return transformers.GPTNeoXConfig(num_attention_heads=choice([1, 2]), hidden_act=choice(["gelu", "gelu_fast", "relu"]),
                                          use_parallel_residual=choice([True, False]), attention_bias=choice([True, True, False]),
                                          tie_word_embeddings=choice([False, True]), layer_norm_eps=1e-5,
                                          rope_parameters=rope(choice, partial=choice([0.5, 0.75, 1.0])), **common)
    common.update(num_attention_heads=4, num_key_value_heads=choice([1, 2, 4]), tie_word_embeddings=choice([True, False]), rms_norm_eps=choice([1e-6, 1e-5]),
                  rope_parameters=rope(choice))
    window = choice([None, 7, 200])
    if family == "gemma2":
        return transformers.Gemma2Config(head_dim=choice([4, 8, 10]), hidden_activation=choice(["gelu_pytorch_tanh", "silu"]), query_pre_attn_scalar=choice([4, 10, 16]),
                                         attn_logit_softcapping=choice([None, 2.0, 50.0]), final_logit_softcapping=choice([None, 3.0, 30.0]),
                                         sliding_window=window or 4096, attention_bias=choice([False, True]), **common)
    if family == "gemma3":
        window = choice([7, 7, 200])
        common.update(rope_parameters=by_layer_type(choice))
        common.update(hidden_activation=choice(["gelu_pytorch_tanh", "silu"]),
                      query_pre_attn_scalar=choice([4, 10, 16]),
                      final_logit_softcapping=choice([None, None, 3.0]))
        return transformers.Gemma3TextConfig(head_dim=choice([4, 8, 10]), sliding_window=window,
                                             sliding_window_pattern=choice([2, 3, 2, 3, 6]),
                                             attention_bias=choice([False, True]), **common)
    common.update(hidden_act=choice(ACTIVATIONS))
    if family.startswith("olmo"):
        common.update(attention_bias=choice([True, False]), **choice([{}, {"head_dim": 6}]))
        if family == "olmo2":
            return transformers.Olmo2Config(**common)
        types = choice([None, MIXED])  # every fourth is full where nothing is said
        common.update(rope_parameters=by_layer_type(choice), layer_types=types,
                      num_hidden_layers=3 if types else 4)
        return transformers.Olmo3Config(sliding_window=choice([7, 7, 200]), **common)
    if family == "llama":
        return transformers.LlamaConfig(head_dim=choice([None, 4, 6, 8]), attention_bias=choice([True, False]), mlp_bias=choice([True, False]), **common)
    if family == "mistral":
        return transformers.MistralConfig(head_dim=choice([None, 6, 8]), sliding_window=window, **common)
    sliding = dict(use_sliding_window=window is not None, sliding_window=window or 4096, max_window_layers=choice([0, 1, 2]))
    if family == "qwen2":
        return transformers.Qwen2Config(**sliding, **common)
    return transformers.Qwen3Config(head_dim=choice([4, 8, 10]), attention_bias=choice([True, False]), **sliding, **common)


FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "gemma2", "gemma3", "olmo2",
            "olmo3"]
ATTENTION = {"gpt2": ["attn.c_attn"], "gpt_neox": ["query_key_value"]}
MLP = {"gpt2": ["c_fc", "mlp.c_proj"], "gpt_neox": ["dense_h_to_4h"]}


def write_as_older(folder):
    """config.json as older releases of transformers wrote it: rope_theta and rope_scaling at the top level."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    parameters = config.pop("rope_parameters", None)
    if parameters and "full_attention" in parameters:
        sliding = parameters["sliding_attention"]
        parameters = parameters["full_attention"]
        gemma = config["model_type"] == "gemma3_text"
        other = sliding["rope_theta"] != parameters["rope_theta"]
        if sliding["rope_type"] != "default" or not gemma and other:
            return  # what older releases could not say
        if gemma:
            config["rope_local_base_freq"] = sliding["rope_theta"]
            config["sliding_window_pattern"] = config.pop("_sliding_window_pattern")
            config.pop("layer_types")
    if parameters:
        partial = parameters.pop("partial_rotary_factor", None)
        theta, kind = parameters.pop("rope_theta"), parameters.pop("rope_type")
        neox = config["model_type"] == "gpt_neox"
        config["rotary_emb_base" if neox else "rope_theta"] = theta
        if neox:
            config["rotary_pct"] = partial
        elif partial:
            config["partial_rotary_factor"] = partial
        config["rope_scaling"] = None if kind == "default" else {"type": kind, **parameters}
    file.write_text(json.dumps(config, indent=2) + "\n")


GENERIC = {"torch_dtype": "bfloat16", "_num_labels": 2, "torchscript": False, "pruned_heads": {},
           "tie_encoder_decoder": False, "is_decoder": False, "cross_attention_hidden_size": None,
           "do_sample": True, "temperature": 0.7, "max_length": 20, "bad_words_ids": None,
           "output_scores": False, "tokenizer_class": "PreTrainedTokenizerFast",
           "_name_or_path": "somewhere"}
UNSLOTH = {"unsloth_fixed": True, "unsloth_version": "2025.1"}
NANOTRON = {"is_llama_config": True, "rope_interleaved": False,
            "transformers.js_config": {"dtype": "q4", "kv_cache_dtype": {"q4f16": "float16"}}}
OTHER = {"quantization_config": None, "pretraining_tp": 2, "use_flash_attention_2": True,
         "use_mrope": False, "clip_qkv": None}


def write_as_published(folder, choice):
    """What published files hold beside the model: generic settings, marks of tools, nulls, and
    older names beside newer ones."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for more in ([{}, GENERIC], [{}, UNSLOTH, NANOTRON], [{}, OTHER]):
        config.update(choice(more))
    twice = choice([True, False])
    if twice and "rotary_pct" in config:
        config["partial_rotary_factor"] = config["rotary_pct"]
        config["rope_theta"] = config["rotary_emb_base"]
    if twice and (parameters := config.get("rope_parameters")):
        config["rope_scaling"] = parameters.get("full_attention", parameters)
        config["rope_theta"] = config["rope_scaling"]["rope_theta"]
    file.write_text(json.dumps(config, indent=2) + "\n")


def randomise(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases that do something
                parameter.add_(torch.randn_like(parameter) * 0.2)


def supervised_loss(model, ids):
    logits = model(ids).logits
    return logits, torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


def smooth_ids(model):
    """Texts at which no ReLU is so near its kink that rounding decides on which side of it: there the gradient has no one value."""
    nearest = []
    hooks = [m.register_forward_hook(lambda _, inputs, __: nearest.append(inputs[0].abs().min().item())) for m in model.modules() if isinstance(m, torch.nn.ReLU)]
    while True:
        ids = torch.randint(3, 37, (2, 33))
        nearest.clear()
        model(ids)
        if min(nearest, default=1) > 1e-5:
            break
    for hook in hooks:
        hook.remove()
    return ids


def exactly(model, ids):
    """The model in float64 with its gradients, its logits and loss, and by how much its float32 gradients are off: some of these models magnify rounding."""
    exact = copy.deepcopy(model).double()
    logits, loss = supervised_loss(exact, ids)
    loss.backward()
    model.zero_grad()
    supervised_loss(model, ids)[1].backward()
    rounding = max(((p.grad - q.grad).abs().max() / q.grad.abs().max().clamp_min(1e-8)).item() for p, q in zip(model.parameters(), exact.parameters()) if p.grad is not None)
    return exact, logits.detach(), loss.detach(), torch.tensor([rounding])


def save(tensors, file):
    save_file({k: (v.float() if v.is_floating_point() else v).contiguous() for k, v in tensors.items()}, file)


def make(folder, family, seed):
    choice = random.Random(f"{family} {seed} rest").choice
    torch.manual_seed(seed)
    config = config_of(family, seed)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(model)
    model.save_pretrained(folder, max_shard_size=choice(["5GB", "8KB"]))
    if choice([True, False]):
        write_as_older(folder)
    write_as_published(folder, random.Random(f"{family} {seed} published").choice)
    ids = smooth_ids(model)
    exact, logits, loss, rounding = exactly(model, ids)
    out = {"input_ids": ids, "logits": logits, "loss": loss[None], "rounding": rounding}
    for key, parameter in exact.named_parameters():
        stored = "embed_out.weight" if family == "gpt_neox" and key == "lm_head.weight" else key  # as its files have it
        out["grad." + stored] = parameter.grad.clone()
    with torch.no_grad():
        out["generated"] = model.generate(ids[:, :9], max_new_tokens=64, min_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
    save(out, folder / "expected.safetensors")

    targets = choice([ATTENTION, MLP]).get(family, choice([["q_proj", "down_proj"], ["k_proj", "o_proj", "up_proj"]]))
    targets = choice([targets, "all-linear", targets[0]])
    if isinstance(targets, str) and targets != "all-linear":
        targets = r".*\.1\..*" + targets.replace(".", r"\.")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=choice([1, 3]), lora_alpha=choice([4, 8]), use_rslora=choice([True, False]), use_dora=choice([True, False]),
                                                         target_modules=targets, fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM")).eval()
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.3)
            if "magnitude" in key:
                parameter.mul_(1 + 0.2 * torch.randn_like(parameter))
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    file = folder / "adapter" / "adapter_config.json"
    settings = json.loads(file.read_text())
    settings["base_model_name_or_path"] = folder.name  # not this machine's path
    if isinstance(settings["target_modules"], list):
        settings["target_modules"].sort()
    file.write_text(json.dumps(settings, indent=2) + "\n")
    ids = smooth_ids(adapted)
    exact, logits, loss, rounding = exactly(adapted, ids)
    out = {"input_ids": ids, "logits": logits, "rounding": rounding}
    for key, parameter in exact.named_parameters():
        if "lora_" in key:
            key = key.removeprefix("base_model.model.").replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
            out["grad." + key] = parameter.grad.clone()
    save(out, folder / "adapter.safetensors")


def check_merged(inoculum):
    """Both sides are read by Transformers, which of some older keys of a configuration makes something else than
    when it was made (Olmo 3's `rope_scaling.type`)."""
    read = {"dtype": torch.float32, "attn_implementation": "eager"}
    for folder in sorted((pathlib.Path(__file__).parent.parent / "golden" / "families").iterdir()):
        with tempfile.TemporaryDirectory() as out:
            command = [inoculum, "model", "merge", folder, "--adapter", folder / "adapter", "--output", out + "/merged", "--dtype", "fp32"]
            subprocess.run(command, check=True, capture_output=True)
            merged = transformers.AutoModelForCausalLM.from_pretrained(out + "/merged", **read).eval()
            base = transformers.AutoModelForCausalLM.from_pretrained(folder, **read).eval()
            adapted = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
            ids = load_file(folder / "adapter.safetensors")["input_ids"]
            with torch.no_grad():
                want = adapted(ids).logits
                off = (merged(ids).logits - want).abs().max() / want.abs().max()
        assert off < 1e-4, f"{folder.name}: {off:.1e}"
    print("merged models load in transformers, with the logits of PEFT's adapters")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    if sys.argv[1] == "--merged":
        check_merged(sys.argv[2])
        sys.exit()
    for name in sys.argv[3:] or FAMILIES:
        for number in range(int(sys.argv[2])):
            target = pathlib.Path(sys.argv[1]) / f"{name}_{number}"
            target.mkdir(parents=True)
            make(target, name, number)
