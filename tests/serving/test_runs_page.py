"""The tab of runs: what is read of a run that may still be written, and what of it reaches the page."""

import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from longjing.runs import RunDirectory, StageDirectory
from longjing.serving.page.rollout_groups import (
    TokenView,
    card_view,
    earlier_row,
    group_view,
    label,
    most_telling,
    rows_of_step,
    shorten,
    token_parts,
)  # fmt: skip
from longjing.serving.page.runs import Runs
from longjing.serving.page.runs_tab import _page
from longjing.text.reasoning import parse

Row = dict[str, Any]
NOTHING = {"__type__": "update"}  # what `gr.skip()` tells the browser
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onmouseover='alert(3)' ${alert(4)} {{x}} `</div>"


def stage_of(run: Path, kind: str = "reinforce", name: str = "zero", **settings: Any) -> StageDirectory:
    """A stage that has begun, of a run with another that hasn't."""
    settings = {"kind": kind, "name": name, "steps": 10, "model": "nowhere", **settings}
    later = {"kind": "finetune", "name": "later", "model": name}
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump({"name": "r", "stages": [settings, later]}))
    stage = RunDirectory(run).stage(name)
    stage.load_state()
    return stage


def metrics(step: int) -> Row:
    return {
        "step": step, "time": 2.0 * (step + 1), "reward": 1.0 + step / 100, "reward_accuracy": 0.2, "accuracy": 0.25,
        "length_mean": 80.0 + step, "length_max": 200, "tokens_per_second_sampling": 1234.0, "grad_norm": 0.5,
    }  # fmt: skip


def completion(text: str, outcome: str = "wrong", **more: Any) -> Row:
    ids = tiny.tokenizer().encode(text)
    return {
        "text": text, "prefilled": True, "tokens": [*ids, tiny.tokenizer().eos_id],
        "logprobs": [-0.01 * index for index in range(len(ids) + 1)], "rewards": {"accuracy": 0.0, "format": 1.0},
        "reward": 1.0, "advantage": -0.5, "outcome": outcome, "finish_reason": "stop",
    } | more  # fmt: skip


def rollout(step: int, problem: str = "p", prompt: str = "What is 1+1?", *completions: Row) -> Row:
    return {
        "step": step, "problem": problem, "prompt": prompt, "language": "en", "answer": "2",
        "completions": list(completions) or [completion("1+1=3\n</think>\n\n3")],
    }  # fmt: skip


class Elements(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def page(html: Any) -> Elements:
    return Elements(str(html))


@pytest.fixture
def tab(tmp_path: Path) -> Any:
    gradio = pytest.importorskip("gradio")
    runs_tab = pytest.importorskip("longjing.serving.page.runs_tab")
    with gradio.Blocks():
        return runs_tab._Tab(tmp_path)


def look(tab: Any, run: str | None = None, stage: str | None = None, follow: bool = True, seen: Any = None) -> Any:
    return tab.look(run, stage, "log-probability", False, follow, seen)


def test_without_runs_one_learns_how_to_start_one(tab: Any, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert Runs(folder).names() == [] and Runs(folder).stage("a", "b") is None
    updates = look(tab)
    assert f"longjing run r1-zero --out {tmp_path}/r1-zero" in page(updates[tab.status]).text
    assert look(tab, seen=updates[tab.seen]) == NOTHING


def test_runs_are_found_the_newest_first_and_stages_that_have_begun(tmp_path: Path) -> None:
    for age, name in enumerate(("old", "sub/middle", "new")):
        stage = stage_of(tmp_path / name)
        stage.metrics.append(metrics(0))
        for path in (tmp_path / name / "recipe.yaml", stage.metrics.path):
            os.utime(path, (1e9 + age, 1e9 + age))
    stage_of(tmp_path / "far/too/deep")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/recipe.yaml").write_text("stages: [: {")
    runs = Runs(tmp_path)
    assert runs.names()[1:] == ["new", "sub/middle", "old"] and runs.names()[0] == "broken"
    assert runs.stages("new") == ["zero"] and runs.stages("broken") == []
    assert Runs(tmp_path / "new").names() == ["."] and Runs(tmp_path / "new").stages(".") == ["zero"]


@pytest.mark.parametrize("run", ["..", "../out", "/etc", "in/../../out", "", None, "in/", "in\0"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, run: Any) -> None:
    stage_of(tmp_path / "folder/in")
    stage_of(tmp_path / "out")
    runs = Runs(tmp_path / "folder")
    assert runs.stages(run) == [] and runs.stage(run, "zero") is None
    for stage in ("../in/zero", "..", ".", "", None, str(tmp_path / "out/zero")):
        assert runs.stage("in", stage) is None
    stage_of(tmp_path / "folder/evil", name="../../out/zero")
    assert runs.stages("evil") == []


def test_a_stage_is_read_as_it_grows(tmp_path: Path) -> None:
    stage = stage_of(tmp_path / "run")
    runs = Runs(tmp_path)
    stage.metrics.append(metrics(0))
    seen = runs.stage("run", "zero")
    assert seen is not None and seen.status().done == 1
    version = seen.version
    with stage.metrics.path.open("ab") as file:
        file.write(b'{"step": 1, "ti')  # as a look in the middle of a write finds it
    assert runs.stage("run", "zero") is seen and (seen.version, seen.status().done) == (version, 1)
    stage.metrics.rewind(0)
    for step in range(1, 10):
        stage.metrics.append(metrics(step))
    stage.evaluations.append({"step": 9, "split": "test", "pass_at_1": 0.5, "low": 0.4, "high": 0.6, "task": "t"})
    status = runs.stage("run", "zero").status()  # type: ignore[union-attr]
    assert (status.done, status.steps, status.state) == (10, 10, "running") and seen.version > version
    assert dict(status.figures) == {
        "reward": "1.07", "accuracy": "25%", "length": "87", "tokens/s": "1,234", "test problems": "50.0%",
    }  # fmt: skip
    assert [plot.chart.title for plot in seen.charts()[0]] == ["Reward", "Accuracy", "Length", "Speed"]
    stage.finish({})
    assert runs.stage("run", "zero").status().state == "finished"  # type: ignore[union-attr]


def test_a_stage_that_is_silent_for_long_is_quiet(tmp_path: Path) -> None:
    stage = stage_of(tmp_path / "run")
    stage.metrics.append(metrics(0))
    for path in (stage.path, stage.metrics.path):
        os.utime(path, (1e9, 1e9))
    status = Runs(tmp_path).stage("run", "zero").status()  # type: ignore[union-attr]
    assert status.state == "quiet" and status.note.startswith("since 0")


def test_nothing_new_is_nothing_to_do(tab: Any, tmp_path: Path) -> None:
    stage = stage_of(tmp_path / "run")
    stage.metrics.append(metrics(0))
    stage.rollouts.append(rollout(0))
    first = look(tab)
    seen = first[tab.seen]
    assert page(first[tab.charts]).tags >= {"svg", "path"} and "1+1=3" in page(first[tab.rollouts]).text
    assert first[tab.step]["minimum"] < first[tab.step]["maximum"]  # or the slider refuses
    assert look(tab, "run", "zero", seen=seen) == NOTHING
    stage.metrics.append(metrics(1))
    stage.rollouts.append(rollout(1, "q", "And 2+2?"))
    second = look(tab, "run", "zero", follow=False, seen=seen)
    assert tab.charts in second and tab.rollouts not in second and tab.run not in second
    assert second[tab.step]["maximum"] == 2 and "value" not in second[tab.step]
    third = look(tab, "run", "zero", seen=seen)
    assert third[tab.step]["value"] == 2 and "And 2+2?" in page(third[tab.rollouts]).text


def test_whoever_watches_the_last_stage_sees_the_next_one_begin(tab: Any, tmp_path: Path) -> None:
    stage_of(tmp_path / "run")
    seen = look(tab)[tab.seen]
    later = RunDirectory(tmp_path / "run").stage("later")
    later.load_state()
    later.metrics.append({"step": 0, "steps": 5, "time": 1.0, "loss": 2.0})
    assert look(tab, "run", "zero", seen=seen)[tab.stage]["value"] == "later"
    assert look(tab, "run", "zero", follow=False, seen=seen)[tab.stage]["value"] == "zero"


def test_every_kind_of_logged_stage_is_shown(tab: Any, tmp_path: Path) -> None:
    kinds = {
        "pretrain": {"loss": 2.0}, "finetune": {"loss": 2.0}, "reward-model": {"loss": 0.5, "accuracy": 0.9},
        "distill": {"kl": 0.3}, "sample": {"kept": 3, "sampled": 8, "accuracy": 0.4},
    }  # fmt: skip
    for kind, row in kinds.items():
        stage = stage_of(tmp_path / kind, kind, problems=8, problems_per_step=4)
        stage.metrics.append({"step": 0, "time": 1.0, **row})
        updates = look(tab, kind, "zero")
        text = page(updates[tab.status]).text
        assert kind in text and "step 1 of" in text and "<svg" in updates[tab.charts]
        assert ("samples nothing" in updates[tab.rollouts]) == (kind in ("pretrain", "finetune", "reward-model"))


def test_nothing_that_a_model_wrote_is_markup(tab: Any, tmp_path: Path, base: Callable[[str], Path]) -> None:
    stage = stage_of(tmp_path / "run", model=str(base("llama")))
    hostile = completion(f"{HOSTILE}</think>{HOSTILE}", rewards={HOSTILE: 1.0}, finish_reason=HOSTILE)
    plain = completion(HOSTILE, tokens=[], logprobs=[], outcome=HOSTILE, rejected=HOSTILE)
    for step in range(2):
        stage.rollouts.append(rollout(step, HOSTILE, HOSTILE, hostile, plain) | {"answer": HOSTILE})
    stage.metrics.append(metrics(0) | {f"reward_{HOSTILE}": 0.5})
    updates = look(tab)
    shown = [updates[tab.rollouts], updates[tab.charts]]
    for colour in ("log-probability", "advantage"):
        shown.append(tab.choose("run", "zero", colour, True, 2, 0)[tab.rollouts])
    assert "data-facts" in shown[0] and "Before" in shown[-1]
    for html in map(page, shown):
        assert html.tags <= {
            "div", "p", "span", "b", "i", "code", "dl", "dt", "dd", "article", "header", "section", "h4",
            "svg", "g", "path", "line", "text", "circle", "figure", "figcaption",
        }  # fmt: skip
        assert not {name for name in html.attributes if name.startswith("on") or name in ("src", "href")}
    assert page(shown[0]).text.count(HOSTILE) >= 5  # and all of it is there to be read


@given(st.text(max_size=40), st.booleans())
def test_the_tokens_of_a_completion_are_its_text(text: str, closed: bool) -> None:
    text = re.sub("[\ud800-\udfff]", "", text)
    text = tiny.tokenizer().decode(tiny.tokenizer().encode(f"{text}</think>等{text}" if closed else text), True)
    reasoning, answer = token_parts(completion(text), tiny.tokenizer())
    parsed = parse(text)
    for tokens, part in ((reasoning, parsed.reasoning), (answer, parsed.answer)):
        assert "".join(token.text for token in tokens if not token.mark).rstrip() == part
        assert all(token.logprob is not None and token.advantage == -0.5 for token in tokens)
    assert [token.text for token in (reasoning + answer) if token.mark][-1] == "end"


def test_log_probabilities_stay_with_their_tokens() -> None:
    ids = tiny.tokenizer().encode("1+等</think>2")
    logprobs = [-float(index + 1) for index in range(len(ids))]
    row = completion("1+等</think>2", tokens=ids, logprobs=logprobs)
    reasoning, answer = token_parts(row, tiny.tokenizer())
    assert [token.text for token in reasoning] == ["1", "+", "等", "</think>"]
    assert sum(token.logprob or 0 for token in reasoning + answer) == sum(logprobs)
    assert (answer[0].text, answer[0].logprob) == ("2", logprobs[-1])
    taught = row | {"teacher_logprobs": [value + 0.25 for value in logprobs], "advantage": None}
    assert {token.advantage for part in token_parts(taught, tiny.tokenizer()) for token in part} == {0.25}


@pytest.mark.parametrize("change", [{"tokens": [9, 9]}, {"logprobs": []}, {"logprobs": None}, {"text": "other"}])
def test_text_stands_in_where_the_tokens_do_not_say_it(change: Row) -> None:
    row = completion("so</think>2") | change
    reasoning, answer = token_parts(row, tiny.tokenizer())
    assert all(token.logprob is None for token in reasoning + answer)
    assert token_parts(completion("so</think>2"), None)[1] == [TokenView("2", advantage=-0.5)]


def test_what_the_task_said_is_told_apart() -> None:
    """It has no colour, no log-probability and no place in the length: the policy didn't write it."""
    ids, mask = (
        tiny.tokenizer().encode("1+1</think>call"),
        tiny.tokenizer().encode("<｜User｜>= 2<｜Assistant｜><think>\n"),
    )
    more = tiny.tokenizer().encode("so</think>2")
    own, rest = [-3.0] * len(ids), [-3.0] * len(more)
    row = completion("so</think>2", tokens=[*ids, *mask, *more], logprobs=[*own, *[None] * len(mask), *rest])
    row |= {
        "earlier": [{"text": "1+1</think>call", "prefilled": True, "reply": {"role": "user", "content": "<b>= 2"}}],
        "given": [[len(ids), len(ids) + len(mask)]],
    }
    shown = card_view(row, tiny.tokenizer(), 100)
    assert ("tokens", str(len(ids) + len(more))) in shown.facts
    assert [turn.reply for turn in shown.turns] == ["<b>= 2", ""]
    texts = [
        "".join(t.text for t in part if not t.mark) for turn in shown.turns for part in (turn.reasoning, turn.answer)
    ]
    assert texts == ["1+1", "call", "so", "2"]
    every = [token for turn in shown.turns for token in turn.reasoning + turn.answer]
    assert all(token.logprob is not None for token in every)
    shown_group = group_view(rollout(1, "p", "What is 1+1?", row), tiny.tokenizer())
    html = str(_page.cards(shown_group, False))
    assert '<div class="reply"' in html and "&lt;b&gt;= 2</div>" in html
    other = card_view(row | {"tokens": [9]}, tiny.tokenizer(), 100)
    assert [turn.reply for turn in other.turns] == ["<b>= 2", ""], "where the tokens don't say it"


def test_colours_say_how_much() -> None:
    shades = [TokenView("", -value).shade(False, 1.0) for value in (0.0, 0.01, 0.1, 1.0, 4.0, 50.0)]
    assert shades == ["", "", "low n1", "low n2", "low n8", "low n8"]
    assert [TokenView("", 0.0, gain).shade(True, 2.0) for gain in (None, 0.0, 1.0, -2.0)] == [
        "",
        "",
        "up n4",
        "down n8",
    ]
    assert "44.9%" in TokenView("", -0.8).facts and TokenView("a").facts == ""


def test_what_is_too_long_is_cut_in_the_middle() -> None:
    tokens = [TokenView(str(number), -1.0) for number in range(1000)]
    short = shorten(tokens, 100)
    assert (short[:50], short[51:]) == (tokens[:50], tokens[-50:]) and "900 tokens" in short[50].text
    (first, cut, last) = shorten([TokenView("x" * 10_000)], 100)
    assert len(first.text + last.text) == 600 and "9,400 characters" in cut.text and cut.mark
    assert shorten(tokens[:100], 100) == tokens[:100]


def test_before_is_the_same_problem_or_the_one_most_alike(tmp_path: Path) -> None:
    stage = stage_of(tmp_path / "run")
    for step in range(9):
        stage.rollouts.append(rollout(step, f"a{step}", f"Find x: {step}x+1=3."))
        stage.rollouts.append(rollout(step, f"b{step % 6}", f"Sam has {step} apples."))
    seen = Runs(tmp_path).stage("run", "zero")
    assert seen is not None

    def before(step: int, index: int) -> tuple[int, str]:
        row = earlier_row(seen, rows_of_step(seen, step)[index])
        assert row is not None
        return row["step"], row["problem"]

    assert before(8, 0) == (0, "a0")  # of the first step, and of the same kind
    assert before(8, 1) == (2, "b2")  # the same problem
    assert earlier_row(seen, rows_of_step(seen, 0)[0]) is None


def test_the_first_problem_shown_tells_something(tmp_path: Path) -> None:
    rows = [rollout(0), rollout(0, "q", "Q?", completion("a"), completion("b", "correct"))]
    assert most_telling(rows) == 1 and most_telling(rows[:1]) == most_telling([]) == 0
    assert label(1, rows[1]) == "2 · 1 of 2 · Q?"
    assert group_view(rows[1], None).summary == "1 of 2 right · mean reward 1.00 · mean length 2"


def test_the_tokenizer_is_the_models_wherever_it_lies(tmp_path: Path, base: Callable[[str], Path]) -> None:
    runs = Runs(tmp_path / "runs")
    model = base("llama")
    os.symlink(model, tmp_path / "elsewhere")
    for number, given_model in enumerate((str(model), "elsewhere", "nowhere", {"hidden_size": 8})):
        stage_of(tmp_path / f"runs/{number}", model=given_model)
        tokenizer = runs.stage(str(number), "zero").tokenizer()  # type: ignore[union-attr]
        assert (tokenizer is not None) == (number < 2)
    own = RunDirectory(tmp_path / "runs/2").stage("zero")
    os.symlink(model, own.model_path)
    assert runs.stage("2", "zero").tokenizer() is not None  # type: ignore[union-attr]


def test_the_tab_stands_in_any_page(tmp_path: Path) -> None:
    gradio = pytest.importorskip("gradio")
    runs_tab = pytest.importorskip("longjing.serving.page.runs_tab")
    with gradio.Blocks() as blocks, gradio.Tabs(), gradio.Tab("Runs"):
        runs_tab.runs_tab(tmp_path)
    config = blocks.get_config_file()
    events = {name for dependency in config["dependencies"] for _, name in dependency["targets"]}
    assert events >= {"load", "tick", "input"}
    assert not any(dependency["api_visibility"] == "public" for dependency in config["dependencies"])


def test_what_a_browser_is_told_can_be_sent_to_it(tab: Any, tmp_path: Path) -> None:
    stage = stage_of(tmp_path / "run")
    stage.metrics.append(metrics(0))
    updates = look(tab)
    json.dumps([value for component, value in updates.items() if component not in (tab.seen, tab.timer)])


def test_a_stage_that_is_not_running_is_looked_at_less_often(tab: Any, tmp_path: Path) -> None:
    stage = stage_of(tmp_path / "run")
    running = look(tab)
    stage.finish({})
    finished = look(tab, "run", "zero", seen=running[tab.seen])
    assert running[tab.timer].value < finished[tab.timer].value
