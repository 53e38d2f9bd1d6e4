"""The Compare tab: one question, two models, a blind vote, and a tally that says how sure one may be."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import gradio as gr

from longjing.errors import UserError
from longjing.evaluation.bootstrap import wilson
from longjing.openai_client import Endpoint
from longjing.serving.page.chat import EXAMPLES, FORMULAS, QUIET, reply_messages
from longjing.serving.page.markdown import escape_markdown
from longjing.serving.page.model_pool import ModelPool, Seat
from longjing.serving.page.reply_stream import ChatOptions, LocalModel, PageReply, stream_reply

OTHER_SERVER = "another server ..."
_VOTES = ("left", "right", "tie", "neither")


def compare_tab(pool: ModelPool, endpoints: bool) -> None:
    """Build the Compare tab inside the caller's `gr.Tab`. `endpoints`: whether people may name servers to be asked."""
    tab = _CompareTab(pool, endpoints)
    asking = tab.question.submit(
        tab.ask, [tab.question, *tab.sides[0], *tab.sides[1]],
        [*tab.views, tab.pair, tab.verdict, tab.stop, *tab.votes], concurrency_limit=None, **QUIET,
    )  # fmt: skip
    tab.stop.click(lambda: gr.Button(interactive=False), None, tab.stop, cancels=[asking], api_visibility="private")
    for number, button in enumerate(tab.votes):
        button.click(
            partial(tab.vote, number), [tab.pair, tab.tally],
            [tab.verdict, tab.tally, tab.table, tab.pair, *tab.votes], **QUIET,
        )  # fmt: skip
    tab.clear.click(lambda: ({}, ""), None, [tab.tally, tab.table], **QUIET)
    gr.on([tab.tally.change], tally_table, tab.tally, tab.table, **QUIET)


class _CompareTab:
    """The components from the top down, and what happens to them. `sides`: of each model its choice, and the address,
    name and key of one elsewhere; `pair`: the names of those that have just answered, left and right."""

    def __init__(self, pool: ModelPool, endpoints: bool) -> None:
        self._pool, self._endpoints = pool, endpoints
        gr.Markdown("One question, two models, side by side; which is which shows after the vote.")
        with gr.Row():
            self.sides = [self._side(number, label) for number, label in enumerate("AB")]
        with gr.Row():
            self.question = gr.Textbox(
                placeholder="Ask both", show_label=False, scale=5, max_length=20_000, submit_btn=True, stop_btn=False
            )  # fmt: skip
        gr.Examples([[example] for example in EXAMPLES[:4]], self.question, label="For example")
        with gr.Row(equal_height=True):
            self.views = [
                gr.Chatbot(
                    label=side, height="46vh", latex_delimiters=FORMULAS, feedback_options=None, allow_tags=False,
                    buttons=["copy"], min_width=280, elem_classes="lj-compare",
                )
                for side in ("Left", "Right")
            ]  # fmt: skip
        with gr.Row():
            texts = ("Left is better", "Right is better", "Both are good", "Neither is")
            self.stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90)
            self.votes = [gr.Button(text, interactive=False, min_width=130) for text in texts]
        self.verdict = gr.Markdown(elem_classes="lj-verdict")
        self.tally = gr.BrowserState({}, storage_key="longjing-tally", secret="longjing-tally")
        self.table = gr.Markdown()
        self.clear = gr.Button("Forget the tally", size="sm", variant="secondary", min_width=130)
        self.pair = gr.State(None)

    def _side(self, number: int, label: str) -> list[gr.components.Component]:
        with gr.Column(min_width=280):
            names = self._names()
            preset = names[min(number, len(names) - 1)]
            if number and "longjing-base" in names:
                preset = "longjing-base"
            model = gr.Dropdown(names, value=preset, label=f"Model {label}")
            model.focus(lambda: gr.Dropdown(self._names()), None, model, **QUIET)
            with gr.Group(visible=False) as group:
                url = gr.Textbox(label="Address", placeholder="http://localhost:8001/v1")
                name = gr.Textbox(label="Its model's name")
                key = gr.Textbox(label="Key", type="password")
            model.change(lambda chosen: gr.Group(visible=chosen == OTHER_SERVER), model, group, show_progress="hidden")
        return [model, url, name, key]

    def _names(self) -> list[str]:
        return self._pool.names() + ([OTHER_SERVER] if self._endpoints else [])

    async def ask(self, text: str, request: gr.Request, *chosen: str) -> AsyncIterator[Any]:
        """Show both replies as they grow; which model is left and which right is drawn by lot."""
        question, half = text.strip(), len(chosen) // 2
        try:
            if not question:
                raise UserError("ask something first")
            if OTHER_SERVER in chosen and not self._endpoints:
                raise UserError("other servers are asked on 127.0.0.1 or with a key only")
            sides = [
                _model_of(Seat(request.session_hash, "A"), *chosen[:half]),
                _model_of(Seat(request.session_hash, "B"), *chosen[half:]),
            ]
        except UserError as problem:
            raise gr.Error(escape_markdown(str(problem)), duration=6, print_exception=False) from None
        random.shuffle(sides)
        message = {"role": "user", "content": question}
        views: list[list[dict[str, Any]]] = [[message] for _ in sides]
        running = [gr.Button(interactive=True), *[gr.Button(interactive=False)] * len(self.votes)]
        over = [gr.Button(interactive=False), *[gr.Button(interactive=True)] * len(self.votes)]
        yield [*views, None, "", *running]
        replies = [stream_reply(self._pool, model, [message], ChatOptions()) for _, model in sides]
        async for number, reply in _both(replies):
            views[number] = [message, *_blind(reply, self._pool.prices.currency)]
            yield [*views, None, "", *running]
        yield [*views, [name for name, _ in sides], "", *over]

    def vote(self, number: int, pair: list[str] | None, tally: dict[str, Any]) -> list[Any]:
        """Count a vote, and tell which model was which."""
        if not pair:
            return [gr.skip()] * (4 + len(self.votes))
        left, right = pair
        tally = count(tally or {}, left, right, _VOTES[number])
        text = f"Left was **{escape_markdown(left)}**, right was **{escape_markdown(right)}**."
        return [text, tally, tally_table(tally), None, *[gr.Button(interactive=False)] * len(self.votes)]


def _model_of(seat: Seat, model: str, url: str, name: str, key: str) -> tuple[str, LocalModel | Endpoint]:
    """What it is called, and what `stream_reply` takes."""
    if model != OTHER_SERVER:
        return model, LocalModel(model, seat)
    if not (url.startswith(("http://", "https://")) and name):
        raise UserError("say the other server's address, like http://localhost:8001/v1, and its model's name")
    return f"{name} at {url}", Endpoint(url, name, key)


async def _both(replies: list[AsyncIterator[PageReply]]) -> AsyncIterator[tuple[int, PageReply]]:
    """The numbers of the replies with what there is of each, as they grow."""
    pending = {asyncio.ensure_future(anext(reply)): number for number, reply in enumerate(replies)}
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                number = pending.pop(task)
                try:
                    yield number, task.result()
                except StopAsyncIteration:
                    continue
                pending[asyncio.ensure_future(anext(replies[number]))] = number
    finally:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for reply in replies:
            await reply.aclose()  # type: ignore[attr-defined]


def _blind(reply: PageReply, currency: str) -> list[dict[str, Any]]:
    """The reply's messages without what would tell who it is: speed and cost."""
    messages = reply_messages(reply, currency)
    return messages[:-1] if reply.done else messages


def count(tally: dict[str, Any], left: str, right: str, vote: str) -> dict[str, Any]:
    """The tally with one vote more. A pair is the same pair whichever side its models were on."""
    first, second = sorted((left, right))
    key = f"{first}\n{second}"
    wins, losses, ties = tally.get(key, (0, 0, 0))
    if vote in ("tie", "neither"):
        ties += 1
    elif (vote == "left") == (left == first):
        wins += 1
    else:
        losses += 1
    return tally | {key: [wins, losses, ties]}


def tally_table(tally: dict[str, Any]) -> str:
    """All pairs, each with the share of its decided votes that the first won and Wilson's 95% interval."""
    if not tally:
        return ""
    lines = ["| pair | better | ties | share of the first (95%) |", "| --- | --- | --- | --- |"]
    for key, (wins, losses, ties) in tally.items():
        first, second = map(escape_markdown, key.split("\n"))
        decided = wins + losses
        share = "no vote decided yet"
        if decided:
            low, high = wilson(wins / decided, decided)
            share = f"{wins / decided:.0%} ({low:.0%} to {high:.0%})"
        lines.append(f"| {first} : {second} | {wins} : {losses} | {ties} | {share} |")
    return "\n".join(lines)
