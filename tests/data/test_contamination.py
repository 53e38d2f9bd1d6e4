"""Decontamination: what shares a run of words with an evaluation's problem is found, and nothing else is."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from longjing.cli import app
from longjing.data.contamination import SIZE, Evaluations, load, whole_text, words
from longjing.data.public import INSTRUCTIONS
from longjing.errors import UserError
from longjing.evaluation.benchmarks import BENCHMARKS

WORDS = st.text("abcdefg", min_size=1, max_size=3)
TEXT = st.lists(WORDS, min_size=1, max_size=25)


def compared(*problems: str, size: int = 4) -> Evaluations:
    evaluations = Evaluations(size)
    evaluations.add("exam", ((f"row {number}", problem) for number, problem in enumerate(problems, 1)))
    return evaluations


@given(evaluated=TEXT, learned=TEXT, size=st.integers(2, 6))
def test_a_match_is_a_shared_run_of_words_or_the_whole(evaluated: list[str], learned: list[str], size: int) -> None:
    def runs(words: list[str]) -> set[tuple[str, ...]]:
        return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}

    shared = bool(runs(evaluated) & runs(learned)) or (len(evaluated) < size and "".join(evaluated) == "".join(learned))
    assert (compared(" ".join(evaluated), size=size).match(" ".join(learned)) is not None) == shared


@given(
    evaluated=st.lists(WORDS, min_size=SIZE, max_size=25),
    before=TEXT,
    after=TEXT,
    start=st.integers(0, 12),
    between=st.sampled_from([" ", "\n\n", ", ", " $", "\\ ", " {", "} "]),
    instruction=st.sampled_from(["", *INSTRUCTIONS]),
)
def test_thirteen_words_are_found_wherever_and_however_they_stand(
    evaluated: list[str], before: list[str], after: list[str], start: int, between: str, instruction: str
) -> None:
    start = min(start, len(evaluated) - SIZE)
    learned = between.join([*before, *evaluated[start : start + SIZE], *after]).upper() + instruction
    match = compared(" ".join(evaluated), size=SIZE).match(learned)
    assert match is not None
    assert match.evaluation == "exam" and match.location == "row 1"


@given(st.text(max_size=200))
def test_a_problem_matches_itself_and_any_text_can_be_compared(text: str) -> None:
    if whole_text(text):
        assert compared(text, size=SIZE).match(text) is not None
    else:
        with pytest.raises(UserError, match="without words"):
            compared(text)


def test_short_problems_are_compared_with_their_signs() -> None:
    evaluations = compared("Compute $2 + 3$.", "Find $f'(0)$.", "求 $x$ 的值。", size=SIZE)
    for same in ("compute 2+3", "Compute\n\\( 2\\,+ 3 \\)" + INSTRUCTIONS[0], "求x的值。"):
        assert evaluations.match(same), same
    for other in ("Compute $2 - 3$.", "Compute $2 + 33$.", "Find $f(0)$.", "Compute $2 + 3$ twice.", ""):
        assert evaluations.match(other) is None, other


def test_the_instruction_is_no_part_of_a_problem() -> None:
    """It is itself twelve words, which with the last word of a problem would be thirteen."""
    evaluations = compared("Alice counts the marbles" + INSTRUCTIONS[0], size=SIZE)
    assert evaluations.match("Bob hides all of the marbles" + INSTRUCTIONS[0]) is None
    assert evaluations.match("Alice counts the marbles") is not None


def test_each_chinese_character_is_a_word() -> None:
    assert words("小明有3个Apple。") == ["小", "明", "有", "3", "个", "apple"]


COLUMNS = {
    "aime-2024": "problem", "aime-2025": "problem", "math-500": "problem", "gpqa-diamond": "Question",
    "gsm8k": "question",
}  # fmt: skip
LONG = "A train leaves the old station at nine and meets the slow train at noon near the bridge"


def rows(path: Path, column: str, *problems: str) -> Path:
    path.write_text("".join(json.dumps({column: problem}) + "\n" for problem in problems), "utf-8")
    return path


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_compared_with(name: str, tmp_path: Path) -> None:
    file = rows(tmp_path / "exam.jsonl", COLUMNS[name], LONG)
    evaluations = load([f"{name}={file}"])
    assert evaluations.counts == {name: 1}
    assert evaluations.match(f"Yesterday: {LONG}!") is not None


def decontaminate(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["data", "decontaminate", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        return 2, str(result.exception)
    return result.exit_code, result.output


def test_the_command_drops_counts_and_shows(tmp_path: Path) -> None:
    exam, other = (rows(tmp_path / "exam.jsonl", "problem", LONG), rows(tmp_path / "o.jsonl", "question", "1 + 1?"))
    mine = rows(tmp_path / "mine.jsonl", "prompt", "What is 2 + 2?", f"Well. {LONG}", "1+1", "And 3 + 3?")
    out = tmp_path / "clean.jsonl"
    code, output = decontaminate(mine, "--out", out, "--against", f"math-500={exam}", "--against", other)
    assert code == 0, output
    assert "line 2: Well." in output and "shares with math-500, line 1: a train leaves" in output
    assert "dropped for math-500, of 1 problems\t1" in output and f"dropped for {other}, of 1 problems\t1" in output
    assert out.read_text("utf-8") == rows(tmp_path / "e", "prompt", "What is 2 + 2?", "And 3 + 3?").read_text("utf-8")


def test_what_strangers_wrote_reaches_neither_terminal_nor_traceback(tmp_path: Path) -> None:
    exam, out = rows(tmp_path / "exam.jsonl", "problem", LONG), tmp_path / "clean.jsonl"
    mine = rows(tmp_path / "mine.jsonl", "prompt", f"\x1b[2J\ud800 {LONG}", "\ud83d 2 + 2?")
    code, output = decontaminate(mine, "--out", out, "--against", exam)
    assert code == 0, output
    assert "\ufffd[2J\ufffd A train" in output and "\x1b" not in output
    assert json.loads(out.read_text("utf-8")) == {"prompt": "\ud83d 2 + 2?"}


def test_nothing_passes_that_was_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "hf_hub_download", refuse)
    mine = rows(tmp_path / "mine.jsonl", "prompt", LONG)
    exam, empty = (rows(tmp_path / "exam.jsonl", "problem", "Where?"), rows(tmp_path / "empty.jsonl", "problem", " "))
    good, answers = ["--against", exam], rows(tmp_path / "answers.jsonl", "reply", "1")
    out = tmp_path / "clean.jsonl"
    cases: list[tuple[list[object], str]] = [
        ([], "no network"),
        ([*good, "--against", "math-500"], "--against math-500=PATH"),
        ([*good, "--against", "gsm8k=absent.jsonl"], "cannot read absent.jsonl"),
        (["--against", "math500"], "compared with math500"),
        (["--against", empty], "a problem without words"),
        (["--against", answers], "no column problem"),
        ([*good, "--words", 1], "shared by everything"),
        (["--against", mine], "none is left"),
    ]
    for arguments, expected in cases:
        code, output = decontaminate(mine, "--out", out, *arguments)
        assert (code, expected in output) == (2, True), (arguments, output)
        assert not out.exists()
    code, output = decontaminate(exam, "--out", out, *good)
    assert (code, "no column 'prompt'" in output) == (2, True), output
    assert decontaminate(mine, "--out", mine, *good)[0] == 2
