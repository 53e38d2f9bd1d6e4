"""What a model that wasn't trained here is told of the form, and that others are told nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from longjing import tasks
from longjing.errors import UserError
from longjing.evaluation import evaluate
from longjing.evaluation.instructions import asked, hint, instruction, knows_thinking
from longjing.generation.native import Engine
from longjing.problems import Problem
from longjing.runs.resolve import resolve, shipped
from longjing.text.tokenizer import Tokenizer

CHATML = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
BOX = "Put the final answer in \\boxed{}."


def foreign(directory: Path, template: str = CHATML) -> Tokenizer:
    """The tokenizer of a model that somebody else taught to talk."""
    tiny.tokenizer().save(directory)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    return Tokenizer.from_directory(directory)


def first(task: Any) -> Problem:
    return next(task.problems("test", 0))


@pytest.mark.parametrize("model", shipped())
def test_the_prompts_of_shipped_models_stay_as_they_are(model: str) -> None:
    tokenizer = Tokenizer.from_directory(resolve(model))
    assert tokenizer.is_own and knows_thinking(tokenizer)
    for name in tasks.names():
        problem = first(task := tasks.get(name))
        assert asked(problem, instruction(tokenizer, task, problem, tags=True)) == problem.prompt


def test_others_are_told_what_is_judged(tmp_path: Path) -> None:
    tokenizer = foreign(tmp_path)
    task = tasks.get("arithmetic", language="en")
    problem = first(task)
    assert not tokenizer.is_own
    assert asked(problem, instruction(tokenizer, task, problem)) == f"{problem.prompt}\n\n{BOX}"
    told = instruction(tokenizer, task, problem, tags=True)
    assert "<think> and </think>" in told and "\\boxed{}" in told
    chinese = tasks.get("arithmetic", language="zh")
    assert "\\boxed{}" in instruction(tokenizer, chinese, first(chinese)) and not told.isspace()
    assert instruction(tokenizer, task, problem, given="") == ""
    assert instruction(tokenizer, task, problem, given="Be brief.") == "Be brief."
    mixture = tasks.get("mixture", parts=[{"name": "arithmetic", "language": "en"}, {"name": "conversation"}])
    assert instruction(tokenizer, mixture, problem) == BOX
    assert instruction(tokenizer, mixture, first(tasks.get("conversation"))) == ""


def test_nobody_is_told_twice(tmp_path: Path) -> None:
    tokenizer = foreign(tmp_path)
    boxed = tasks.get("arithmetic", language="en", template="{prompt} Box it: \\boxed{...}")
    assert instruction(tokenizer, boxed, first(boxed)) == "" and first(boxed).prompt.endswith("Box it: \\boxed{...}")
    thinks = foreign(tmp_path, CHATML + "{% if add_generation_prompt %}<think>\n{% endif %}")
    task = tasks.get("arithmetic", language="en")
    assert instruction(thinks, task, first(task), tags=True) == BOX, "its template opens the tags itself"


@pytest.mark.parametrize(("verifier", "told"), [("math", BOX), ("json", ""), ({"exact": {"final": "text"}}, "")])
def test_a_list_is_told_what_its_verifier_reads(tmp_path: Path, verifier: Any, told: str) -> None:
    tokenizer = foreign(tmp_path)
    file = tmp_path / "problems.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{n}+1?", "answer": f"{n + 1}"}) + "\n" for n in range(60)))
    task = tasks.get(str(file), verifier=verifier)
    assert instruction(tokenizer, task, first(task)) == told


def test_a_template_changes_no_problem_but_its_words() -> None:
    plain, framed = tasks.get("equations"), tasks.get("equations", template="Solve: {prompt}")
    assert "template" not in plain.settings and framed.settings["template"] == "Solve: {prompt}"
    for _, one, other in zip(range(20), plain.problems("train", 3), framed.problems("train", 3), strict=False):
        assert (one.id, one.answer, f"Solve: {one.prompt}") == (other.id, other.answer, other.prompt)
    with pytest.raises(UserError, match="template.*gap"):
        tasks.get("equations", template="Solve it.")


def test_an_evaluation_says_what_was_told(tmp_path: Path) -> None:
    own, other = tiny.tokenizer(), foreign(tmp_path)
    settings: dict[str, Any] = {"problems": 2, "samples": 2, "max_tokens": 8}
    task = tasks.get("arithmetic", language="en")
    model = tiny.network("llama")
    told = evaluate(Engine(model, other), other, task, **settings)
    assert told.sampling["instruction"] == BOX and told.records[0].prompt == first(task).prompt
    quiet = evaluate(Engine(model, own), own, task, **settings)
    assert "instruction" not in quiet.sampling and "tags" not in quiet.sampling
    assert evaluate(Engine(model, other), other, task, **settings, instruction="").prompt_tokens < told.prompt_tokens


def test_a_hint_is_given_where_a_box_is_looked_for() -> None:
    task = tasks.get("arithmetic")
    assert hint(task, first(task), 0.1) is None
    assert "90% of the answers hold no \\boxed{}" in (hint(task, first(task), 0.9) or "")
    talk = tasks.get("conversation")
    assert hint(talk, first(talk), 1.0) is None
