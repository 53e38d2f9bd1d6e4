"""Rollouts: what was sampled is known from lengths, and what is sampled from its key."""

from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from longjing import tasks
from longjing.batching import by_length, in_order
from longjing.generation.multi_turn import MultiTurnRollout
from longjing.generation.request import Generation, Request
from longjing.learning.rollouts import REFLECTION, Group, draw_problems, judge_group, pad, reflections, sample_groups
from longjing.problems import Completion, Problem, Verdict
from longjing.text.tokenizer import Tokenizer

END = 1
CPU = torch.device("cpu")
# Tokens that are also the padding, the end token or both occur in prompts and completions.
ids = st.lists(st.integers(0, 5), min_size=1, max_size=9)


@st.composite
def generations(draw: st.DrawFn) -> Generation:
    prompt, tokens = draw(ids), draw(ids)
    ends = draw(st.booleans())
    tokens = [*tokens, END] if ends else tokens
    logprobs = [-(number + 1) / 7 for number in range(len(tokens))]
    routes = torch.arange((len(prompt) + len(tokens) - 1) * 6, dtype=torch.int16).view(-1, 3, 2)
    return Generation(prompt, tokens, logprobs, "stop" if ends else "length", "", routes)


@given(st.lists(generations(), min_size=1, max_size=5), st.sampled_from([0, END, 3, 77]))
def test_what_was_sampled_is_marked_with_its_end_token(rows: list[Generation], pad_token: int) -> None:
    """Whatever the padding is: position i is marked if the policy sampled token i + 1."""
    padded = pad(rows, pad_token, CPU)
    length = max(len(row.prompt) + len(row.tokens) for row in rows)
    assert padded.tokens.shape == (len(rows), length)
    assert padded.sampled.shape == padded.old_logprobs.shape == (len(rows), length - 1)
    for number, row in enumerate(rows):
        whole = [*row.prompt, *row.tokens]
        assert padded.tokens[number].tolist() == whole + [pad_token] * (length - len(whole))
        assert padded.tokens[number, 1:][padded.sampled[number]].tolist() == row.tokens
        assert padded.sampled[number].nonzero()[0].item() == len(row.prompt) - 1
        assert padded.old_logprobs[number][padded.sampled[number]].tolist() == pytest.approx(row.logprobs)
        assert (padded.old_logprobs[number][~padded.sampled[number]] == 0).all()
        assert padded.routes is not None and row.routes is not None
        assert torch.equal(padded.routes[number, : len(whole) - 1], row.routes.long())


def test_a_dense_model_has_no_routes() -> None:
    assert pad([Generation([1], [2], [-1.0], "stop")], 0, CPU).routes is None


@given(st.lists(st.integers(2, 49), min_size=1, max_size=40), st.integers(1, 120))
def test_microbatches_hold_everything_once_within_the_budget(sizes: list[int], budget: int) -> None:
    batches = by_length(sizes, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(sizes)))
    longest = [[sizes[index] for index in batch] for batch in batches]
    for lengths in longest:
        assert len(lengths) == 1 or len(lengths) * max(lengths) <= budget
    # Greedy: no row could have joined the microbatch before it.
    for before, after in zip(longest, longest[1:], strict=False):
        assert (len(before) + 1) * max(before) > budget and min(before) >= max(after)


@given(st.lists(st.integers(2, 49), max_size=40), st.integers(1, 120))
def test_batches_in_order_are_greedy_and_within_the_budget(sizes: list[int], budget: int) -> None:
    batches = in_order(sizes, int, budget)
    assert [size for batch in batches for size in batch] == sizes and all(batches)
    assert all(len(batch) == 1 or len(batch) * max(batch) <= budget for batch in batches)
    for before, after in pairwise(batches):
        assert (len(before) + 1) * max(*before, after[0]) > budget


def test_problems_depend_on_their_key_alone() -> None:
    task = tasks.get("countdown", difficulty=2)
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)]
    drawn = [draw_problems(task, 6, *key) for key in keys]
    assert [draw_problems(tasks.get("countdown", difficulty=2), 6, *key) for key in keys] == drawn
    assert draw_problems(task, 3, *keys[0]) == drawn[0][:3]
    ids = [problem.id for problems in drawn for problem in problems]
    assert len(set(ids)) == len(ids)
    held_out = {p.id for split in ("test", "validation") for p in islice(task.problems(split, 0), 300)}
    assert not held_out & set(ids)


class Echo:
    """A generator that remembers what it was asked, and answers with the seed."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def generate(self, requests: Any, on_step: Any = None) -> list[Generation]:
        self.requests += requests
        return [Generation(list(r.prompt), [r.sampling.seed % 290], [-1.0], "stop", "") for r in requests]


def test_every_sample_has_its_own_seed_and_its_problem() -> None:
    """A problem drawn twice in a step, at once or in a refill, gets new samples, not the same ones."""
    task = tasks.get("countdown", difficulty=2)
    first, second = draw_problems(task, 2, 0, 0, 0)
    ids, echo = tiny.tokenizer(), Echo()
    problems = [first, second, first]
    for step, turn in ((0, 0), (0, 1), (1, 0)):
        questions = [(task, problem) for problem in problems]
        groups = sample_groups(echo, ids, questions, 4, {"temperature": 0.7, "max_tokens": 5}, 3, step, turn)
        for problem, group in zip(problems, groups, strict=True):
            prompt = ids.encode_chat([{"role": "user", "content": problem.prompt}])
            assert [dialogue.generation.prompt for dialogue in group] == [prompt] * 4
    seeds = [request.sampling.seed for request in echo.requests]
    assert len(set(seeds)) == len(seeds) == 36
    assert {(r.sampling.temperature, r.sampling.top_p, r.sampling.top_k) for r in echo.requests} == {(0.7, 1.0, 0)}
    again = Echo()
    sample_groups(again, ids, [(task, first)], 4, {"temperature": 0.7, "max_tokens": 5}, 3, 0, 0)
    assert [request.sampling.seed for request in again.requests] == seeds[:4]


def rollout_of(text: str, reason: Any = "stop", ids: Tokenizer | None = None) -> MultiTurnRollout:
    return tiny.dialogue(Generation([0], [1], [-1.0], reason, text), ids)


@pytest.fixture
def problem() -> Problem:
    return next(tasks.get("countdown", difficulty=1).problems("train", 0))


def test_a_prefilled_opening_does_not_make_the_format_reward_a_constant(problem: Problem) -> None:
    """The prompt writes `<think>`, so the completion must not; all else of the format is up to it."""
    task = tasks.get("countdown", difficulty=1)
    box = f"\\boxed{{{task.solve(problem)}}}"
    cases = {
        f"so\n</think>\n\n{box}": (1.0, 1.0),
        "so\n</think>\n\n\\boxed{1}": (0.0, 1.0),  # wrong, but well-formed
        box: (0.0, 0.0),  # never closed
        f"</think>{box}": (1.0, 0.0),  # nothing was thought
        f"<think>so</think>{box}": (1.0, 0.0),  # opened twice
        f"so</think>{box}</think>": (1.0, 0.0),
        "": (0.0, 0.0),
    }
    group = judge_group(task, problem, [rollout_of(text) for text in cases])
    assert [(v.rewards["accuracy"], v.rewards["format"]) for v in group.verdicts] == list(cases.values())


def test_a_template_that_leaves_the_opening_to_the_model_is_judged_by_it(problem: Problem) -> None:
    """As R1-0528 does: there the completion has to open the reasoning itself."""
    task, ids = tasks.get("countdown", difficulty=1), tiny.tokenizer()
    template = ids._template.source  # type: ignore[union-attr]
    assert template.count("<think>\\n") >= 1
    unopened = Tokenizer(ids._backend, ids._config, template.replace("<think>\\n", ""), "unopened")
    box = f"\\boxed{{{task.solve(problem)}}}"
    texts = [f"<think>so</think>{box}", f"so</think>{box}"]
    group = judge_group(task, problem, [rollout_of(text, ids=unopened) for text in texts])
    assert [verdict.rewards["format"] for verdict in group.verdicts] == [1.0, 0.0]


def test_what_was_cut_off_earns_nothing_however_it_looks(problem: Problem) -> None:
    task = tasks.get("countdown", difficulty=1)
    text = f"so\n</think>\n\n\\boxed{{{task.solve(problem)}}}"
    group = judge_group(task, problem, [rollout_of(text), rollout_of(text, "length")])
    assert group.rewards({"accuracy": 1.0, "format": 1.0}) == [2.0, 0.0]
    assert [completion.truncated for completion in group.completions] == [False, True]


def test_format_does_not_pay_for_length(problem: Problem) -> None:
    """A long wrong answer earns what a short one does, and a right one earns more."""
    task = tasks.get("countdown", difficulty=1)
    texts = ["so</think>\\boxed{1}", "so " * 500 + "</think>\\boxed{1}", f"so</think>\\boxed{{{task.solve(problem)}}}"]
    group = judge_group(task, problem, [rollout_of(text) for text in texts])
    short, long, right = group.rewards({"accuracy": 1.0, "format": 1.0})
    assert short == long < right


def test_rewards_are_weighted_and_the_unjudged_are_told_apart(problem: Problem) -> None:
    verdicts = [
        Verdict("correct", {"accuracy": 1.0, "format": 1.0}, ""),
        Verdict("wrong", {"accuracy": 0.0, "format": 1.0}, ""),
        Verdict("unjudged", {"accuracy": 0.0, "format": 0.0}, ""),
    ]
    group = Group(problem, [rollout_of("")] * 3, [Completion.parse("")] * 3, verdicts)
    assert group.rewards({"accuracy": 2.0, "format": 0.25}) == [2.25, 0.25, 0]
    assert group.rewards({"accuracy": 2.0}) == [2.0, 0, 0]
    assert group.judged == [True, True, False]
    assert replace(group, verdicts=verdicts[:1]).judged == [True]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("Wait, wait. Let me check: WAIT!", 4),
        ("waiter, checked, butter, errors, rewrong", 0),
        ("a mistake; however, but retry (error) verify wrong evaluate", 8),
        ("等等，错了。等等！检查一下", 4),
        ("等一等，不对", 0),
        ("Wait等等wait", 3),
        ("但是but", 2),
    ],
)
def test_reflection_words_are_counted_whole_and_in_any_case(text: str, count: int) -> None:
    assert reflections(text) == count


@given(st.lists(st.sampled_from([*REFLECTION, "so", "waits", "好", "对"]), max_size=12))
def test_reflections_add_up(words: list[str]) -> None:
    assert reflections(" ".join(words)) == sum(word in REFLECTION for word in words)
