"""A reply that has been begun: the conversation's last message is the assistant's, and the model goes on from it.

As DeepSeek's API has it (`prefix`): `content` begins the answer, and `reasoning_content` the reasoning before it. The
reply is what comes behind.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from longjing.serving.errors import Refused
from longjing.serving.messages import ChatMessage
from longjing.text import ReasoningStream, Tokenizer

_OPEN, _CLOSE = "<think>", "</think>"


def opened(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    thinking: bool,
    begun: ChatMessage,
) -> str:
    """The prompt that ends in what `begun` says. An answer that comes without reasoning had none: it is over, not to
    come. A text that opens its reasoning itself, with the tag, is taken at its word.

    Raises Refused for reasoning to be continued where thinking is off, and UserError as the template does.
    """
    thought, said = begun.thought or None, begun.text
    closed = bool(said)
    if thought is None and said.lstrip().startswith(_OPEN):
        thought, tag, said = said.lstrip().removeprefix(_OPEN).partition(_CLOSE)
        thought, said, closed = thought.lstrip("\n"), said.lstrip("\n"), bool(tag)
    if thought is not None and not closed and not thinking:
        raise Refused("messages: the last one begins with reasoning, and thinking is turned off", "messages")
    switches = "enable_thinking" in tokenizer.template
    thinks = thought is not None or not switches or (thinking and not closed)
    prompt = tokenizer.render(messages, True, thinks, tools or None)
    opens = ReasoningStream.after(prompt).in_reasoning
    if thought is not None and not opens:
        prompt += f"{_OPEN}\n"
    if thought is not None:
        prompt += thought.rstrip() if closed else thought
    if closed and (thought is not None or opens):
        prompt += f"\n{_CLOSE}\n\n"
    return prompt + said
