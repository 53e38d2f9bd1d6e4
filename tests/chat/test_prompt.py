"""The prompt of a chat: rendered once, whatever is asked; and one that ends in what there is of the reply."""

from typing import Any

import pytest
import tiny

from longjing.chat.invalid_request import InvalidRequest
from longjing.chat.prompt import BegunReply, PromptBuilder
from longjing.errors import UserError
from longjing.serving.messages import ChatMessage
from longjing.text.template import ChatTemplate

ASKED: list[dict[str, Any]] = [{"role": "user", "content": "What is 34+57?"}]
R1 = tiny.tokenizer().template
ALWAYS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<｜Assistant｜>{{ '<think>\n' }}"
ITSELF = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<｜Assistant｜>"  # the model opens it
TOLD = (
    "{{ 'think' if enable_thinking else 'answer' }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{{ '<think>\n' if enable_thinking else '' }}{% endif %}"
)
OFF = "<think>\n\n</think>\n\n"


class Templated:
    """As much of a tokenizer as is needed: a character is a token."""

    origin, control_tokens = "here", {"<｜User｜>"}

    def __init__(self, template: str) -> None:
        self.template = template
        self._made = ChatTemplate(template, "here", {"bos_token": "", "eos_token": "$"})
        self.rendered = 0

    def render(self, *args: Any) -> str:
        self.rendered += 1
        return self._made.render(*args)

    def encode_with_boundary(self, text: str, boundary: int, most: int | None) -> tuple[list[int], int]:
        return list(map(ord, text)), boundary


def builder(template: str) -> PromptBuilder:
    tokenizer: Any = Templated(template)
    return PromptBuilder(tokenizer, 1000)


@pytest.mark.parametrize("template", [R1, ALWAYS, ITSELF])
@pytest.mark.parametrize(
    ("begun", "written"),
    [
        ({"content": "The answer"}, OFF + "The answer"),
        ({"content": "The answer "}, OFF + "The answer "),
        ({"content": "It is 91", "reasoning_content": "34+57\n"}, "<think>\n34+57\n</think>\n\nIt is 91"),
        ({"content": "", "reasoning_content": "34+57: 34+"}, "<think>\n34+57: 34+"),
        ({"reasoning": "34+57: 34+"}, "<think>\n34+57: 34+"),
        ({"content": "<think>\n34+"}, "<think>\n34+"),
        ({"content": "<think>\n34+57\n</think>\n\nIt is"}, "<think>\n34+57\n</think>\n\nIt is"),
        ({"content": "<think>"}, "<think>\n"),
        ({"content": "", "prefix": True}, None),
    ],
)  # fmt: skip
def test_the_prompt_ends_in_what_is_there(template, begun, written):
    prompts, message = builder(template), ChatMessage(role="assistant", **begun)
    prompt = prompts.build(ASKED, [], True, BegunReply.of(message.reasoning_text, message.text)).text
    question, _, turn = prompt.partition("<｜Assistant｜>")
    if written is None:
        assert prompt == prompts.build(ASKED).text
    elif template == ITSELF and written.startswith(OFF):
        assert turn == written.removeprefix(OFF)  # what it doesn't open isn't closed
    else:
        assert turn == written and question.endswith("34+57?")


def test_what_cannot_be_continued():
    prompts = builder(R1)
    begun = BegunReply.of("34+", "")
    with pytest.raises(InvalidRequest):
        prompts.build(ASKED, [], False, begun)
    with pytest.raises(UserError):
        prompts.build([], [], True, begun)


@pytest.mark.parametrize("template", [R1, ALWAYS, ITSELF, TOLD])
@pytest.mark.parametrize("thinking", [True, False])
def test_the_body_is_what_the_template_writes_without_asking_for_a_reply(template, thinking):
    prompts = builder(template)
    if not thinking and not prompts.switches_thinking:
        return
    tokenizer: Any = prompts._tokenizer
    history = [*ASKED, {"role": "assistant", "content": "91"}, *ASKED]
    for messages in (ASKED, history):
        tokenizer.rendered = 0
        prompt = prompts.build(messages, [], thinking)
        assert tokenizer.rendered == 1
        assert prompt.text == tokenizer.render(messages, True, thinking)
        assert prompt.text[: prompt.body] == tokenizer.render(messages, False, thinking)
        assert prompt.keep == (prompt.body if prompts.reasons else 1000)
        if thinking and prompts.switches_thinking:
            assert prompts.without_thinking(prompt, messages, []) == prompts.build(messages, [], False)
