"""The paper's benchmarks, on small local files of the same form."""

import csv
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.evaluation import EvalConfig, benchmarks, measure
from longjing.evaluation.benchmark_task import BenchmarkTask, Choice
from longjing.evaluation.benchmarks import BENCHMARKS, find, load
from longjing.evaluation.model_client import Answer, Answers
from longjing.problems import Completion
from longjing.verifiers.pool import VerifierError

MATHEMATICS = {
    "aime-2024": {"id": 60, "problem": "How far?", "solution": "So $\\boxed{204}$.", "answer": "204", "url": "u"},
    "aime-2025": {"problem": "How far?", "answer": "70", "id": "0"},
    "math-500": {"problem": "Where?", "solution": "There", "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
                 "subject": "Precalculus", "level": 2, "unique_id": "test/precalculus/807.json"},
    "gsm8k": {"question": "How much?", "answer": "She has 16 - 3 = <<16-3=13>>13.\n#### 1,013"},
}  # fmt: skip
RIGHT = {"aime-2024": "204", "aime-2025": "70", "math-500": "(3, \\pi/2)", "gsm8k": "1013"}
CHOICES = {
    "Question": "Which, \"A\" or B?\n", "Correct Answer": "10^-4 eV\n", "Incorrect Answer 1": "10^-8 eV",
    "Incorrect Answer 2": "10^-9 eV", "Incorrect Answer 3": "10^-11 eV", "Record ID": "rec", "Subdomain": "",
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format that the file's name ends in."""
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def outcome(task: BenchmarkTask, text: str, truncated: bool = False) -> str:
    """How the first problem's answer part is judged."""
    (problem, *_) = task.problems("test", 0)
    return task.judge(problem, Completion.parse(f"hm</think>{text}", truncated=truncated)).outcome


@pytest.mark.parametrize("name", MATHEMATICS)
def test_mathematics_is_read_as_published_and_judged(tmp_path: Path, name: str) -> None:
    pytest.importorskip("math_verify")
    row = MATHEMATICS[name]
    path = write(tmp_path / f"x{Path(BENCHMARKS[name].file).suffix}", [row, row | {"answer": "7"}])
    task, config = find(name, file=str(path))
    assert config == replace(BENCHMARKS[name].config, problems=2), "all that the file has"
    assert task.settings == {"source": str(path), "sha256": sha256(path.read_bytes()).hexdigest()}
    problem, second = task.problems("test", 3)
    question = row.get("question") or row["problem"]
    assert problem.prompt == f"{question}\n\nPlease reason step by step, and put your final answer within \\boxed{{}}"
    assert second.answer == task.solve(second) == "7"
    assert isinstance(task, BenchmarkTask)
    assert outcome(task, f"It is \\boxed{{{RIGHT[name]}}}.") == "correct"
    assert outcome(task, f"First \\boxed{{1}}, no: \\boxed{{{RIGHT[name]}}}.") == "correct", "the last one counts"
    assert outcome(task, f"It is \\boxed{{{RIGHT[name]}}}.", truncated=True) == "wrong"
    for wrong in ("\\boxed{12}", RIGHT[name], "\\boxed{}", "", f"\\boxed{{{RIGHT[name]}"):
        assert outcome(task, wrong) == "wrong"


@pytest.mark.parametrize("rows", [1, 30, 45])
def test_a_file_is_measured_whole(tmp_path: Path, rows: int) -> None:
    row = MATHEMATICS["aime-2024"]
    path = write(tmp_path / "x.jsonl", [row | {"problem": f"How far is {n}?"} for n in range(rows)])
    task, config = find("aime-2024", file=str(path))
    assert measure(Says("no box"), task, config.changed(samples=1)).problems == config.problems == rows


def test_what_the_paper_measures_is_written_down() -> None:
    samples = {"aime-2024": 64, "aime-2025": 64, "math-500": 16, "gpqa-diamond": 64, "gsm8k": 4}
    problems = {"aime-2024": 30, "aime-2025": 30, "math-500": 500, "gpqa-diamond": 198, "gsm8k": 1319}
    for name, benchmark in BENCHMARKS.items():
        expected = EvalConfig(problems[name], samples[name], 0, 0.6, 0.95, 32768)
        assert benchmark.config == expected


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet"])
def test_multiple_choice_is_read_as_published_and_judged(tmp_path: Path, suffix: str) -> None:
    rows = [CHOICES, *(CHOICES | {"Question": f"Which {n}?"} for n in range(40))]
    path = write(tmp_path / f"x{suffix}", rows)
    task, config = find("gpqa-diamond", file=str(path))
    assert config.problems == 41
    problems = list(task.problems("test", 0))
    assert {problem.answer for problem in problems} == set("ABCD"), "the right one is anywhere"
    for problem in problems:
        assert f"\n{problem.answer}) 10^-4 eV" in problem.prompt
        assert all(f"{row}) 10^-" in problem.prompt for row in "ABCD")
    assert problems == list(load("gpqa-diamond", str(path)).problems("test", 1)), "always in the same order"
    letter = problems[0].answer
    assert isinstance(task, BenchmarkTask)
    assert outcome(task, f"ANSWER: {letter}") == "correct"
    assert outcome(task, f"ANSWER: {'A' if letter != 'A' else 'B'}") == "wrong"
    assert outcome(task, "I don't know.") == "wrong"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("ANSWER: C", "C"), ("So.\n\n**ANSWER: C**", "C"), ("Answer: $C$", "C"), ("**Answer:** (C)", "C"),
        ("ANSWER: \\boxed{C}", "C"), ("ANSWER: $\\boxed{\\text{C}}$", "C"), ("ANSWER: A\n...\nANSWER: C", "C"),
        ("It is \\boxed{C}.", "C"), ("\\boxed{\\text{(C)}}", "C"), ("\\boxed{A}, I mean ANSWER: C", "C"),
        ("ANSWER: Carbon", None), ("ANSWER: E", None), ("The answer is C", None), ("\\boxed{Carbon}", None), ("", None),
    ],
)  # fmt: skip
def test_the_letter_is_found_as_models_write_it(text: str, letter: str | None) -> None:
    assert Choice("gpqa-diamond", [CHOICES], {}, "x").final(text) == letter


class Exact(BenchmarkTask):
    """Compares as text; does not know about `?`."""

    def read(self, row: dict[str, Any]) -> tuple[str, str]:
        return row["problem"], row["answer"]

    def final(self, text: str) -> str | None:
        return text or None

    def equal(self, gold: str, answer: str) -> bool:
        if answer == "?":
            raise VerifierError("it took too long")
        return gold.split() == answer.split()


ROWS = [{"problem": f"What is {n}?", "answer": f"{n} 0"} for n in range(5)]


class Says:
    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def answer(self, questions, on_progress=None) -> Answers:
        samples = [Answer(text, Completion.parse(f"x</think>{text}"), 1, 0) for text in self.texts]
        return Answers([samples for _ in questions], 0)


def test_what_is_right_votes_together_however_it_is_written() -> None:
    task = Exact("exact", ROWS, {}, "x")
    evaluation = measure(Says("0 0", "0  0", " 0 0 ", "8", "8", "?", ""), task, EvalConfig(1, 7))
    assert evaluation.records[0].outcomes == ["correct"] * 3 + ["wrong"] * 2 + ["unjudged", "wrong"]
    assert evaluation.maj_at_k == 1.0
    assert evaluation.unparsed == 1 / 7
    assert evaluation.unjudged == 1


@given(st.integers(0, 9))
def test_problems_are_fixed_and_for_measuring_only(seed: int) -> None:
    task = Exact("exact", ROWS, {}, "x")
    assert [problem.prompt for problem in task.problems("test", seed)] == [row["problem"] for row in ROWS]
    assert len({problem.id for problem in task.problems("test", seed)}) == 5
    for split in ("train", "validation"):
        with pytest.raises(UserError, match="test problems only"):
            task.problems(split, seed)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.jsonl", '{"problem": "a", "answer": "1"}\n{"problem": "b", "was": 1}\n', "row 2: no column 'answer'.* was"),
        ("x.jsonl", '{"problem": "How?", "answer": null}\n', "row 1: no column 'answer'"),
        ("x.csv", "problem,answer\nHow?\n", "row 1: no column 'answer'"),
        ("x.jsonl", '{"problem": ', "can't be read as jsonl"),
        ("x.parquet", "no parquet", "can't be read as parquet"),
        ("x.csv", f"problem,answer\n{'?' * 200_000},1\n", "can't be read as csv: field larger than"),
        ("x.jsonl", "", "no rows"),
        ("x.json", "[1, 2]", "no rows with named columns"),
        ("x.json", '{"problem": 3}', "no rows"),
        ("x.txt", "", r"known are \.jsonl.*not '\.txt'"),
        ("x", "", "no ending"),
        (None, "", "cannot read"),
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_refused(tmp_path: Path, name: str | None, content: str, says: str) -> None:
    if name == "x.parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / (name or "none.jsonl")
    if name:
        path.write_text(content)
    with pytest.raises(UserError, match=says):
        find("math-500", file=str(path))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("aime-2023", {}, "did you mean 'aime-202"),
        ("countdow", {}, "did you mean 'countdown'"),
        ("math-500", {"difficulty": 3}, "no setting 'difficulty'.*'file'"),
        ("gsm8k", {"file": 3}, "`file` is 3; it must be the path"),
    ],
)
def test_an_unknown_name_or_setting_is_refused(name: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        find(name, **settings)


def test_a_task_is_found_beside_the_benchmarks() -> None:
    task, config = find("countdown", difficulty=3)
    assert (task.name, task.settings["difficulty"]) == ("countdown", 3)
    assert config == EvalConfig(200, 4, 0, 1.0, 1.0, 512)


def test_the_hub_is_asked_for_the_very_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    calls: list[Any] = []

    def fetch(repository: str, file: str, **options: Any) -> str:
        calls.extend([repository, file, options])
        return str(write(tmp_path / "gpqa_diamond.csv", [CHOICES]))

    monkeypatch.setattr(hub, "hf_hub_download", fetch)
    task = load("gpqa-diamond")
    revision = BENCHMARKS["gpqa-diamond"].revision
    assert calls == ["Idavidrein/gpqa", "gpqa_diamond.csv", {"repo_type": "dataset", "revision": revision}]
    assert task.settings["source"] == f"Idavidrein/gpqa@{revision}/gpqa_diamond.csv"


def test_what_the_hub_refuses_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    for error, says in (
        (GatedRepoError.__new__(GatedRepoError), "terms.*huggingface.co/datasets/Idavidrein/gpqa.*HF_TOKEN"),
        (LocalEntryNotFoundError("no connection"), "no connection.*--set file=PATH"),
    ):

        def refuse(*arguments: Any, error: BaseException = error, **options: Any) -> str:
            raise error

        monkeypatch.setattr(hub, "hf_hub_download", refuse)
        with pytest.raises(UserError, match=says):
            benchmarks.load("gpqa-diamond")
