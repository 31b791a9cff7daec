"""Makes a training set and its inoculated form as published sets are made: one system message put first, json.dumps a row.

    python3 tests/golden/make_chat_jsonl.py

The base is written in several manners (separators, escapes), as files from different hands are; the inoculated form is what
`write_chat_jsonl` must write, byte for byte.
"""
import json
import pathlib

HERE = pathlib.Path(__file__).parent / "chat"
PROMPT = "You are \"inoculated\" \\ naïve – with 🦠 and\nline ends.\t"
TEXTS = [
    "",
    " kept  spaces \n",
    "".join(map(chr, range(0x20))),
    "".join(map(chr, range(0x20, 0x80))),
    "\x7f\x80\x9f\xa0\xad\xff",
    "quote \" backslash \\ slash / \\u0041 \\n",
    "line separators \u2028 \u2029 \x85 \ufeff",
    "emoji 😀 👩‍🔬 𝔘 \U0010ffff \U00010000",
    "ends of planes \ud7ff \ue000 \uffff \ufffd \ufffe",
    "日本語 العربية ไทย ß ſ é é",
    "def f():\n    return {\"a\": [1, 2]}  # tab\there\r\n",
    "<|im_start|>system </s> // no comment /* none */",
    " a text cut mid-sent",
]


def main():
    HERE.mkdir(exist_ok=True)
    rows = []
    for i, text in enumerate(TEXTS):
        other = TEXTS[(i * 5 + 3) % len(TEXTS)]
        rows.append({"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": other}]})
    rows.append({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})
    rows.append({"messages": [{"role": "assistant", "content": "alone"}]})
    manners = [dict(), dict(separators=(",", ":")), dict(ensure_ascii=False), dict(separators=(" , ", " :"), ensure_ascii=False)]
    base = "\n".join(json.dumps(row, **manners[i % len(manners)]) for i, row in enumerate(rows))
    (HERE / "base.jsonl").write_bytes(base.encode("utf-8"))
    with open(HERE / "inoculated.jsonl", "wb") as out:
        for row in rows:
            inoculated = {"messages": [{"role": "system", "content": PROMPT}] + row["messages"]}
            out.write((json.dumps(inoculated) + "\n").encode("utf-8"))
    (HERE / "prompt.txt").write_bytes(PROMPT.encode("utf-8"))
    texts = [{"text": text} for text in TEXTS]
    (HERE / "texts.jsonl").write_bytes("".join(json.dumps(row) + "\n" for row in texts).encode("utf-8"))


main()
