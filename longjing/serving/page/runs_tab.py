"""The tab that shows runs: how they come along, and what they sample. `runs.css` belongs to it."""

import shlex
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from longjing.serving.page.chat import QUIET
from longjing.serving.page.rollout_groups import earlier_row, group_view, label, most_telling, rows_of_step
from longjing.serving.page.runs import Runs, StageView

_EVERY, _SELDOM = 2.0, 10.0  # seconds between two looks at a stage that is running, and at any other
_HERE = Path(__file__).parent
_SCRIPT = (_HERE / "runs.js").read_text("utf-8")
_LOGPROB, _ADVANTAGE = "log-probability", "advantage"

_page: Any = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).get_template("runs.html.jinja").module  # fmt: skip

Updates = dict[Any, Any]  # of components; what isn't named stays as it is


def runs_tab(folder: Path) -> None:
    """Build the tab inside the caller's `gr.Tab`. It shows the runs under `folder`, which it only reads."""
    tab = _Tab(folder)
    chosen = [tab.run, tab.stage, tab.colour, tab.pair]
    shown = [tab.controls, tab.step, tab.problem, tab.rollouts]
    charts = [tab.status, tab.charts, tab.accordion, tab.more]
    looked = [tab.names, tab.run, tab.stage, *charts, *shown, tab.follow, tab.seen, tab.timer]
    quiet = QUIET | {"queue": False}
    blocks = Context.root_block
    assert blocks is not None, "runs_tab stands inside gr.Blocks"
    for event in (blocks.load, tab.timer.tick, tab.run.input, tab.stage.input):
        event(tab.look, [*chosen, tab.follow, tab.seen], looked, **quiet)
    tab.follow.input(tab.catch_up, [*chosen, tab.follow], shown, **quiet)
    for event in (tab.step.input, tab.problem.focus):  # whoever chooses wants to stay there
        event(lambda: False, None, tab.follow, **quiet)
    for event in (tab.step.input, tab.problem.input, tab.colour.input, tab.pair.input):
        event(
            tab.choose, [*chosen, tab.step, tab.problem], [tab.problem, tab.rollouts],
            trigger_mode="always_last", **quiet,
        )  # fmt: skip


class _Tab:
    """The components from the top down, and what happens to them. `seen`: what a browser has been told."""

    def __init__(self, folder: Path) -> None:
        self._runs = Runs(folder)
        self.seen, self.timer = gr.State(None), gr.Timer(_EVERY)
        with gr.Row(visible=False) as self.names:
            self.run = gr.Dropdown([], label="Run", scale=2, min_width=200)
            self.stage = gr.Dropdown([], label="Stage", scale=1, min_width=160)
        self.status, self.charts = _html(), _html()
        with gr.Accordion("More curves", open=False, visible=False) as self.accordion:
            self.more = _html()
        with gr.Column(visible=False) as self.controls:
            gr.Markdown("### Rollouts")
            with gr.Row():
                self.step = gr.Slider(1, 2, step=1, label="Step", scale=1, min_width=220)
                self.problem = gr.Dropdown([], label="Problem", filterable=False, scale=2, min_width=220)
            with gr.Row():
                with gr.Column(min_width=260):
                    self.colour = gr.Radio([_LOGPROB, _ADVANTAGE], value=_LOGPROB, label="Colour tokens by")
                with gr.Column(min_width=260):
                    self.pair = gr.Checkbox(False, label="Before and after")
                    self.follow = gr.Checkbox(True, label="Follow the newest step")
        self.rollouts = _html()

    def look(self, run: str | None, name: str | None, colour: str, pair: bool, follow: bool, seen: Any) -> Any:
        """Whatever has changed since this browser last looked."""
        names = self._runs.names()
        run = run if run in names else next(iter(names), None)
        begun = self._runs.stages(run)
        was = seen if seen and seen["run"] == run and name in begun else None
        if was is None or (follow and name == was["begun"][-1]):
            name = begun[-1] if begun else None  # the last, and the next one when that begins
        stage = self._runs.stage(run, name)
        now: dict[str, Any] = {"names": sorted(names), "run": run, "begun": begun, "stage": name}
        now |= {"status": stage.status(), "version": stage.version} if stage else {}
        if now == seen:
            return gr.skip()
        running = stage is not None and now["status"].state == "running"
        updates: Updates = {self.seen: now, self.timer: gr.Timer(_EVERY if running else _SELDOM)}
        if any(not seen or now[key] != seen[key] for key in ("names", "run", "begun", "stage")):
            updates[self.names] = gr.update(visible=bool(names))
            updates[self.run] = gr.update(choices=names, value=run)
            updates[self.stage] = gr.update(choices=begun, value=name)
        if stage is None:
            return updates | self._nothing(names)
        updates[self.status] = _page.status(name, stage.settings["kind"], now["status"])
        if seen and now["version"] == seen.get("version"):
            return updates
        first, others = stage.charts()
        updates |= {self.charts: _page.charts(first), self.more: _page.charts(others)}
        updates[self.accordion] = gr.update(visible=bool(others))
        if was is None or was["stage"] != name:
            updates[self.follow] = follow = True
        return updates | self._sampled(stage, colour, pair, follow)

    def catch_up(self, run: str | None, name: str | None, colour: str, pair: bool, follow: bool) -> Any:
        """Go to the newest step."""
        stage = self._runs.stage(run, name)
        return self._sampled(stage, colour, pair, follow) if stage and follow else gr.skip()

    def choose(self, run: str | None, name: str | None, colour: str, pair: bool, step: float, index: int | None) -> Any:
        """Another step, problem or view."""
        stage = self._runs.stage(run, name)
        return (stage and self._group(stage, step, index, colour, pair)) or gr.skip()

    def _nothing(self, names: list[str]) -> Updates:
        text = "No stage of this run has begun yet."
        if not names:
            command = shlex.join(["longjing", "run", "r1-zero", "--out", str(self._runs.folder / "r1-zero")])
            text = f"No runs here yet. Start one with `{command}` and watch it learn."
        hidden = gr.update(visible=False)
        updates: Updates = {self.status: _page.note(text), self.accordion: hidden, self.controls: hidden}
        return updates | {self.charts: "", self.rollouts: ""}

    def _sampled(self, stage: StageView, colour: str, pair: bool, follow: bool) -> Updates:
        """The rollouts there are; the newest of them if one follows."""
        steps = stage.rollouts.steps
        if not steps:
            text = (
                "Nothing was sampled yet."
                if stage.kind.samples
                else "This stage learns from texts: it samples nothing."
            )
            return {self.controls: gr.update(visible=False), self.rollouts: _page.note(text)}
        first, last = min(steps) + 1, max(steps) + 1
        updates: Updates = {self.controls: gr.update(visible=True)}
        slider: dict[str, Any] = {"minimum": first, "maximum": max(last, first + 1), "visible": first < last}
        if not follow:
            return updates | {self.step: gr.update(**slider)}
        return updates | {self.step: gr.update(value=last, **slider)} | self._group(stage, last, None, colour, pair)

    def _group(self, stage: StageView, step: float, index: int | None, colour: str, pair: bool) -> Updates:
        """A group of the logged step that is nearest; `index` None: the first that tells something."""
        steps = stage.rollouts.steps
        rows = rows_of_step(stage, min(steps, key=lambda logged: abs(logged + 1 - step))) if steps else []
        if not rows:
            return {}  # the log was cut back just now; the next look knows more
        index = index if index is not None and 0 <= index < len(rows) else most_telling(rows)
        row, tokenizer = rows[index], stage.tokenizer()
        before = earlier_row(stage, row) if pair else None
        shown = _page.rollouts(
            before and group_view(before, tokenizer), group_view(row, tokenizer), colour == _ADVANTAGE
        )
        choices = [(label(number, each), number) for number, each in enumerate(rows)]
        return {self.problem: gr.update(choices=choices, value=index), self.rollouts: shown}


def _html() -> gr.HTML:
    return gr.HTML(elem_classes="runs", apply_default_css=False, js_on_load=_SCRIPT)
