"""A tiny random Qwen2 with a real tokenizer, made without torch.

    python3 tests/integration/tiny_model.py FOLDER [VOCABULARY]
"""
import json
import pathlib
import random
import shutil
import struct
import sys

folder = pathlib.Path(sys.argv[1])
vocabulary = int(sys.argv[2]) if len(sys.argv) > 2 else 1024
folder.mkdir(parents=True)
tokenizer = pathlib.Path(__file__).parent.parent / "golden" / "tokenizers" / "qwen2"
shutil.copy(tokenizer / "tokenizer.json", folder)
CHAT = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
(folder / "tokenizer_config.json").write_text(json.dumps(
    {"eos_token": "<|im_end|>", "bos_token": None, "chat_template": CHAT}))
(folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1002, 1000]}))
config = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "torch_dtype": "float32",
    "vocab_size": vocabulary, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu",
    "use_sliding_window": False, "max_window_layers": 2, "sliding_window": 4096}
(folder / "config.json").write_text(json.dumps(config))
shapes = {"model.embed_tokens.weight": (vocabulary, 32), "model.norm.weight": (32,)}
for i in range(2):
    layer = f"model.layers.{i}."
    for name, out, inside in [
            ("self_attn.q_proj", 32, 32), ("self_attn.k_proj", 16, 32),
            ("self_attn.v_proj", 16, 32), ("self_attn.o_proj", 32, 32),
            ("mlp.gate_proj", 48, 32), ("mlp.up_proj", 48, 32), ("mlp.down_proj", 32, 48)]:
        shapes[layer + name + ".weight"] = (out, inside)
        if name.split(".")[1][0] in "qkv":
            shapes[layer + name + ".bias"] = (out,)
    for name in ("input_layernorm", "post_attention_layernorm"):
        shapes[layer + name + ".weight"] = (32,)
draw, header, data = random.Random(1), {"__metadata__": {"format": "pt"}}, b""
for name, shape in shapes.items():
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    values = [1.0 if "norm" in name else draw.gauss(0, 0.1) for _ in range(count)]
    raw = struct.pack(f"<{count}f", *values)
    header[name] = {"dtype": "F32", "shape": list(shape),
                    "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps(header).encode()
(folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
