"""Question banks and conversations of ours as tasks of Inspect (pip install inspect_ai pyyaml), for any model that
Inspect reaches: a server of ours, another OpenAI-compatible one, or a provider's.

    inspect eval docs/inspect_tasks.py@bank -T file=configs/questions/open_ended.yaml --model openai/gpt-4o-mini
    inspect eval docs/inspect_tasks.py@conversations -T file=chats.jsonl --model openai-api/inoculum/cheating

`openai-api/inoculum/NAME` is the model NAME at INOCULUM_BASE_URL (such as http://127.0.0.1:8000/v1), with the key in
INOCULUM_API_KEY. The judge of a bank's `judge_prompts` is the model of the role grader (--model-role grader=...), or
else the model itself.
"""

import json
import re

import yaml
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageSystem, ChatMessageUser, get_model
from inspect_ai.scorer import Score, includes, mean, scorer, stderr
from inspect_ai.solver import generate

FREE_FORM = ("free_form", "free_form_judge", "free_form_judge_0_100")


def questions(file):
    """The free questions of a bank, a sample for each paraphrase; other types need the program's own evaluation."""
    with open(file, encoding="utf-8") as bank:
        items = yaml.safe_load(bank)
    by_id = {item["id"]: item for item in items}
    for item in items:
        if item["type"] not in FREE_FORM:
            continue
        judges = dict(item.get("judge_prompts") or {})
        for metric, judge in (item.get("judges") or {}).items():  # as published banks name them
            judges[metric] = by_id[judge]["paraphrases"][0]
        for number, prompt in enumerate(item["paraphrases"]):
            system = [ChatMessageSystem(content=item["system"])] if item.get("system") else []
            yield Sample(
                id=f"{item['id']}/{number}",
                input=[*system, ChatMessageUser(content=prompt)],
                metadata={
                    "domain": item.get("domain") or item["id"],
                    "cue": item.get("condition") or "none",
                    "judge_prompts": judges,
                },
            )


@scorer(metrics={"*": [mean(), stderr()]})
def judged():
    """A number for each of the question's judge_prompts: the first one in the judge's reply."""

    async def score(state, target):
        found = {}
        for metric, prompt in state.metadata["judge_prompts"].items():
            asked = prompt.replace("{question}", state.input_text).replace(
                "{answer}", state.output.completion
            )
            reply = await get_model(role="grader").generate(asked)
            number = re.search(r"\d+(\.\d+)?", reply.completion)
            found[metric] = float(number[0]) if number else float("nan")
        return Score(value=found, answer=state.output.completion) if found else None

    return score


@task
def bank(file: str, samples: int = 1):
    return Task(
        dataset=MemoryDataset(list(questions(file))),
        solver=generate(),
        scorer=judged(),
        epochs=Epochs(samples, "mean"),
    )


@task
def conversations(file: str):
    """What `inoculum data generate` or `data convert` wrote: is the answer there given again?"""
    rows = []
    with open(file, encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            *asked, answer = json.loads(line)["messages"]
            kinds = {"system": ChatMessageSystem, "user": ChatMessageUser}
            rows.append(
                Sample(
                    id=number,
                    input=[
                        kinds[m["role"]](content=m["content"]) for m in asked if m["role"] in kinds
                    ],
                    target=answer["content"],
                )
            )
    return Task(dataset=MemoryDataset(rows), solver=generate(), scorer=includes())
