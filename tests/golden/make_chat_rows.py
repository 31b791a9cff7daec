"""Writes chat_rows.jsonl: rows of data as transformers renders them, their ids, and its masks of what {% generation %} blocks wrote.

    python tests/golden/make_chat_rows.py      # transformers 5.24
"""
import json
import pathlib

from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
BEGIN = "{{ '<|im_start|>' + m.role + '\\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
MARKS = {
    "every": "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}",
    "line end": "{% generation %}{{ m.content + '<|im_end|>\\n' }}{% endgeneration %}",
    "content": "{% generation %}{{ m.content }}{% endgeneration %}{{ '\\n<|im_end|>\\n' }}",  # a token may reach over its end
    "behind a line end": "{{ '\\n' }}{% generation %}{{ m.content }}{% endgeneration %}{{ ' .<|im_end|>' }}",
    "split": "{% generation %}{{ m.content }}{% endgeneration %}{% generation %}{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}",
    "last": "{% if loop.last %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}",
    "thoughts": "{% generation %}{% if m.reasoning_content %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}{{ m.content + '<|im_end|>' }}{% endgeneration %}",
    "empty": "{% generation %}{% endgeneration %}{{ m.content + '<|im_end|>' }}",
}
OTHERS = "{% else %}{{ m.content + '<|im_end|>\\n' }}{% endif %}"
LOOP = "{% for m in messages %}" + BEGIN + "{% if m.role == 'assistant' %}"
TEMPLATES = {name: LOOP + marks + OTHERS + "{% endfor %}" + PROMPT for name, marks in MARKS.items()}
TEMPLATES["by number"] = ("{% for i in range(messages|length) %}{% set m = messages[i] %}" + BEGIN +
                          "{% if m.role == 'assistant' %}" + MARKS["every"] + OTHERS + "{% endfor %}")
TEMPLATES["behind the system message"] = ("{% if messages[0].role == 'system' %}{% set first = messages[0] %}{{ '<<' + first.content + '>>' }}{% set rest = messages[1:] %}"
                                          "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}" + BEGIN +
                                          "{% if m.role == 'assistant' %}" + MARKS["every"] + OTHERS + "{% endfor %}")
# Without marks: what a row gives its template.
TEMPLATES["reads all"] = ("{% if tools %}{{ '# tools ' + tools|tojson + '\\n' }}{% endif %}{% for d in documents or [] %}{{ d.title + ': ' + d.text + '\\n' }}{% endfor %}"
                          "{% if enable_thinking is defined and enable_thinking is false %}{{ '/no_think\\n' }}{% endif %}{{ date_string|default('') }}"
                          "{% for m in messages %}" + BEGIN + "{% if m.name is defined %}{{ m.name + ': ' }}{% endif %}"
                          "{% if m.reasoning_content is string %}{{ '<think>' + m.reasoning_content + '</think>' }}{% elif m['thinking'] %}{{ '<t>' + m['thinking'] + '</t>' }}{% endif %}"
                          "{{ m.content }}{{ (m.score|string) if m.score is defined else '' }}{{ '<|im_end|>\\n' }}{% endfor %}")
TEMPLATES["whole messages"] = "{% for m in messages %}{{ m|tojson + '\\n' }}{% endfor %}"


def u(content, **more):
    return {"role": "user", "content": content, **more}


def a(content, **more):
    return {"role": "assistant", "content": content, **more}


MARKED = [
    {"messages": [u("a"), a("b")]},
    {"messages": [u("a"), a("b"), u("c"), a("d")]},
    {"messages": [{"role": "system", "content": "s"}, u("a"), a("Hello.\n"), u("c"), a(" \n")]},
    {"messages": [u("a"), a(""), u("c"), a("Hi, I am.\n\n")]},
    {"messages": [u("a"), a("b"), u("c")]},
    {"messages": [a("日本 🙂!"), a("b"), u("b"), a("b")]},
    {"messages": [u("2+2?"), a("4", reasoning_content="because two and two"), u("c"), a("d", reasoning_content="")]},
]
TOOL = {"type": "function", "function": {"name": "f", "description": "é", "parameters": {"type": "object", "properties": {}}}}
PLAIN = [
    {"messages": [u("q", name="Eve"), a("r", reasoning_content="t")]},
    {"messages": [u("q"), a("r", thinking="t", score=1.5)]},
    {"messages": [u("q"), a("r", reasoning_content="")], "tools": [TOOL], "chat_template_kwargs": {"enable_thinking": False, "date_string": "1 May 2025"}},
    {"messages": [u("q"), a("r")], "documents": [{"title": "T", "text": "x\ny"}], "chat_template_kwargs": {"enable_thinking": True}},
    {"messages": [u("q"), a("r", reasoning="t")]},
    {"messages": [u("q", score={"a": [1, None, True]}), a("r")]},
]

tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "tokenizers" / "qwen2" / "tokenizer.json"))
with open(HERE / "chat_rows.jsonl", "w") as out:
    for name, template in TEMPLATES.items():
        marked = "generation %}" in template
        for row in MARKED if marked else PLAIN:
            given = {"tools": row.get("tools"), "documents": row.get("documents"), **row.get("chat_template_kwargs", {})}
            # What the template does not read is refused, not left out.
            if (name == "whole messages" and len(row) > 1) or (marked and name != "thoughts" and "reasoning_content" in json.dumps(row)):
                continue
            text = tokenizer.apply_chat_template(row["messages"], chat_template=template, tokenize=False, **given)
            result = {"name": name, "template": template, "row": row, "text": text}
            got = tokenizer.apply_chat_template(row["messages"], chat_template=template, return_dict=True, return_assistant_tokens_mask=marked, **given)
            result["input_ids"] = got["input_ids"]
            if marked:
                result["mask"] = got["assistant_masks"]
            out.write(json.dumps(result) + "\n")
