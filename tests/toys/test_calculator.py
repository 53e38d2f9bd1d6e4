"""The calculator, and what any task that replies promises."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems import MAX_TURNS, Completion, ModelTurn, MultiTurnTask, Problem, max_turns, reply_to
from longjing.tasks.linter import check
from longjing.tasks.mixture import Mixture

TASK: Any = tasks.get("calculator")
PROBLEM: Problem = next(TASK.problems("train", 0))


def completion_of(*texts: str, cut: bool = False) -> Completion:
    """A conversation in which the task said `= 1` to all turns but the last."""
    turns = [ModelTurn(f"so</think>{text}", True, False, {"role": "user", "content": "= 1"}) for text in texts]
    turns[-1] = ModelTurn(turns[-1].text, True, cut)
    return Completion.of(turns)


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("<calc>1234*56-7</calc>", "= 69097"),
        ("It is <calc> 7 / 2 </calc>.", "= 7/2"),
        ("<calc>1/0</calc>", "error: division by zero"),
        ("<calc>__import__('os')</calc>", "error: not an expression at: \"__import__('os')\""),
        ("<calc>9**9</calc>", "error: a number was expected, not '*'"),
        ("<calc></calc>", "error: a number was expected, not 'the end'"),
        ("<calc>1</calc><calc>2</calc>", "error: one <calc>...</calc> at a time"),
        ("<calc>1+1</calc> \\boxed{2}", None),
        ("\\boxed{2}", None),
        ("<calc>1+1", None),
        ("", None),
    ],
)
def test_a_call_is_answered_with_its_value_or_what_is_wrong(text: str, reply: str | None) -> None:
    assert TASK.reply(PROBLEM, completion_of(text)) == reply


def test_calls_count_in_the_answer_only() -> None:
    assert TASK.reply(PROBLEM, Completion.parse("<calc>1+1</calc>")) is None


@given(st.text(max_size=60) | st.text("0123456789+-*/() ", max_size=700))
def test_no_call_breaks_it(text: str) -> None:
    reply = TASK.reply(PROBLEM, completion_of(f"<calc>{text}</calc>"))
    assert reply is None or (reply[:2] in ("= ", "er") and len(reply) < 2_000)


def test_the_last_turn_is_judged_and_all_must_keep_the_form() -> None:
    right = f"\\boxed{{{PROBLEM.answer}}}"
    assert TASK.judge(PROBLEM, completion_of("<calc>1</calc>", right)).rewards == {"accuracy": 1.0, "format": 1.0}
    sloppy = [
        ModelTurn("<calc>1</calc>", True, False, {"role": "user", "content": "= 1"}),
        ModelTurn(f"so</think>{right}", True, False),
    ]
    assert TASK.judge(PROBLEM, Completion.of(sloppy)).rewards == {"accuracy": 1.0, "format": 0.0}
    assert TASK.judge(PROBLEM, completion_of(right, "<calc>1</calc>")).outcome == "wrong"
    assert (
        completion_of("a", "b").all_reasoning == "so\n\nso" and completion_of("a", "b").earlier[0].text == "so</think>a"
    )


def test_turns_are_bounded() -> None:
    call = "<calc>1+1</calc>"
    assert isinstance(TASK, MultiTurnTask) and max_turns(TASK) == 4
    assert reply_to(TASK, PROBLEM, completion_of(call)) == {"role": "user", "content": "= 2"}
    assert reply_to(TASK, PROBLEM, completion_of(*[call] * 3)) is not None
    assert reply_to(TASK, PROBLEM, completion_of(*[call] * 4)) is None
    assert reply_to(TASK, PROBLEM, completion_of(call, cut=True)) is None, "nobody knows what would have come"
    arithmetic = tasks.get("arithmetic")
    assert max_turns(arithmetic) == 1 and reply_to(arithmetic, PROBLEM, completion_of(call)) is None


def test_a_task_that_does_not_say_gets_eight_turns() -> None:
    class Chatty:
        def reply(self, problem: Problem, completion: Completion) -> dict[str, str]:
            return {"role": "tool", "content": "yes"}

    assert max_turns(Chatty()) == MAX_TURNS == 8
    assert reply_to(Chatty(), PROBLEM, completion_of("x")) == {"role": "tool", "content": "yes"}


def test_the_task_in_the_documentation_keeps_its_promises() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text("utf-8")
    namespace: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[-1], namespace)
    guess = namespace["Guess"]()
    assert check(guess, 20).ok and max_turns(guess) == 12
    problem = next(guess.problems("test", 0))
    replies = [reply_to(guess, problem, completion_of(f"\\boxed{{{n}}}")) for n in ("-1", "1000", problem.answer)]
    assert [reply and reply["content"] for reply in replies] == ["Write a number in \\boxed{}.", "lower", None]


def test_a_mixture_lets_its_parts_reply() -> None:
    mixture = Mixture([(TASK, 1.0), (tasks.get("arithmetic"), 1.0)])
    assert max_turns(mixture) == 4 and max_turns(Mixture([(tasks.get("arithmetic"), 1.0)])) == 1
    other = next(tasks.get("arithmetic").problems("train", 0))
    assert reply_to(mixture, PROBLEM, completion_of("<calc>2*3</calc>")) == {"role": "user", "content": "= 6"}
    assert reply_to(mixture, other, completion_of("<calc>2*3</calc>")) is None
