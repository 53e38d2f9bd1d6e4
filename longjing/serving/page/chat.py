"""The Chat tab: a conversation, its reasoning apart, its settings beside it."""

from base64 import b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_icon_path

from longjing.serving.page.markdown import from_markdown, to_markdown
from longjing.serving.page.model_pool import ModelPool, Seat
from longjing.serving.page.reply_stream import ChatOptions, LocalModel, PageReply, facts, stream_reply

FORMULAS: list[dict[str, str | bool]] = [
    {"left": "\\(", "right": "\\)", "display": False}, {"left": "\\[", "right": "\\]", "display": True},
    {"left": "$$", "right": "$$", "display": True},
]  # fmt: skip
EXAMPLES = [
    "Use 3, 5 and 7 to make 22. Use each number once.",
    "What is 345+678?",
    "Find x: 3x+4=19.",
    "Leo buys 10 bags with 2 pears in each. Later 2 of the pears turn out to be bad and are thrown away. "
    "How many does Leo have now?",
    "用 2、6 和 9 算出 21，每个数用一次。",
    "Who are you?",
]

# What is set of each event: nobody else may call it, and no bar shows that it runs.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_ASK = "Ask, then Enter"
_WELCOME = "### Ask something whose answer can be checked\nIt thinks before it answers; open the thought to read along."


def chat_tab(pool: ModelPool) -> None:
    """Build the Chat tab inside the caller's `gr.Tab`."""

    async def answer(
        question: str, history: Sequence[Mapping[str, Any]], model: str, thinking: bool, budget: int,
        temperature: float, request: gr.Request,
    ) -> AsyncIterator[list[dict[str, Any]]]:  # fmt: skip
        messages = [*chat_messages(history), {"role": "user", "content": question}]
        options = ChatOptions(thinking, int(budget), float(temperature))
        seat = Seat(request.session_hash, "chat")
        async for reply in stream_reply(pool, LocalModel(model, seat), messages, options):
            yield reply_messages(reply, pool.prices.currency)

    names = pool.names()
    model = gr.Dropdown(names, value=names[0], label="Model", info="loaded when it is first asked", render=False)
    settings: list[str | gr.components.Component] = [
        model,
        gr.Checkbox(True, label="Think before answering", render=False),
        gr.Slider(0, 512, 0, step=16, label="Thinking budget", info="tokens; 0: as many as fit", render=False),
        gr.Slider(0, 1.5, 0.6, step=0.1, label="Temperature", info="0: always the likeliest", render=False),
    ]
    interface = gr.ChatInterface(
        answer,
        chatbot=gr.Chatbot(
            show_label=False, height="60vh", latex_delimiters=FORMULAS, buttons=["copy", "copy_all"],
            feedback_options=None, allow_tags=False, placeholder=_WELCOME,
        ),
        textbox=gr.Textbox(
            placeholder=_ASK, show_label=False, container=False, autofocus=True, max_length=20_000,
            submit_btn=True, stop_btn=True,
        ),
        additional_inputs=settings,
        additional_inputs_accordion=gr.Accordion("Model and settings", open=False, render=False),
        examples=[[example] for example in EXAMPLES],
        editable=True, save_history=True, fill_height=True, concurrency_limit=None, **QUIET,
    )  # fmt: skip

    model.focus(lambda: gr.Dropdown(pool.names()), None, model, **QUIET)
    # Gradio takes the placeholder away while a model answers, and doesn't bring it back.
    for event in (interface.saved_conversations.change, interface.textbox.stop):
        event(lambda: gr.Textbox(placeholder=_ASK), None, interface.textbox, queue=False, **QUIET)
    # Within the page, which serves no files.
    icon = b64encode(Path(get_icon_path("plus.svg")).read_bytes()).decode()
    interface.new_chat_button.icon = {"path": "plus.svg", "url": f"data:image/svg+xml;base64,{icon}"}
    # Else a restarted server couldn't read what a browser keeps of the one before.
    interface.saved_conversations.secret = interface.saved_conversations.storage_key = "longjing-chats"


def reply_messages(reply: PageReply, currency: str) -> list[dict[str, Any]]:
    """A reply as messages: the thought, the answer, and what it took."""
    messages: list[dict[str, Any]] = []
    if reply.reasoning:
        thinking = not reply.answer and not reply.done
        metadata: dict[str, Any] = {
            "title": "Thinking" if thinking else "Thought", "status": "pending" if thinking else "done"
        }  # fmt: skip
        if reply.reasoning_tokens:
            metadata["log"] = f"{reply.reasoning_tokens} tokens"
        if not thinking:
            metadata["duration"] = round(reply.thought_seconds, 2)
        messages.append({"role": "assistant", "content": to_markdown(reply.reasoning), "metadata": metadata})
    if reply.answer or reply.problem:
        text = to_markdown(reply.answer)
        text += f"\n\n**It broke off:** {to_markdown(reply.problem)}" if reply.problem else ""
        messages.append({"role": "assistant", "content": text})
    if reply.done:
        notices = to_markdown("\n".join(reply.notices)) or "Wall time, and its electricity at the stated price."
        metadata = {"title": facts(reply, currency), "status": "done"}
        messages.append({"role": "assistant", "content": notices, "metadata": metadata})
    return messages


def chat_messages(history: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The conversation as the model gets it: questions and answers, no reasoning and no facts."""
    messages: list[dict[str, str]] = []
    for message in history:
        if (message.get("metadata") or {}).get("title"):
            continue
        content = message["content"]
        if not isinstance(content, str):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        if message["role"] == "assistant":
            content = from_markdown(content)
        messages.append({"role": message["role"], "content": content})
    return messages
