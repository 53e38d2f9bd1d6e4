"""Conversations: read strictly, and encoded so that the model learns what it would write and nothing else."""

import json
from itertools import groupby, islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tiny
from conversation_cases import read_conversations
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from longjing.data.conversations import Conversation, Example, encode_conversation
from longjing.errors import UserError
from longjing.text.tokenizer import Tokenizer
from longjing.toys import corpus

TEMPLATES = Path(__file__).parent / "templates"  # as published
QWEN = (TEMPLATES / "qwen2.5-instruct.jinja").read_text("utf-8")
R1_DISTILL = (TEMPLATES / "deepseek-r1-distill.jinja").read_text("utf-8")
# What the templates of Llama 3 and Qwen3 write, without tools.
LLAMA = r"""
{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + (message.content | trim) + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"""
QWEN3 = r"""
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\n' -}}
    {%- if message.role == 'assistant' and loop.last -%}
        {{- '<think>\n' + (message.reasoning_content or '') + '\n</think>\n\n' -}}
    {%- endif -%}
    {{- message.content + '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
    {%- if enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}
"""
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
    "<｜User｜>", "<｜Assistant｜>",
]  # fmt: skip


def other(template: str, **config: str) -> Tokenizer:
    """A tokenizer of bytes with the special tokens of Qwen2.5 and Llama 3."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    backend.train_from_iterator(["Hello! What is 2+3? 你好"] * 3, trainer)
    return Tokenizer(backend, config, template, "another tokenizer")


TOKENIZERS = {
    "ours": tiny.tokenizer(),
    "qwen2.5": other(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>"),
    "qwen2.5 base": other(QWEN, eos_token="<|endoftext|>"),
    "llama 3": other(LLAMA, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"),
    "r1-distill": other(R1_DISTILL, bos_token="<｜begin▁of▁sentence｜>", eos_token="<｜end▁of▁sentence｜>"),
    "qwen3": other(QWEN3, eos_token="<|im_end|>", pad_token="<|endoftext|>"),
    "plain": other("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", eos_token="<|endoftext|>"),
}  # fmt: skip


def conversation(*turns: str, system: str | None = None, thinking: bool = True) -> Conversation:
    """Turns of user and assistant; an assistant's may be `reasoning | answer`."""
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    for number, turn in enumerate(turns):
        *reasoning, content = turn.split(" | ")
        messages.append({"role": ("user", "assistant")[number % 2], "content": content})
        if reasoning:
            messages[-1]["reasoning_content"] = reasoning[0]
    return Conversation.model_validate({"messages": messages, "thinking": thinking})


def marked(tokenizer: Tokenizer, example: Example) -> str:
    """The example's text, what is learned of it between ⟦ and ⟧."""
    pairs = zip(example.tokens.tolist(), example.loss_mask.tolist(), strict=True)
    return "".join(
        ("⟦{}⟧" if learned else "{}").format(tokenizer.decode([token for token, _ in run]))
        for learned, run in groupby(pairs, key=lambda pair: pair[1])
    )


def encoded(name: str, one: Conversation) -> list[str]:
    return [marked(TOKENIZERS[name], example) for example in encode_conversation(TOKENIZERS[name], one)]


SUM = conversation("What is 2+3?", "2+3=5 | It is \\boxed{5}.")
TALK = conversation("Hi", "Hello!", "Bye", "Bye!", system="Be brief.")
LONG = conversation("What is 2+3?", "2+3=5 | \\boxed{5}", "And 3+3?", "3+3=6 | \\boxed{6}")
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
HEAD = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"


def test_ours_learns_the_reasoning_the_answer_and_the_end() -> None:
    question = f"{BOS}<｜User｜>What is 2+3?<｜Assistant｜>"
    assert encoded("ours", SUM) == [f"{question}<think>\n⟦2+3=5\n</think>\n\nIt is \\boxed{{5}}.{EOS}⟧"]
    # The second question is read behind the first answer without its reasoning, as the template has it.
    assert encoded("ours", LONG) == [
        f"{question}<think>\n⟦2+3=5\n</think>\n\n\\boxed{{5}}{EOS}⟧",
        f"{question}\\boxed{{5}}{EOS}<｜User｜>And 3+3?<｜Assistant｜><think>\n⟦3+3=6\n</think>\n\n\\boxed{{6}}{EOS}⟧",
    ]
    first = f"{BOS}Be brief.<｜User｜>Hi<｜Assistant｜>"
    second = f"{first}Hello!{EOS}<｜User｜>Bye<｜Assistant｜>"
    assert encoded("ours", TALK) == [
        f"{first}<think>\n⟦</think>\n\nHello!{EOS}⟧",
        f"{second}<think>\n⟦</think>\n\nBye!{EOS}⟧",
    ]
    assert encoded("ours", TALK.model_copy(update={"thinking": False})) == [
        f"{first}<think>\n\n</think>\n\n⟦Hello!{EOS}⟧",
        f"{second}<think>\n\n</think>\n\n⟦Bye!{EOS}⟧",
    ]


def test_the_distilled_models_of_deepseek_learn_what_ours_learn() -> None:
    """Their template drops the reasoning of earlier turns too. It can't switch thinking off."""
    assert encoded("r1-distill", SUM) == encoded("ours", SUM)
    assert encoded("r1-distill", LONG) == encoded("ours", LONG)
    assert encoded("r1-distill", TALK) == encoded("ours", TALK)


def test_qwen_learns_every_turn_of_a_plain_talk_at_once() -> None:
    """Its template keeps the history as it was. The line break behind the end token is the template's."""
    assert encoded("qwen2.5", TALK) == [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        "⟦Hello!<|im_end|>⟧\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n⟦Bye!<|im_end|>⟧"
    ]
    question = f"{HEAD}<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n"
    assert encoded("qwen2.5", LONG) == [
        f"{question}⟦<think>\n2+3=5\n</think>\n\n\\boxed{{5}}<|im_end|>⟧",
        f"{question}\\boxed{{5}}<|im_end|>\n<|im_start|>user\nAnd 3+3?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\n3+3=6\n</think>\n\n\\boxed{6}<|im_end|>⟧",
    ]


def test_llama_learns_its_own_end_of_turn() -> None:
    question = (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is 2+3?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    answer = "<think>\n2+3=5\n</think>\n\nIt is \\boxed{5}.<|eot_id|>"
    assert encoded("llama 3", SUM) == [f"{question}⟦{answer}⟧"]
    (example,) = encoded("llama 3", TALK)
    assert example.count("⟦") == 2 and example.endswith("⟦Bye!<|eot_id|>⟧")


def test_the_template_says_what_ends_a_turn() -> None:
    """A Qwen base's tokenizer ends texts otherwise than its template; a template may write no end at all."""
    assert encoded("qwen2.5 base", TALK) == encoded("qwen2.5", TALK)
    assert encoded("plain", conversation("Hi", "Hello!")) == ["user: Hi\n⟦Hello!<|endoftext|>⟧"]


def test_a_template_that_can_write_reasoning_gives_the_same_form() -> None:
    assert encoded("qwen3", SUM) == [
        "<|im_start|>user\nWhat is 2+3?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\n2+3=5\n</think>\n\nIt is \\boxed{5}.<|im_end|>⟧"
    ]
    assert encoded("qwen3", conversation("Hi", "Hello!", thinking=False)) == [
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n⟦Hello!<|im_end|>⟧"
    ]


def weighed(one: Conversation, *weights: int, **changes: Any) -> Conversation:
    """The conversation, its answers with these weights."""
    messages, left = one.model_dump(exclude_none=True)["messages"], iter(weights)
    for message in messages:
        if message["role"] == "assistant":
            message["weight"] = next(left)
    return Conversation.model_validate({"messages": messages, **changes})


def test_a_turn_of_weight_0_is_only_read() -> None:
    first, second = encoded("ours", LONG)
    assert encoded("ours", weighed(LONG, 1, 0)) == [first]
    assert encoded("ours", weighed(LONG, 0, 1)) == [second]
    assert encoded("ours", weighed(LONG, 1, 1)) == [first, second]
    (talk,) = encoded("qwen2.5", TALK)
    assert encoded("qwen2.5", weighed(TALK, 0, 1)) == [talk.replace("⟦Hello!<|im_end|>⟧", "Hello!<|im_end|>")]
    assert encoded("qwen2.5", weighed(TALK, 1, 0)) == [talk[: talk.index("⟧") + 1]]


def test_a_turn_of_weight_0_is_only_read_with_its_reasoning_where_that_is_kept() -> None:
    (whole,) = encoded("qwen2.5", weighed(LONG, 1, 1, keep_reasoning=True))
    assert whole.count("⟦") == 2
    (late,) = encoded("qwen2.5", weighed(LONG, 0, 1, keep_reasoning=True))
    assert late == whole.replace("⟦", "", 1).replace("⟧", "", 1)
    assert encoded("qwen2.5", weighed(LONG, 1, 0, keep_reasoning=True)) == [whole[: whole.index("⟧") + 1]]


words = st.text("ab12 +=你好\n", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(
    st.sampled_from(sorted(TOKENIZERS)), st.lists(st.tuples(words, words | st.just(""), words), min_size=1, max_size=4)
)
def test_every_turn_is_learned_once_behind_the_prompt_that_asks_for_it(
    name: str, turns: list[tuple[str, str, str]]
) -> None:
    """Whatever is cut into examples how: what comes before a learned run is the rendered prompt, to the letter."""
    tokenizer = TOKENIZERS[name]
    messages: list[dict[str, str]] = []
    for question, reasoning, answer in turns:
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, "reasoning_content": reasoning},
        ]
    learned = []
    for example in encode_conversation(tokenizer, Conversation.model_validate({"messages": messages})):
        tokens, loss_mask = example.tokens.tolist(), example.loss_mask.tolist()
        assert not loss_mask[0] and loss_mask[-1]
        starts = [index for index in range(1, len(tokens)) if loss_mask[index] and not loss_mask[index - 1]]
        for start in starts:
            end = next((index for index in range(start, len(tokens)) if not loss_mask[index]), len(tokens))
            learned.append((tokenizer.decode(tokens[:start]), tokenizer.decode(tokens[start : end - 1])))
    assert [prompt for prompt, _ in learned] == [
        tokenizer.render(messages[: 2 * number + 1]) for number in range(len(turns))
    ]
    for (_, completion), (_, reasoning, answer) in zip(learned, turns, strict=True):
        assert completion.endswith(answer) and reasoning in completion
        assert ("</think>" in completion) == (bool(reasoning) or name in ("ours", "r1-distill"))


def test_the_form_is_that_in_which_the_base_was_pretrained() -> None:
    shares = {"countdown": 1.0, "arithmetic": 1.0, "conversation": 2.0}
    documents = list(islice(corpus.documents(0, shares, {}), 60))
    assert {(bool(document.reasoning), document.thinking) for document in documents} >= {
        (True, True), (False, True), (False, False),
    }  # fmt: skip
    for document in documents:
        reply = {"role": "assistant", "reasoning_content": document.reasoning, "content": document.answer}
        question = {"role": "user", "content": document.prompt}
        one = Conversation.model_validate({"messages": [question, reply], "thinking": document.thinking})
        (example,) = encode_conversation(tiny.tokenizer(), one)
        assert example.tokens.tolist() == corpus.encode(document, tiny.tokenizer())


# Reading


def line(*messages: dict[str, Any], **more: Any) -> str:
    return json.dumps({"messages": messages, **more}, ensure_ascii=False)


ASKED, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}


def test_a_file_is_read_in_order_whatever_else_its_lines_hold(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    lines = [
        line(ASKED, SAID, task="talk", step=3),
        "",
        line(ASKED, SAID | {"reasoning_content": "等等\n"}, thinking=True),
        line(ASKED, SAID | {"content": "<think>\n等等\n</think>\n\nhello\n"}),
        line(ASKED, SAID | {"content": "等等</think>hello", "name": "x"}),
        line(ASKED, SAID | {"reasoning_content": None}, thinking=False),
        line(ASKED, SAID | {"reasoning": " 等等"}),
        line(ASKED, SAID | {"reasoning": "等等", "reasoning_content": "等等"}),
        line(  # as a table writes what a row doesn't have
            ASKED | {"weight": None, "thinking": None, "reasoning": None},
            SAID | {"tool_calls": [], "function_call": None, "thinking": "", "reasoning": "等等", "weight": 1},
            tools=None,
            functions=[],
        ),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    read = read_conversations(path)
    assert [one.thinking for one in read] == [True, True, True, True, False, True, True, True]
    assert [one.messages[-1].reasoning for one in read] == ["", *["等等"] * 3, "", *["等等"] * 3]
    assert {one.messages[-1].content for one in read} == {"hello"}


BROKEN = {
    "not json": ("{", "JSON"),
    "no messages": ("{}", "messages"),
    "one message": (line(ASKED), "at least 2"),
    "a strange role": (line(ASKED, SAID | {"role": "gpt"}), "messages.1.role"),
    "no text": (line(ASKED, {"role": "assistant", "content": None}), "messages.1.content"),
    "nobody asks": (line(SAID, SAID), "first message"),
    "nobody answers": (line(ASKED, SAID, ASKED), "last message"),
    "nobody but the system asks": (line({"role": "system", "content": "x"}, SAID), "message 1 .* of the system"),
    "two answers": (line(ASKED, SAID, SAID), "message 2 is the assistant's and follows one of the assistant"),
    "an empty answer": (line(ASKED, SAID | {"content": " \n"}), "empty answer"),
    "reasoning only": (line(ASKED, SAID | {"content": "<think>so</think>"}), "empty answer"),
    "never closed": (line(ASKED, SAID | {"content": "<think>so hello"}), "each tag once"),
    "opened twice": (line(ASKED, SAID | {"content": "<think>a<think>b</think>c"}), "each tag once"),
    "closed twice": (line(ASKED, SAID | {"content": "a</think>b</think>c"}), "each tag once"),
    "opened late": (line(ASKED, SAID | {"content": "a<think>b</think>c"}), "each tag once"),
    "reasoning twice": (
        line(ASKED, SAID | {"content": "<think>a</think>b", "reasoning_content": "a"}), "leave one out",
    ),
    "two reasonings": (line(ASKED, SAID | {"reasoning": "a", "reasoning_content": "b"}), "messages.1: .* differ"),
    "reasoning and tags": (line(ASKED, SAID | {"content": "<think>a</think>b", "reasoning": "a"}), "leave one out"),
    "half a weight": (line(ASKED, SAID | {"weight": 0.5}), "messages.1.weight: Input should be 0 or 1"),
    "a user's weight": (line(ASKED | {"weight": 1}, SAID), "messages.0: only the assistant's messages are learned"),
    "nothing of weight": (line(ASKED, SAID | {"weight": 0}), "each answer has weight 0"),
    "calls": (line(ASKED, SAID | {"tool_calls": [{"id": "1"}]}), "messages.1: `tool_calls` isn't .*write the call"),
    "a call": (line(ASKED, SAID | {"function_call": {"name": "f"}}), "messages.1: `function_call` isn't learned"),
    "thinking in a message": (line(ASKED, SAID | {"thinking": "a"}), "messages.1: `thinking` .*reasoning_content"),
    "thinking off in a message": (line(ASKED | {"thinking": False}, SAID), "messages.0: `thinking` .*beside"),
    "tools": (line(ASKED, SAID, tools=[{"type": "function"}]), "`tools` isn't shown to the model: describe it"),
    "functions": (line(ASKED, SAID, functions=[{"name": "f"}]), "`functions` isn't shown"),
    "thinking turned off": (line(ASKED, SAID | {"reasoning_content": "a"}, thinking=False), "thinking is false"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_named_with_what_is_wrong(name: str, tmp_path: Path) -> None:
    text, complaint = BROKEN[name]
    path = tmp_path / "data.jsonl"
    path.write_text(f"{line(ASKED, SAID)}\n{text}\n{line(ASKED, SAID)}\n")
    with pytest.raises(UserError, match=complaint) as caught:
        read_conversations(path)
    assert f"{path}, line 2: " in str(caught.value) and '{"messages": [' in str(caught.value)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_what_the_tokenizer_takes_for_control_is_refused(name: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[name]
    control = tokenizer.control_tokens
    expected = {BOS, EOS, "<｜▁pad▁｜>", "<｜User｜>", "<｜Assistant｜>"} if name == "ours" else set(SPECIAL)
    assert control == expected
    path = tmp_path / "data.jsonl"
    for token in control:
        text = f"a{token}b"
        replies = [SAID | {"content": text}, SAID | {"reasoning_content": text}]
        for index, messages in (
            (0, (ASKED | {"content": text}, SAID)),
            (1, (ASKED, replies[0])),
            (1, (ASKED, replies[1])),
        ):
            path.write_text(f"{line(ASKED, SAID)}\n{line(*messages)}\n", encoding="utf-8")
            assert len(read_conversations(path)) == 2
            with pytest.raises(UserError) as caught:
                read_conversations(path, control)
            assert f"{path}, line 2: messages.{index} has {token} in its text" in str(caught.value)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.jsonl: No such file"):
        read_conversations(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match="empty.jsonl has no conversation"):
        read_conversations(tmp_path / "empty.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="bytes.jsonl: not UTF-8"):
        read_conversations(tmp_path / "bytes.jsonl")


def test_a_conversation_written_is_the_conversation_read(tmp_path: Path) -> None:
    random = Random(0)
    turns = ["".join(random.choices("ab \n你", k=9)).strip() or "x" for _ in range(6)]
    path = tmp_path / "data.jsonl"
    path.write_text(conversation(*turns, system="s").model_dump_json())
    assert read_conversations(path) == [conversation(*turns, system="s")]
