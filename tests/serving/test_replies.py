"""However a completion comes in pieces, the stream says exactly what the whole reply says."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
from hypothesis import example, given
from hypothesis import strategies as st

from longjing.chat.reasoning_controller import ReasoningController
from longjing.generation.native import Chunk, Event, Request
from longjing.serving.chat_completions import ChatReply
from longjing.serving.completions import CompletionReply
from longjing.serving.response_stream import Job, ResponseDelta, ResponseStream
from longjing.serving.responses import ResponsesReply
from longjing.serving.responses_request import ItemStore, ResponsesRequest
from longjing.serving.schemas import ChatRequest, CompletionRequest

TOKENIZER = tiny.tokenizer()
ASKED: Any = [{"role": "user", "content": "?"}]
SERVED: Any = SimpleNamespace(name="tiny", tokenizer=TOKENIZER, engine=SimpleNamespace(end_tokens={TOKENIZER.eos_id}))
TOOLS = [{"type": "function", "name": "f"}]
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TEXTS = st.lists(
    st.sampled_from(["so ", "\n", "  ", "<", "</think>", "<think>", "STOP", "ST", "等", "check", CALL, "<tool_call>"])
).map("".join)  # fmt: skip
WAYS = st.fixed_dictionaries(
    {"stops": st.sampled_from([(), ("STOP",)]), "everywhere": st.booleans(), "prefilled": st.booleans(),
     "reason": st.sampled_from(["stop", "length"])}
)  # fmt: skip
FREE: dict[str, Any] = {"stops": (), "everywhere": False, "prefilled": False}


def pieces(text: str, cuts: list[int], way: dict[str, Any] | None) -> tuple[Job, list[ResponseDelta]]:
    """What a job makes of a completion that the engine hands out in steps; the whole text is answer without a `way`."""
    prompt = [TOKENIZER.token_id("<｜Assistant｜>"), *TOKENIZER.encode("<think>\n" if way and way["prefilled"] else "")]
    tokens, turn, reason = TOKENIZER.encode(text), None, "stop"
    if way:
        turn = ReasoningController(
            TOKENIZER, prompt, 1000, [TOKENIZER.eos_id], stops=way["stops"], everywhere=way["everywhere"]
        )
        reason = way["reason"]
    if reason == "stop":
        tokens = [*tokens, TOKENIZER.eos_id]
    tokens = tokens or TOKENIZER.encode(" ")
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(tokens)}), len(tokens)]
    job, made, seen = Job(Request(prompt), turn), list[ResponseDelta](), ""
    for start, end in zip(places, places[1:], strict=False):
        so_far = TOKENIZER.decode(tokens[:end], skip_special_tokens=True).rstrip("\ufffd" * (end < len(tokens)))
        chunk = Chunk(
            so_far[len(seen) :], tokens[start:end], reason if end == len(tokens) else None, [-1.0] * (end - start)
        )
        seen = so_far
        made.append(job.take(Event(0, chunk)))
        if made[-1].finish_reason:
            break
    return job, made


def whole_and_streamed(reply: Any, job: Job, made: list[ResponseDelta], late: int) -> tuple[dict[str, Any], list[Any]]:
    """The whole reply, and its stream to a reader who is late for some pieces."""

    async def main() -> list[Any]:
        stream = ResponseStream([job])
        for piece in made[:late]:
            stream.deliver(job, piece)

        async def rest() -> None:
            for piece in made[late:]:
                await asyncio.sleep(0)
                stream.deliver(job, piece)

        writing = asyncio.ensure_future(rest())
        events = [event async for event in reply.events(stream)]
        await writing
        return events

    return reply.complete(ResponseStream([job]), [sum(made[1:], made[0])]), asyncio.run(main())


@given(TEXTS, st.lists(st.integers(0, 60)), WAYS, st.booleans(), st.integers(0, 3))
def test_chats(text, cuts, way, tools, late):
    offered = [{"type": "function", "function": {"name": "f"}}] if tools else None
    request = ChatRequest(messages=ASKED, tools=offered, logprobs=True)
    whole, events = whole_and_streamed(ChatReply(request, SERVED), *pieces(text, cuts, way), late)
    (choice,), chunks = whole["choices"], [event["choices"][0] for event in events[:-1]]
    message, deltas = choice["message"], [chunk["delta"] for chunk in chunks]
    for name in ("content", "reasoning", "reasoning_content"):
        joined = "".join(delta.get(name) or "" for delta in deltas)
        assert joined == (message[name] or "") == joined.strip()
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
    assert calls == [call["function"] for call in message.get("tool_calls", ())]
    if way["prefilled"]:  # of a thought that is closed twice the answer has no tag, unless it opens another
        assert ("</think>" in (message["content"] or "")) <= ("<think>" in text)
    broken = any("told as text" in notice for notice in choice["notices"])
    assert broken == (tools and "<tool_call>" in (message["content"] or ""))
    assert list(chunks[-1].get("notices", ())) == list(choice["notices"])
    assert events[-1] == "[DONE]" and chunks[-1]["finish_reason"] == choice["finish_reason"]
    assert choice["finish_reason"] in (("tool_calls", "length") if calls else ("stop", "length"))
    for part in ("content", "reasoning_content"):
        tokens = [token for chunk in chunks if chunk["logprobs"] for token in chunk["logprobs"][part]]
        assert tokens == choice["logprobs"][part]


@example("so <think>so ", [5], FREE | {"reason": "stop"}, False, 0)
@example("so <think>so ", [2], FREE | {"reason": "length"}, False, 0)
@given(TEXTS, st.lists(st.integers(0, 60)), WAYS, st.booleans(), st.integers(0, 3))
def test_responses(text, cuts, way, tools, late):
    request = ResponsesRequest(input="?", tools=TOOLS if tools else None)
    whole, events = whole_and_streamed(ResponsesReply(request, SERVED, ItemStore()), *pieces(text, cuts, way), late)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    final, items, texts = events[-1]["response"], {}, {}
    for event in events:
        index = event.get("output_index")
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert index == len(items)
                items[index] = event["item"]["id"]
            case "content_part.added":
                assert event["content_index"] == 0 and event["item_id"] == items[index]
                texts[index] = ""
            case "output_text.delta" | "reasoning_text.delta" | "function_call_arguments.delta":
                assert event["item_id"] == items[index] and event["delta"]
                texts[index] = texts.get(index, "") + event["delta"]
            case "output_text.done" | "reasoning_text.done":
                assert event["text"] == texts[index]
            case "content_part.done":
                assert event["part"]["text"] == texts[index]
            case "output_item.done":
                assert event["item"] == final["output"][index] and event["item"]["id"] == items[index]

    def essentials(response: dict[str, Any]) -> list[Any]:
        outputs = [
            (item["type"], item.get("content"), item.get("arguments"), item["status"]) for item in response["output"]
        ]  # fmt: skip
        return [sorted(outputs, key=repr), response["status"], response["incomplete_details"], response["usage"]]

    assert essentials(final) == essentials(whole) and len(items) == len(final["output"])
    kinds = [item["type"] for item in whole["output"]]
    assert kinds == sorted(kinds, key=["reasoning", "message", "function_call"].index)


@given(st.text(max_size=12), st.lists(st.integers(0, 30)), st.integers(0, 3))
def test_text_continued(text, cuts, late):
    request = CompletionRequest(prompt="?", logprobs=0)
    whole, events = whole_and_streamed(CompletionReply(request, SERVED), *pieces(text, cuts, None), late)
    (choice,) = whole["choices"]
    mine = [event["choices"][0] for event in events[:-1]]
    assert "".join(one["text"] for one in mine) == choice["text"]
    assert [offset for one in mine for offset in one["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]


@pytest.mark.parametrize(("text", "offsets"), [("a等b", [0, 1, 1, 1, 2]), ("😀é", [0, 0, 0, 0, 1, 1])])
def test_where_tokens_begin_that_are_pieces_of_characters(text, offsets):
    ids = {TOKENIZER.token_bytes(id): id for id in range(TOKENIZER.vocab_size)}
    tokens = [ids[bytes([byte])] for byte in text.encode()]
    job = Job(Request([5]), None)
    piece = job.take(Event(0, Chunk(text, tokens, "length", [-1.0] * len(tokens), [[(tokens[0], -1.0)]] * len(tokens))))
    request = CompletionRequest(prompt="?", logprobs=1)
    (choice,) = CompletionReply(request, SERVED).complete(ResponseStream([job]), [piece])["choices"]
    assert choice["logprobs"]["text_offset"] == offsets
    assert [name.startswith("bytes:\\x") for name in choice["logprobs"]["tokens"]] == [
        byte > 127 for byte in text.encode()
    ]
