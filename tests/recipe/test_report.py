"""The report: whole for any run, and nothing a model wrote is ever more than text."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cases import RECIPE, curation_row, distillation_row, evaluation_row, finetuning_row, preference_row, write_run

from longjing.recipe.report import render, write_report
from longjing.recipe.report.comparison import CheckpointComparison
from longjing.recipe.report.sections import Sample
from longjing.recipe.running import account
from longjing.runs import RunDirectory

VOID = {"meta", "line", "br"}


class Page(HTMLParser):
    """The text and the tags of a page; fails if a tag isn't closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.attributes, self._open = "", [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += {"td": " ", "tr": "\n"}.get(tag, "")

    def handle_data(self, data):
        self.text += data


def test_a_finished_run_is_shown_whole(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    account(run)
    page = Page((run.path / "report.html").read_text())
    for expected in (
        "20.0% → 50.0%", "+30.0 points", "10.0% to 30.0%", "Engine against trainer", "One group", "Make 1.",
        "The same problems, before and after", "\\boxed{1}", "The bill", f"longjing chat {run.path}",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert page.tags.count("svg") == 18 and "not finished" not in page.text


@pytest.mark.parametrize(
    ("offers", "says"),
    [
        (True, "an EPYC: measured at the start, a token's bits don't depend on"),
        (False, "an EPYC: measured at the start, a token's bits depend, as far as rounding goes, on"),
        (None, "an EPYC."),
    ],
)
def test_what_the_machine_offers_is_said(tmp_path: Path, offers: bool | None, says: str) -> None:
    run = write_run(tmp_path / "run")
    assert "measured at the start" not in Page(render(run)).text
    run.write_json("machine.json", {"name": "an EPYC", "batch_invariant": offers})
    assert says in Page(render(run)).text


def test_a_run_without_a_finished_model_invites_nobody_to_talk(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for stage in run.stages():
        (stage.path / "result.json").unlink()
    assert "longjing chat" not in Page(render(run)).text


def compared(path: Path, text: str = "So.\n</think>\n\n\\boxed{1}") -> RunDirectory:
    """A run whose checkpoints were measured: two of them, and what they began with."""
    run = write_run(path, text=text)
    for index, (name, accuracy) in enumerate((("read", 0.2), ("zero", 0.5), ("base", None))):
        for label in ("countdown", "words"):
            row = evaluation_row(index if accuracy else -1, "test", accuracy, text) | {
                "checkpoint": name, "label": label, "language": 0.75,
                "sampling": {"temperature": 0.6, "top_p": 0.95, "max_tokens": 64},
            }  # fmt: skip
            run.checkpoints.append(row)
    account(run)
    return run


def test_checkpoints_stand_side_by_side(tmp_path: Path) -> None:
    run = compared(tmp_path / "run")
    page = Page((run.path / "report.html").read_text())
    table = page.text[page.text.index("All checkpoints on all tasks") : page.text.index("The same problem, answered")]
    assert table.index("base") < table.index("read") < table.index("zero")
    for expected in ("words", "50.0%", "40.0% to 60.0%", "maj 50.0% · 90 · 75.0%", "top-p 0.95", "–"):
        assert expected in table, expected
    side = page.text[page.text.index("answered by each") : page.text.index("Held-out measurements")]
    assert side.count("Make 1.") == 4  # two tasks, each in its summary and below
    assert side.count("\\boxed{1}") == 6


def test_answers_are_paired_by_their_problems() -> None:
    def row(name: str, problems: str) -> dict[str, Any]:
        examples = [
            {"problem": one, "prompt": f"prompt {one}", "text": f"{name} {one}", "outcome": "wrong"} for one in problems
        ]  # fmt: skip
        sampling = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 64}
        return evaluation_row(0, "test", 0.5) | {
            "checkpoint": name, "label": "words", "sampling": sampling, "examples": examples,
        }  # fmt: skip

    comparison = CheckpointComparison.of([row("one", "abc"), row("two", "cxa")])
    assert comparison is not None
    paired = {each.prompt: [name for name, _ in each.samples] for each in comparison.answered}
    assert paired == {"prompt a": ["one", "two"], "prompt b": ["one"], "prompt c": ["one", "two"]}


def test_the_bill_is_by_stage_with_a_total(tmp_path: Path) -> None:
    run = compared(tmp_path / "run")
    text = Page((run.path / "report.html").read_text()).text
    lines = [line.split() for line in text[text.index("of it measuring") :].splitlines() if line.split()]
    cells = {line[0]: line for line in lines if line[0] in ("read", "zero", "base", "total")}
    assert list(cells) == ["read", "zero", "base", "total"]
    assert cells["zero"][1:3] == ["62", "ktokens"]  # 60 steps of 1,000, two measurements of 500, and two more
    assert "$0.00" not in " ".join(cells["total"]) and "kWh" in text


def test_the_lineage_is_drawn_with_its_gates(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    run.write_json("read/gate.json", {"passed": True, "text": "loss is 2; it must be at most 3"})
    html = render(run)
    page = Page(html)
    for expected in ("model · gate passed", "model · going on", "read → zero", "Gate: loss is 2; it must be"):
        assert expected in page.text, expected
    assert 'class="passed"' in html and 'class="begun"' in html
    several = [{"passed": True, "text": "loss is 2"}, {"passed": False, "text": "tokens is 7"}]
    run.write_json("read/gate.json", {"passed": False, "text": "tokens is 7", "gates": several})
    text = Page(render(run)).text
    for expected in ("model · gate closed", "Gate passed: loss is 2.", "Gate closed: tokens is 7."):
        assert expected in text, expected


CURVES = {
    "finetune": (finetuning_row, {"Loss", "Learning rate", "Busiest expert"}),
    "sample": (curation_row, {"Kept", "Not kept", "Length"}),
    "reward-model": (preference_row, {"Loss", "Accuracy", "Margin"}),
    "distill": (distillation_row, {"Accuracy", "Distance from the teacher", "Language"}),
}


@pytest.mark.parametrize("kind", CURVES)
def test_every_kind_of_stage_has_its_curves(tmp_path: Path, kind: str) -> None:
    row, expected = CURVES[kind]
    settings = {"kind": kind, "name": "one", "model": "base", "problems": 40, "problems_per_step": 8}
    run = RunDirectory(tmp_path / "run")
    with run.writing(RECIPE | {"stages": [settings]}):
        stage = run.stage("one")
        stage.load_state()
        account(run)
        for step in range(5):
            stage.metrics.append(row(step, language=0.9))
        if kind == "reward-model":
            stage.evaluations.append(evaluation_row(4, "held-out", 0.8))
        account(run)
    text = Page((run.path / "report.html").read_text()).text
    assert expected <= {line.strip() for line in text.splitlines()}
    of = {"sample": "5 of 5 steps", "finetune": "5 of 120 steps", "reward-model": "5 of 120 steps"}
    assert of.get(kind, "5 steps") in text


def test_what_was_kept_is_said(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    settings = {"kind": "sample", "name": "one", "model": "base", "problems": 8, "problems_per_step": 8}
    with run.writing(RECIPE | {"stages": [settings]}):
        run.stage("one").load_state()
        run.stage("one").metrics.append(curation_row(0))
        run.stage("one").finish(curation_row(0))
        account(run)
    text = Page((run.path / "report.html").read_text()).text
    assert "32, 2.9 ktokens" in text and "12 (37.5%)" in text and "15 wrong, 5 truncated" in text


def test_it_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    html = render(write_run(tmp_path / "run"))
    assert "http" not in html.replace("http-equiv", "") and not {"src", "href"} & set(Page(html).attributes)


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path, steps: int) -> None:
    run = write_run(tmp_path / "run", steps)
    with (run.path / "zero" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "rew')
    page = Page(render(run))
    assert "not finished" in page.text and (f"step {steps} of 60" if steps else "not begun") in page.text


def test_a_run_that_has_hardly_begun_has_a_report(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.writing(RECIPE):
        account(run)
    assert "not begun" in (run.path / "report.html").read_text()


def test_an_evaluation_without_a_verdict_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    run.stage("zero").evaluations.append(evaluation_row(2, "test", None))
    assert "–" in Page(render(run)).text


def test_a_completion_is_taken_apart_as_its_prompt_left_it() -> None:
    row = {"text": "\\boxed{1}", "outcome": "correct"}
    assert Sample.of(row | {"prefilled": False}).turns[0][0].answer == "\\boxed{1}"
    assert Sample.of(row | {"prefilled": True}).turns[0][0].reasoning == "\\boxed{1}"
    assert Sample.of(row).turns[0][0].reasoning == "\\boxed{1}", "as in logs that don't say"


def test_the_turns_of_a_conversation_are_shown_with_what_was_said_to_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 3)
    turn = {"text": "1+1</think>call", "prefilled": True, "reply": {"role": "user", "content": "<i>it is 2</i>"}}
    row = {"text": "so</think>2", "prefilled": True, "earlier": [turn], "outcome": "correct"}
    run.stage("zero").rollouts.append({"step": 3, "problem": "q", "prompt": "?", "completions": [row]})
    html = render(run)
    assert '<div class="reply" dir="auto">&lt;i&gt;it is 2&lt;/i&gt;</div>' in html
    assert [(text.answer, reply) for text, reply in Sample.of(row).turns] == [("call", "<i>it is 2</i>"), ("2", "")]


@pytest.mark.parametrize("prefix", ["", "<think>", "x</think>"])
def test_a_hostile_completion_stays_text(tmp_path: Path, prefix: str) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)></pre></details>\"'>{{ 7*7 }}<!--"
    harmless = Page(render(compared(tmp_path / "harmless", prefix + "dull")))
    page = Page(render(compared(tmp_path / "evil", prefix + evil)))
    assert page.tags == harmless.tags and page.attributes == harmless.attributes
    assert evil in page.text


@settings(max_examples=25)
@given(st.text(max_size=60))
def test_any_completion_leaves_the_page_in_order(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    text = text.encode(errors="replace").decode()
    page = Page(render(write_run(tmp_path_factory.mktemp("any") / "run", 1, text)))
    assert page.tags.count("script") == 1


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 1)
    path = write_report(run)
    before = path.read_text()
    run.stage("zero").metrics.append({"step": 1, "time": 9.0})
    assert write_report(run) == path and path.read_text() != before
