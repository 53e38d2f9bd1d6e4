"""The Compare tab: one question, two models, a blind vote, and a tally that says how sure one may be."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from longjing.errors import UserError
from longjing.evaluation.bootstrap import wilson
from longjing.openai_client import Endpoint
from longjing.serving.page.chat import EXAMPLES, FORMULAS, reply_messages
from longjing.serving.page.markdown import escape_markdown
from longjing.serving.page.model_pool import ModelPool, Seat
from longjing.serving.page.reply_stream import ChatOptions, LocalModel, Reply, stream_reply
from longjing.serving.service import Service

OTHER_SERVER = "another server ..."
_VOTES = ("left", "right", "tie", "neither")


def compare_tab(service: Service, pool: ModelPool, endpoints: bool) -> None:
    """Build it inside the caller's tab. `endpoints`: whether people may name addresses that this server then asks."""

    def model_names() -> list[str]:
        return pool.names() + ([OTHER_SERVER] if endpoints else [])

    names = model_names()
    gr.Markdown("One question, two models, side by side; which is which shows after the vote.")
    sides: list[list[gr.components.Component]] = []
    with gr.Row():
        for number, label in enumerate("AB"):
            with gr.Column(min_width=280):
                preset = names[min(number, len(names) - 1)]
                if number and "longjing-base" in names:
                    preset = "longjing-base"
                model = gr.Dropdown(names, value=preset, label=f"Model {label}")
                model.focus(
                    lambda: gr.Dropdown(model_names()),
                    None,
                    model,
                    show_progress="hidden",
                    api_visibility="private",
                )
                with gr.Group(visible=False) as group:
                    url = gr.Textbox(label="Address", placeholder="http://localhost:8001/v1")
                    name = gr.Textbox(label="Its model's name")
                    key = gr.Textbox(label="Key", type="password")
                model.change(
                    lambda chosen: gr.Group(visible=chosen == OTHER_SERVER),
                    model,
                    group,
                    show_progress="hidden",
                )
                sides.append([model, url, name, key])
    with gr.Row():
        question = gr.Textbox(
            placeholder="Ask both",
            show_label=False,
            scale=5,
            max_length=20_000,
            submit_btn=True,
            stop_btn=False,
        )
    gr.Examples([[example] for example in EXAMPLES[:4]], question, label="For example")
    with gr.Row(equal_height=True):
        views = [
            gr.Chatbot(
                label=side, height="46vh", latex_delimiters=FORMULAS, feedback_options=None, allow_tags=False,
                buttons=["copy"], min_width=280, elem_classes="lj-compare",
            )
            for side in ("Left", "Right")
        ]  # fmt: skip
    with gr.Row():
        texts = ("Left is better", "Right is better", "Both are good", "Neither is")
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90)
        votes = [gr.Button(text, interactive=False, min_width=130) for text in texts]
    verdict = gr.Markdown(elem_classes="lj-verdict")
    tally = gr.BrowserState({}, storage_key="longjing-tally", secret="longjing-tally")
    table = gr.Markdown()
    clear = gr.Button("Forget the tally", size="sm", variant="secondary", min_width=130)
    pair = gr.State(None)

    async def ask(text: str, request: gr.Request, *chosen: str) -> AsyncIterator[Any]:
        question_text = text.strip()
        half = len(chosen) // 2
        try:
            if not question_text:
                raise UserError("ask something first")
            if OTHER_SERVER in chosen and not endpoints:
                raise UserError("other servers are asked on 127.0.0.1 or with a key only")
            seats = [Seat(request.session_hash, side) for side in "AB"]
            sides_asked = [_model_of(seats[0], *chosen[:half]), _model_of(seats[1], *chosen[half:])]
        except UserError as problem:
            raise gr.Error(escape_markdown(str(problem)), duration=6, print_exception=False) from None
        order = random.sample([0, 1], 2)
        views_now: list[list[dict[str, Any]]] = [[{"role": "user", "content": question_text}] for _ in order]
        off = [gr.Button(interactive=True), *[gr.Button(interactive=False)] * len(votes)]
        on = [gr.Button(interactive=False), *[gr.Button(interactive=True)] * len(votes)]
        yield [*views_now, None, "", *off]
        message = {"role": "user", "content": question_text}
        replies = [stream_reply(pool, sides_asked[side][1], [message], ChatOptions()) for side in order]
        async for view, reply in _both(replies):
            views_now[view] = [message, *_blind(reply, service.prices.currency)]
            yield [*views_now, None, "", *off]
        pair_names = [sides_asked[side][0] for side in order]
        yield [*views_now, pair_names, "", *on]

    def vote(number: int, shown_pair: list[str] | None, so_far: dict[str, Any]) -> list[Any]:
        if not shown_pair:
            return [gr.skip()] * 4 + [gr.skip()] * len(votes)
        so_far = count(so_far or {}, shown_pair[0], shown_pair[1], _VOTES[number])
        text = (
            f"Left was **{escape_markdown(shown_pair[0])}**, right was **{escape_markdown(shown_pair[1])}**."
        )
        return [text, so_far, tally_table(so_far), None, *[gr.Button(interactive=False)] * len(votes)]

    inputs = [question, *sides[0], *sides[1]]
    asking = question.submit(
        ask, inputs, [*views, pair, verdict, stop, *votes], show_progress="hidden", api_visibility="private",
        concurrency_limit=None,
    )  # fmt: skip
    stop.click(lambda: gr.Button(interactive=False), None, stop, cancels=[asking], api_visibility="private")
    for number, button in enumerate(votes):
        button.click(
            lambda shown_pair, so_far, number=number: vote(number, shown_pair, so_far),
            [pair, tally], [verdict, tally, table, pair, *votes], show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    clear.click(lambda: ({}, ""), None, [tally, table], show_progress="hidden", api_visibility="private")
    gr.on([tally.change], tally_table, tally, table, show_progress="hidden", api_visibility="private")


def _model_of(seat: Seat, model: str, url: str, name: str, key: str) -> tuple[str, LocalModel | Endpoint]:
    """What it is called, and what `stream_reply` takes."""
    if model != OTHER_SERVER:
        return model, LocalModel(model, seat)
    if not (url.startswith(("http://", "https://")) and name):
        raise UserError("say the other server's address, like http://localhost:8001/v1, and its model's name")
    return f"{name} at {url}", Endpoint(url, name, key)


async def _both(replies: list[AsyncIterator[Reply]]) -> AsyncIterator[tuple[int, Reply]]:
    """What either says, as it comes."""
    coming = {asyncio.ensure_future(anext(reply)): number for number, reply in enumerate(replies)}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                number = coming.pop(task)
                try:
                    yield number, task.result()
                except StopAsyncIteration:
                    continue
                coming[asyncio.ensure_future(anext(replies[number]))] = number
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
        for reply in replies:
            await reply.aclose()  # type: ignore[attr-defined]


def _blind(reply: Reply, currency: str) -> list[dict[str, Any]]:
    """Without what would tell who it is: speed and cost."""
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
