"""Pass rates of a model: measured once, kept, and what the band lets through."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, completion
from hypothesis import given
from hypothesis import strategies as st
from tiny import network, save_base
from typer.testing import CliRunner

from longjing import tasks
from longjing.cli import app
from longjing.data.pass_rates import PassRate, RateBand, filter_by_rate, measure_pass_rates, weights_digest
from longjing.errors import UserError
from longjing.evaluation import EvalConfig
from longjing.evaluation.model_client import Answer, Answers, Question
from longjing.generation.native.engine import Engine
from longjing.problems import Completion
from longjing.tasks import ListedTask


class Knows:
    """Solves the n-th problem in n of its samples; counts what it was asked."""

    def __init__(self, patience: int = 100) -> None:
        self.questions, self.patience = 0, patience

    def answer(self, questions: Sequence[Question], on_progress: Any = None) -> Answers:
        groups = []
        for question in questions:
            self.patience -= 1
            if self.patience < 0:
                raise KeyboardInterrupt
            self.questions += 1
            number = int(question.messages[0]["content"].split()[-1])
            group = []
            for sample in range(len(question.samplings)):
                completion = Completion.parse(f"hm</think>\\boxed{{{sample < number}}}", truncated=sample == 3)
                group.append(Answer("", completion, 3, 1))
            groups.append(group)
        return Answers(groups, 1)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def listed(tmp_path: Path, **settings: Any) -> ListedTask:
    rows = [{"prompt": f"number {number}", "answer": "True", "of": number} for number in range(5)]
    task = tasks.get(str(write(tmp_path / "problems.jsonl", rows)), verifier="exact", **settings)
    assert isinstance(task, ListedTask)
    return task


def test_rates_are_what_was_judged_correct_and_go_on_after_a_kill(tmp_path: Path) -> None:
    task, kept, config = listed(tmp_path), tmp_path / "rates.jsonl", EvalConfig(samples=4)
    with pytest.raises(KeyboardInterrupt):
        measure_pass_rates(Knows(patience=3), task, config, {"name": "it"}, kept, at_once=2)
    kept.write_text(kept.read_text("utf-8") + '{"id": "cut o', "utf-8")
    again = Knows()
    heard: list[int] = []
    measured = measure_pass_rates(
        again, task, config, {"name": "it"}, kept, at_once=2, on_progress=lambda done, _: heard.append(done)
    )
    assert again.questions == 3  # the first two were kept
    # What is cut off isn't correct, whatever it says.
    assert [rate for _, rate in measured] == [PassRate(min(number, 3), 4, 1, 4) for number in range(5)]
    assert [row["of"] for row, _ in measured] == [0, 1, 2, 3, 4]
    assert measure_pass_rates(Knows(patience=0), task, config, {"name": "it"}, kept) == measured


def test_a_problem_with_another_answer_is_measured_anew(tmp_path: Path) -> None:
    task, kept, config = listed(tmp_path), tmp_path / "rates.jsonl", EvalConfig(samples=4)
    measure_pass_rates(Knows(), task, config, {}, kept)
    rows = [row for _, row in task.located_rows()]
    write(tmp_path / "problems.jsonl", [*rows[:3], rows[3] | {"answer": "False"}, rows[4]])
    changed, again = tasks.get(task.name, verifier="exact"), Knows()
    assert isinstance(changed, ListedTask)
    measured = measure_pass_rates(again, changed, config, {}, kept)
    assert again.questions == 1
    assert measured[3][1].correct == 0


def test_rates_of_something_else_are_refused(tmp_path: Path) -> None:
    task, kept = listed(tmp_path), tmp_path / "rates.jsonl"
    measure_pass_rates(Knows(), task, EvalConfig(samples=4), {"name": "it"}, kept)
    for other, config, model, what in [
        (task, EvalConfig(samples=5), "it", "sampling"),
        (task, EvalConfig(samples=4), "another", "model"),
        (listed(tmp_path, template="A {prompt}"), EvalConfig(samples=4), "it", "task"),
    ]:
        with pytest.raises(UserError, match=f"another {what};"):
            measure_pass_rates(Knows(), other, config, {"name": model}, kept)
    for text in ("[1]\n", "no JSON\n", '{"model": 1}\n{"id": 3}\n'):
        kept.write_text(text, "utf-8")
        with pytest.raises(UserError, match="holds no pass rates"):
            measure_pass_rates(Knows(), task, EvalConfig(samples=4), {"name": "it"}, kept)
        assert kept.read_text("utf-8") == text


@given(
    st.lists(st.none() | st.floats(0, 1)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda ends: RateBand(min(ends), max(ends))),
)
def test_the_sieve_keeps_the_band_in_order_and_loses_count_of_none(rates: list[float | None], band: RateBand) -> None:
    result = filter_by_rate([({"n": number}, rate) for number, rate in enumerate(rates)], band)
    wanted = [(n, rate) for n, rate in enumerate(rates) if rate is not None and band.least <= rate <= band.most]
    assert [(row["n"], row["pass_rate"]) for row in result.kept] == wanted
    assert len(result.kept) + result.harder + result.easier + result.unknown == len(rates)
    assert result.unknown == rates.count(None)


def test_the_digest_tells_weights_apart() -> None:
    prints = {weights_digest(network("llama", seed)) for seed in (0, 0, 1)} | {
        weights_digest(network("llama").bfloat16())
    }
    assert len(prints) == 3


def test_the_digest_tells_packed_weights_apart() -> None:
    models = [network("llama").bfloat16() for _ in range(2)]
    models[1].layers[0].mlp.up_proj.weight.data[0, 0] += 1
    assert len({weights_digest(Engine(model, None).model) for model in models}) == 2


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "filter", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_with_a_model(tmp_path: Path) -> None:
    """A random network solves nothing."""
    save_base(tmp_path / "model", "llama")
    file = write(tmp_path / "p.jsonl", [{"prompt": f"Say {n}", "answer": f"{n}"} for n in range(3)])
    out = tmp_path / "kept.jsonl"
    common = [file, "--model", tmp_path / "model", "--samples", 2, "--max-tokens", 8, "--device", "cpu", "--out", out]
    code, output = run(*common, "--set", "verifier=exact")
    assert (code, "no problem has a rate" in output) == (2, True), output
    assert not out.exists()
    # The rates were kept, and serve for another band.
    code, output = run(*common, "--set", "verifier=exact", "--at-least", 0, "--at-most", 0)
    assert code == 0, output
    assert "right answers\t0.0%" in output and "kept\t3" in output
    assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == [
        {"prompt": f"Say {n}", "answer": f"{n}", "pass_rate": 0.0} for n in range(3)
    ]
    assert run(*common, "--set", "verifier=number")[1].count("another task") == 1


def test_the_command_with_an_endpoint(tmp_path: Path) -> None:
    """It says 2 whatever is asked, and is asked once."""
    file = write(tmp_path / "p.jsonl", [{"prompt": f"1 + {n}?", "answer": f"{1 + n}"} for n in (1, 2)])
    out = tmp_path / "kept.jsonl"
    with FakeEndpoint(lambda request, attempt: completion("<think>hm</think>\\boxed{2}")) as fake:
        common = [file, "--model", "m", "--base-url", fake.base_url, "--set", "verifier=exact", "--samples", 2]
        code, output = run(*common, "--at-most", 1, "--out", out)
        assert run(*common, "--at-most", 0.5, "--at-least", 0, "--out", out)[0] == 0
    assert code == 0, output
    assert "right answers\t50.0%" in output and "kept\t1" in output
    assert len(fake.requests) == 4
    assert [json.loads(line)["prompt"] for line in out.read_text("utf-8").splitlines()] == ["1 + 2?"]


def test_the_command_with_recorded_rates(tmp_path: Path) -> None:
    rows = [{"prompt": str(n), "rate": rate} for n, rate in enumerate([0, 0.25, 0.5, 1.0, None])]
    out, file = tmp_path / "kept.jsonl", write(tmp_path / "p.jsonl", rows)
    code, output = run(file, "--by", "rate", "--at-most", 0.5, "--out", out)
    assert code == 0, output
    assert (
        "below 0.1\t1" in output and "above 0.5\t1" in output and "without a rate\t1" in output and "kept\t2" in output
    )
    assert [json.loads(line)["pass_rate"] for line in out.read_text("utf-8").splitlines()] == [0.25, 0.5]


def test_the_command_refuses_in_plain_words(tmp_path: Path) -> None:
    file = write(tmp_path / "p.jsonl", [{"prompt": "1", "answer": "1", "rate": 2}])
    out = tmp_path / "kept.jsonl"
    cases: list[tuple[list[object], str]] = [
        ([file], "say whose rates"),
        ([file, "--model", "base", "--by", "rate"], "say whose rates"),
        ([file, "--by", "rat"], "no column 'rat'"),
        ([file, "--by", "rate"], "no share from 0 to 1"),
        ([file, "--by", "rate", "--set", "verifier=math"], "--set is for measuring"),
        ([file, "--by", "rate", "--at-least", 0.9, "--at-most", 0.1], "pass rates go from 0 to 1"),
        ([file, "--model", "base"], "say how answers are judged"),
        ([file, "--model", "base", "--set", "verifier=exact", "--temperature", 0], "at temperature 0"),
        (["countdown", "--model", "base"], "no list of problems"),
        ([tmp_path / "absent.jsonl", "--model", "base", "--set", "verifier=exact"], "cannot read"),
    ]
    for arguments, expected in cases:
        code, output = run(*arguments, "--out", out)
        assert (code, expected in output) == (2, True), (arguments, output)
        assert not out.exists()
