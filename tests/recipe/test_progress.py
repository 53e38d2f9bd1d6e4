"""What one sees of a stage: lines without a terminal, a bar on one, advice once."""

import io

import pytest
from rich.console import Console
from run_cases import (
    curation_row,
    demonstration_row,
    distillation_row,
    evaluation_row,
    finetuning_row,
    preference_row,
    pretraining_row,
    reinforcement_row,
)

from longjing.learning.kinds import KINDS
from longjing.recipe import progress
from longjing.recipe.progress import StageProgress
from longjing.runs.figures import figures


def console(terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def shown(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def test_without_a_terminal_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    screen = console()
    look = StageProgress(screen, "zero", KINDS["reinforce"], 60, [])
    with look.shown():
        for step in range(60):
            look.metrics(reinforcement_row(step))
            now += 3
    lines = shown(screen).splitlines()
    assert len(lines) == 16 and lines[0].startswith("zero 1/60  reward ") and lines[-1].startswith("zero 60/60 ")
    assert "accuracy 22%" in lines[1] and "1 min 50 s left" in lines[1] and "left" not in lines[-1]
    assert "\x1b" not in shown(screen)


def test_a_long_step_shows_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every half minute without a terminal, at once on one."""
    now = 0.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    screen = console()
    look = StageProgress(screen, "zero", KINDS["reinforce"], 60, [])
    for second in range(100):
        now = float(second)
        look.sampled(second, 256, 90 * second)
    now = 130.0
    look.updated(64, 256)
    assert shown(screen).splitlines() == [
        "zero 0/60  30 of 256 completions sampled, 2,700 tokens",
        "zero 0/60  60 of 256 completions sampled, 5,400 tokens",
        "zero 0/60  90 of 256 completions sampled, 8,100 tokens",
        "zero 0/60  64 of 256 completions learned from",
    ]
    look.metrics(reinforcement_row(0))
    look.sampled(1, 256, 90)
    assert len(shown(screen).splitlines()) == 5
    screen = console()
    measuring = StageProgress(screen, "measuring base", None, None, [])
    now = 170.0
    measuring.sampled(3, 16, 90)
    assert shown(screen) == "measuring base  3 of 16 completions sampled, 90 tokens\n"
    bar = console(terminal=True)
    look = StageProgress(bar, "zero", KINDS["reinforce"], 60, [])
    with look.shown():
        look.sampled(7, 256, 1234)
    assert "7 of 256 completions sampled, 1,234 tokens" in shown(bar)


def test_a_stage_may_learn_from_its_data_how_long_it_is() -> None:
    screen = console()
    look = StageProgress(screen, "tune", KINDS["finetune"], None, [])
    look.status("reading the conversations")
    look.metrics(finetuning_row(0, steps=2))
    look.metrics(finetuning_row(1, steps=2))
    assert "tune 1/2  loss" in shown(screen) and "tune 2/2  loss" in shown(screen)
    bar = console(terminal=True)
    look = StageProgress(bar, "small", KINDS["distill"], None, [])
    with look.shown():
        look.metrics(distillation_row(0))
    assert "small" in shown(bar) and "from the teacher 1.000" in shown(bar)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stage_has_its_figures(kind: str) -> None:
    rows = {
        "pretrain": pretraining_row, "demonstrate": demonstration_row, "sample": curation_row,
        "finetune": finetuning_row, "reward-model": preference_row, "reinforce": reinforcement_row,
        "distill": distillation_row,
    }  # fmt: skip
    assert [label for label, _ in figures(KINDS[kind].metrics, [rows[kind](0)])] == [
        metric.headline for metric in KINDS[kind].metrics if metric.headline
    ]


def test_on_a_terminal_there_is_a_bar() -> None:
    screen = console(terminal=True)
    look = StageProgress(screen, "read", KINDS["pretrain"], 30, [])
    with look.shown():
        look.status("training the tokenizer")
        look.metrics(pretraining_row(0))
        look.metrics(pretraining_row(1))
    assert "2/30  14.0 s left" in shown(screen) and "loss 2.9" in shown(screen)


def test_measurements_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = console()
    look = StageProgress(screen, "zero", KINDS["reinforce"], 60, [])
    look.status("measuring")
    look.evaluation(evaluation_row(-1, "test", 0.25))
    look.evaluation(evaluation_row(9, "validation", None))
    assert shown(screen).splitlines() == [
        "zero: measuring",
        "zero after 0 steps: 25.0% right (15.0% to 35.0%), 50 test problems of countdown",
        "zero after 10 steps: nothing measured, 50 validation problems of countdown",
    ]


def test_advice_is_given_once_in_a_while() -> None:
    screen = console()
    look = StageProgress(screen, "zero", KINDS["reinforce"], 200, [])
    for step in range(120):
        look.metrics(reinforcement_row(step, truncated=0.5))
    assert shown(screen).count("note: 50% of completions were cut off") == 3


def test_a_resumed_stage_replaces_what_it_repeats() -> None:
    screen = console()
    old = [reinforcement_row(step, reward=0.0) for step in range(10)]
    look = StageProgress(screen, "zero", KINDS["reinforce"], 200, old)
    for step in range(5, 9):
        look.metrics(reinforcement_row(step, reward=7.0))
    assert shown(screen).startswith("zero 6/200  reward 1.40")
    assert [row["step"] for row in look._rows] == list(range(9))
