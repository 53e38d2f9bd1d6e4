"""What the `openai` package expects: sync and async, streamed and not."""

import asyncio
import json
from typing import Any, get_args

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from longjing.text.reasoning import parse

ASKED: Any = [{"role": "user", "content": "What is 34+57?"}]
EVENTS = {kind.model_fields["type"].annotation: kind for kind in get_args(get_args(ResponseStreamEvent)[0])}
EVENTS = {get_args(literal)[0]: kind for literal, kind in EVENTS.items()}


@pytest.fixture(scope="module")
def client(r1_server):
    return OpenAI(base_url=f"{r1_server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def later(r1_server):
    return lambda: AsyncOpenAI(base_url=f"{r1_server.url}/v1", api_key="none", max_retries=0)


def strictly(kind: type[BaseModel], value: BaseModel) -> None:
    """Hold a reply against the client's vendored types: the client itself builds them without a look."""
    TypeAdapter(kind).validate_json(json.dumps(value.to_dict(mode="json")), strict=True)


def joined(chunks: list[ChatCompletionChunk], field: str, choice: int = 0) -> str:
    deltas = [one.delta for chunk in chunks for one in chunk.choices if one.index == choice]
    return "".join(getattr(delta, field, None) or "" for delta in deltas)


def test_a_chat_whole_and_streamed_is_the_same(client):
    whole = client.chat.completions.create(model="longjing-r1", messages=ASKED, seed=3)
    strictly(ChatCompletion, whole)
    message = whole.choices[0].message
    assert message.reasoning_content and message.reasoning_content == message.reasoning
    assert "\\boxed{" in message.content and whole.choices[0].finish_reason == "stop"
    chunks = list(client.chat.completions.create(model="r1", messages=ASKED, seed=3, stream=True))
    for chunk in chunks:
        strictly(ChatCompletionChunk, chunk)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert joined(chunks, "content").rstrip() == message.content
    assert joined(chunks, "reasoning").rstrip() == message.reasoning
    assert joined(chunks, "reasoning_content") == joined(chunks, "reasoning")


def test_usage_counts_what_was_written(client, r1_server):
    whole = client.chat.completions.create(model="r1", messages=ASKED, seed=4, logprobs=True)
    *chunks, last = client.chat.completions.create(
        model="r1", messages=ASKED, seed=4, stream=True, stream_options={"include_usage": True}
    )
    assert not last.choices and all(chunk.usage is None for chunk in chunks)
    usage, tokenizer = whole.usage, r1_server.served.tokenizer
    for name in ("prompt_tokens", "completion_tokens", "completion_tokens_details"):
        assert getattr(last.usage, name) == getattr(usage, name)
    assert usage.prompt_tokens == len(tokenizer.encode_chat(ASKED))
    logprobs = whole.choices[0].logprobs
    thought, answer = logprobs.model_extra["reasoning_content"], logprobs.content
    assert usage.completion_tokens_details.reasoning_tokens == len(thought)
    assert usage.completion_tokens == len(thought) + len(answer) + 1  # and the end
    text = b"".join(bytes(token["bytes"]) for token in thought) + b"".join(bytes(t.bytes) for t in answer)
    parsed = parse(text.decode())
    assert (parsed.reasoning, parsed.answer) == (
        whole.choices[0].message.reasoning, whole.choices[0].message.content
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields", [{}, {"reasoning": "hm"}, {"reasoning_content": "hm"}, {"reasoning": "a", "reasoning_content": "b"}]
)
def test_reasoning_in_the_history_is_never_fed_back(client, fields):
    history: Any = [
        *ASKED,
        {"role": "assistant", "content": "\\boxed{91}", **fields},
        {"role": "user", "content": "And 2+3?"},
    ]
    reply = client.chat.completions.create(model="r1", messages=history, max_tokens=8)
    bare = [{key: message[key] for key in ("role", "content")} for message in history]
    assert (
        reply.usage.prompt_tokens
        == client.chat.completions.create(model="r1", messages=bare, max_tokens=8).usage.prompt_tokens
    )
    tagged = [ASKED[0], {"role": "assistant", "content": "<think>\nhm\n</think>\n\n\\boxed{91}"}, history[2]]
    assert (
        reply.usage.prompt_tokens
        == client.chat.completions.create(model="r1", messages=tagged, max_tokens=8).usage.prompt_tokens
    )


def test_a_reply_sent_back_as_it_came(client):
    messages: Any = [{"role": "user", "content": "Use 3, 5 and 7 to make 22. Use each number once."}]
    first = client.chat.completions.create(model="r1", messages=messages, seed=1)
    message = first.choices[0].message.model_dump()
    again = client.chat.completions.create(model="r1", messages=[*messages, message, *ASKED], max_tokens=64)
    assert again.usage.prompt_tokens_details.cached_tokens > 0  # the first question was read before


def test_several_choices(client):
    def ask(**settings):
        return client.chat.completions.create(model="r1", messages=ASKED, n=3, seed=7, temperature=1, **settings)

    whole = ask()
    texts = [choice.message.reasoning for choice in whole.choices]
    assert [choice.index for choice in whole.choices] == [0, 1, 2] and len(set(texts)) > 1
    assert texts == [choice.message.reasoning for choice in ask().choices]
    chunks = list(ask(stream=True))
    assert texts == [joined(chunks, "reasoning", choice).rstrip() for choice in range(3)]
    assert sum(chunk.choices[0].finish_reason is not None for chunk in chunks) == 3


def test_the_clients_own_stream_and_parse(client):
    class Result(BaseModel):
        result: int

    with client.chat.completions.stream(model="r1", messages=ASKED, seed=1) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds and final.choices[0].message.content
    parsed = client.chat.completions.parse(model="r1", messages=ASKED, response_format=Result, seed=1)
    assert isinstance(parsed.choices[0].message.parsed, Result)
    assert parsed.choices[0].message.reasoning  # it thought as it liked


def test_text_continued(client):
    settings: Any = {"model": "r1", "prompt": ["2+3=", "What"], "max_tokens": 6, "seed": 1, "logprobs": 2, "n": 2}
    whole = client.completions.create(**settings)
    strictly(Completion, whole)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    chunks = list(client.completions.create(**settings, stream=True))
    for choice in whole.choices:
        mine = [one for chunk in chunks for one in chunk.choices if one.index == choice.index]
        assert "".join(one.text for one in mine) == choice.text
        assert [token for one in mine for token in one.logprobs.tokens] == choice.logprobs.tokens
        assert [offset for one in mine for offset in one.logprobs.text_offset] == choice.logprobs.text_offset
        assert mine[-1].finish_reason == choice.finish_reason
    twice = client.completions.create(model="r1", prompt=["2+3="] * 2, max_tokens=1, n=2)
    once = client.completions.create(model="r1", prompt="2+3=", max_tokens=1)
    assert twice.usage.prompt_tokens == 2 * once.usage.prompt_tokens
    echoed = client.completions.create(model="r1", prompt="2+3=", max_tokens=2, echo=True)
    assert echoed.choices[0].text.startswith("2+3=")


def test_responses_whole_and_streamed(client):
    whole = client.responses.create(model="r1", input="What is 34+57?", temperature=0)
    strictly(Response, whole)
    assert [item.type for item in whole.output] == ["reasoning", "message"] and whole.output_text
    thought = whole.output[0].content[0].text
    assert whole.usage.output_tokens_details.reasoning_tokens and whole.status == "completed"
    events = list(client.responses.create(model="r1", input="What is 34+57?", temperature=0, stream=True))
    for event in events:
        strictly(EVENTS[event.type], event)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    texts = {kind: "".join(event.delta for event in events if event.type == kind) for kind in (
        "response.reasoning_text.delta", "response.output_text.delta"
    )}  # fmt: skip
    assert texts["response.output_text.delta"] == whole.output_text
    assert texts["response.reasoning_text.delta"] == thought
    back: Any = [{"role": "user", "content": "What is 34+57?"}, *(item.to_dict() for item in whole.output),
                 {"role": "user", "content": [{"type": "input_text", "text": "And 2+3?"}]}]  # fmt: skip
    assert client.responses.create(model="r1", input=back, instructions="Be brief.").output_text
    cut = client.responses.create(model="r1", input="What is 34+57?", max_output_tokens=4)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"
    with client.responses.stream(model="r1", input="What is 2+3?") as stream:
        assert stream.get_final_response().output_text


def test_models(client):
    (model,) = client.models.list()
    strictly(Model, model)
    assert model.id == "longjing-r1" == client.models.retrieve("longjing-r1").id


def test_async(later):
    async def main():
        async with later() as client:
            replies = await asyncio.gather(
                *(client.chat.completions.create(model="r1", messages=ASKED, seed=seed) for seed in range(8))
            )
            stream = await client.chat.completions.create(model="r1", messages=ASKED, seed=3, stream=True)
            chunks = [chunk async for chunk in stream]
            response = await client.responses.create(model="r1", input="What is 2+3?")
            text = await client.completions.create(model="r1", prompt="2+3=", max_tokens=3)
            return replies, chunks, response, text

    replies, chunks, response, text = asyncio.run(main())
    assert joined(chunks, "content").rstrip() == replies[3].choices[0].message.content
    assert response.output_text and text.choices[0].text
