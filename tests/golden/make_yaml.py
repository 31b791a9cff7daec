"""Writes yaml.jsonl: what PyYAML's safe_load reads, numbers and the like as the texts they are written in.

    python tests/golden/make_yaml.py      # PyYAML 6.0
"""
import json
import pathlib

import yaml


class Texts(yaml.SafeLoader):  # without the types that PyYAML gives to plain texts, but with its checks
    def construct_object(self, node, deep=False):
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in self.yaml_constructors:
                raise yaml.constructor.ConstructorError(None, None, "unknown tag " + node.tag, node.start_mark)
            return None if node.tag.endswith(":null") and node.value in ("", "~", "null", "Null", "NULL") else node.value
        return super().construct_object(node, deep)


D = "- &f {a: 1, b: 2}\n- &g {b: 5, c: 1}\n"
CASES = [
    "", "# c\n", "a: 1", "---\na: 1\n", "---\na: 1\n...\n", "a: 1\n...\n# c\n", "a: 1\n# c\n", "\ufeffa: 1\n",
    "a: 1\r\nb: 2\r\n", "%YAML 1.1\n---\na: 1\n", "a: !!str 1\n", "a: &x b\nc: *x\n",
    "a: b # c\n", "a: b#c\n", "a: 'b # c'\n", "a: 'it''s'\n", "a: \"\\u00e9\\n\\x41\"\n", "a: |\n  x\n   y\n", "a: |-\n  x\n",
    "a: |+\n  x\n\n", "a: >\n  x\n  y\n", "a: b\n  c\n", "a: null\nb: ~\nc:\n", "a: [1, [2, {b: 3}]]\n", "a: yes\nb: 010\nc: 1:30\n",
    "a: &d {x: 1}\nb: {<<: *d}\n", "a: {'<<': 3}\n", D + "- {<<: *f, b: 3}\n", D + "- {b: 3, <<: *f}\n", D + "- {<<: [*f, *g], c: 9}\n",
    D + "- {<<: [*g, *f]}\n", "- &f {a: 1}\n- &g {<<: *f, b: 2}\n- {<<: *g, c: 3}\n", "{<<: {<<: {a: 1}, b: 2}, c: 3}\n",
    "- &f {a: 1}\n- <<: *f\n  d: {<<: *f, e: 2}\n", "a: 'x: y'\n", "a: http://x\n", "- - a\n  - b\n- c\n",
    # refused
    "a: 1\n---\nb: 2\n", "a: 1\n---\n", "a: 1\n...\n---\n", "a: 1\n...\nb: 2\n", "{a: 1}\nb: 2\n", "{a: 1} b\n", "[a] b\n", "'a' b\n",
    "\"a\" b\n", "- a\nb: 1\n", "--- a\n--- b\n", "a: 'x\n", "a: \"x\nb: 1\n", "'x", "a: [1\n", "a: {b: 1\n", "a: 'b' c\n", "a: b: c\n",
    "a: @b\n", "a: `b\n", "a: *nope\n", "a: !hack b\n", "!hack it", "a: !!python/object:os.system x\n", "a: \"\\q\"\n", "a:\n\tb: 1\n",
    "a: | x\n", "a: > x\n", "[a, b]]\n", "}\n", "a: 1\n b: 2\n", "- {<<: 3}\n", "- {<<: [3]}\n", "? [a]\n: b\n", "{{a}}\n",
]

with open(pathlib.Path(__file__).parent / "yaml.jsonl", "w") as out:
    for text in CASES:
        row = {"yaml": text}
        try:
            row["value"] = yaml.load(text, Texts)
        except yaml.YAMLError as error:
            row["error"] = str(error).splitlines()[0]
        out.write(json.dumps(row) + "\n")
