"""The report: whole for any run, and nothing a model wrote is ever more than text."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cases import RECIPE, evaluation_row, write_run

from longjing.recipe.report import render, write_report
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
    assert page.tags.count("svg") == 17 and "not finished" not in page.text


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


@pytest.mark.parametrize("place", ["", "<think>", "x</think>"])
def test_a_hostile_completion_stays_text(tmp_path: Path, place: str) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)></pre></details>\"'>{{ 7*7 }}<!--"
    harmless = Page(render(write_run(tmp_path / "harmless", text=place + "dull")))
    page = Page(render(write_run(tmp_path / "evil", text=place + evil)))
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
