"""The models that are served, and how a client's request becomes the engine's."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import longjing
from longjing.chat.reasoning_controller import ReasoningController, room_to_think
from longjing.errors import UserError
from longjing.generation.native import Engine, Request, Sampling, sample_seed
from longjing.planning import flops
from longjing.planning.bill import Prices
from longjing.runs.resolve import shipped
from longjing.serving.continuing import opened
from longjing.serving.errors import Refused
from longjing.serving.grammar import Grammar, Grammars
from longjing.serving.messages import ChatMessage
from longjing.serving.schemas import (
    ChatRequest,
    CompletionRequest,
    Effort,
    JsonFormat,
    NamedTool,
    SchemaFormat,
)
from longjing.serving.tools import bound_tools, knows_tools, refuse_marks, template_messages
from longjing.serving.worker import Job, Worker
from longjing.text import Tokenizer
from longjing.text.tokenizer import TooLong

# As the model's makers recommend and the paper measures it; OpenAI's own default, 1, is for models that need no care.
TEMPERATURE, TOP_P = 0.6, 0.95
# The share of the room for reasoning that each effort may use.
_EFFORTS: dict[Effort, float] = {
    "none": 0.0, "minimal": 0.125, "low": 0.25, "medium": 0.5, "high": 1.0, "xhigh": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class EngineLimits:
    """What one model's engine may use. `queue`: requests that wait beyond the `rows` that run at once. `threads`: of
    the CPU, by default the engine's own choice."""

    rows: int = 256
    queue: int = 256
    cache_bytes: int = 1 << 30
    prefix_bytes: int = 1 << 28
    threads: int | None = None


@dataclass
class Served:
    """One model, its engine's thread, and what it is called."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    worker: Worker
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self._grammars: Grammars | None = None
        self._making = threading.Lock()
        self.length = min(self.engine.model.config.max_position_embeddings, self.engine.capacity)
        self.parameters = flops.parameters(self.engine.model.config)

    def chat(self, asked: ChatRequest) -> list[Job]:
        """The `n` completions of a chat, not submitted yet. Raises Refused."""
        self._refuse_too_many(asked.n or 1, "n")
        thinking, budget = self._effort(asked)
        told, begun = self._told(asked), asked.continued
        prompt, keep = self._prompt(*told, thinking, begun)
        longest = self._longest(len(prompt), asked.longest)
        if (
            thinking and asked.thinking is None and not room_to_think(longest) and self._can_switch_off
            and not (begun and begun.thought)
        ):  # fmt: skip
            thinking = False  # what room there is belongs to the answer
            prompt, keep = self._prompt(*told, thinking, begun)
            longest = self._longest(len(prompt), asked.longest)
        grammar = self._grammar(asked)
        if grammar and begun and begun.text:
            name = "response_format" if asked.response_format else "tools"
            raise Refused(f"{name}: it binds a whole answer, and the last message has begun it", name)
        if grammar and asked.ignore_eos:
            text = "ignore_eos: not where a grammar binds the answer, which then comes to its end"
            raise Refused(text, "ignore_eos")
        everywhere = bool(asked.stop_in_reasoning)
        if everywhere and grammar and asked.budget:
            text = "thinking_budget: with stop_in_reasoning the grammar binds the reasoning, which can't be closed then"
            raise Refused(text, "thinking_budget")
        jobs = []
        for seed in self._seeds(asked.seed, asked.n):
            sampling = self._sampling(asked, longest, seed, asked.top_logprobs or 0)
            turn = ReasoningController(
                self.tokenizer, prompt, longest, () if asked.ignore_eos else self.engine.end_tokens,
                budget=budget, stops=asked.stops,
                answer=grammar and grammar.copy(), everywhere=everywhere,
            )  # fmt: skip
            notices = self._shortened(asked.longest, longest)
            jobs.append(
                Job(Request(prompt, sampling, turn, keep), turn, notices=notices, binding=_binding(asked))
            )
        return jobs

    def complete(self, asked: CompletionRequest) -> list[Job]:
        """`n` completions of each prompt, not submitted yet. Raises Refused."""
        many = len(asked.prompts) > 1
        self._refuse_too_many(len(asked.prompts) * (asked.n or 1), "prompt" if many else "n")
        jobs = []
        for number, prompt in enumerate(asked.prompts):
            tokens = self._encode(prompt, "prompt") if isinstance(prompt, str) else prompt
            if not tokens and self.tokenizer.bos_id is not None:
                tokens = [self.tokenizer.bos_id]
            self._refuse_unknown(tokens, "prompt")
            longest = self._longest(len(tokens), asked.max_tokens, "prompt")
            notices = self._shortened(asked.max_tokens, longest)
            scoring = asked.logprobs if asked.echo else None
            for seed in self._seeds(asked.seed, asked.n, number):
                sampling = self._sampling(asked, longest or 1, seed, asked.logprobs or 0, asked.stops)
                request = Request(tokens, sampling, keep=len(tokens) + longest)
                jobs.append(
                    Job(request, None, scoring=scoring, only_prompt=not asked.max_tokens, notices=notices)
                )
        return jobs

    def _refuse_too_many(self, replies: int, parameter: str) -> None:
        """Those that could never wait all at once: for them no queue is ever empty enough."""
        if replies > self.worker.most:
            text = f"{parameter}: {replies} replies at once, and this server takes {self.worker.most}"
            raise Refused(text, parameter)

    def _effort(self, asked: ChatRequest) -> tuple[bool, int | None]:
        """Whether it thinks, and for how many tokens at most; None for as many as there is room for."""
        thinking, budget, effort = asked.thinking, asked.budget, asked.reasoning_effort
        if thinking is None:
            thinking = effort != "none" and budget != 0
        if effort is not None and budget is None and thinking:
            room = room_to_think(asked.longest or self.length)
            budget = max(1, int(_EFFORTS[effort] * room))
        if not thinking and not self._can_switch_off and self._reasons:
            name = (
                "reasoning_effort" if effort == "none"
                else "chat_template_kwargs" if asked.thinking is False else "thinking_budget"
            )  # fmt: skip
            raise Refused(
                "thinking can't be turned off: this model's chat template knows no `enable_thinking`", name
            )
        return thinking, budget

    @property
    def _reasons(self) -> bool:
        return "think>" in self.tokenizer.template

    @property
    def _can_switch_off(self) -> bool:
        return "enable_thinking" in self.tokenizer.template

    def _told(self, asked: ChatRequest) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Messages and tools as the template takes them."""
        tools = [tool.model_dump(exclude_none=True) for tool in asked.offered]
        refuse_marks(tools, self.tokenizer, "tools", "one of them")
        told = template_messages(asked.messages, self.tokenizer)
        if asked.continued:
            refuse_marks(asked.continued.thought, self.tokenizer, "messages", "the last one's reasoning")
        return told[:-1] if asked.continued else told, tools if self._knows_tools else []

    @property
    def _knows_tools(self) -> bool:
        return knows_tools(self.tokenizer.template)

    def _prompt(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], thinking: bool,
        begun: ChatMessage | None,
    ) -> tuple[list[int], int]:  # fmt: skip
        """It, and how much of this turn is worth keeping for the next. `begun`: what there is of the reply already."""
        tokenizer = self.tokenizer
        try:
            if begun:
                text = opened(tokenizer, messages, tools, thinking, begun)
            else:
                text = tokenizer.render(messages, True, thinking, tools or None)
            if not self._reasons:
                return tokenizer.encode(text, self.length), self.length
            # A turn's reasoning is dropped from the history: what follows the question begins no later prompt.
            return tokenizer.encode_marking(
                text, len(tokenizer.render(messages, False, thinking, tools or None)), self.length
            )
        except TooLong as error:
            raise self._too_long(error.tokens, "messages") from error
        except UserError as error:  # where the model lies is nobody's business
            raise Refused(
                f"messages: {str(error).removeprefix(f'{tokenizer.origin}: ')}", "messages"
            ) from error

    def _encode(self, text: str, parameter: str) -> list[int]:
        try:
            return self.tokenizer.encode(text, self.length)
        except TooLong as error:
            raise self._too_long(error.tokens, parameter) from error
        except UserError as error:
            raise Refused(f"{parameter}: {error}", parameter) from error

    def _refuse_unknown(self, tokens: Iterable[int], parameter: str) -> None:
        vocabulary = self.engine.model.config.vocab_size
        if unknown := [token for token in tokens if token >= vocabulary]:
            text = f"{parameter}: {unknown[0]} is no token; the vocabulary has {vocabulary}"
            raise Refused(text, parameter)

    def _longest(self, prompt: int, wanted: int | None, parameter: str = "messages") -> int:
        """Tokens of the reply: what is wanted, as far as the context has room for it. None are wanted of a prompt that
        is only scored, which may fill the context."""
        room = self.length - prompt
        if room < (wanted != 0):
            raise self._too_long(str(prompt), parameter)
        return room if wanted is None else min(wanted, room)

    def _too_long(self, tokens: str, parameter: str) -> Refused:
        """In the words that OpenAI's clients look for."""
        return Refused(
            f"This model's maximum context length is {self.length} tokens. However, your {parameter} resulted in "
            f"{tokens} tokens, which leaves no room for a reply. Please reduce the length of the {parameter}.",
            parameter, "context_length_exceeded",
        )  # fmt: skip

    def _shortened(self, wanted: int | None, longest: int) -> tuple[str, ...]:
        """Many clients ask for more than a small model has, always."""
        if wanted is None or wanted <= longest:
            return ()
        return (f"max_tokens = {wanted} is more than the context has room for: it was taken for {longest}.",)

    def _seeds(self, seed: int | None, n: int | None, prompt: int = 0) -> list[int]:
        chosen = secrets.randbits(63) if seed is None else seed
        return [sample_seed(chosen, prompt, "served", sample) for sample in range(n or 1)]

    def _sampling(
        self, asked: Any, longest: int, seed: int, top: int, stops: tuple[str, ...] = ()
    ) -> Sampling:
        def given(value: float | None, default: float) -> float:
            return default if value is None else value

        bias = {int(token): value for token, value in (asked.logit_bias or {}).items()}
        self._refuse_unknown(bias, "logit_bias")
        if asked.ignore_eos:
            bias |= dict.fromkeys(self.engine.end_tokens, float("-inf"))
        return Sampling(
            temperature=given(asked.temperature, TEMPERATURE), top_p=given(asked.top_p, TOP_P),
            top_k=max(0, asked.top_k or 0), min_p=asked.min_p or 0.0, max_tokens=longest, stop=stops, seed=seed,
            presence_penalty=asked.presence_penalty or 0.0, frequency_penalty=asked.frequency_penalty or 0.0,
            logit_bias=bias, top_logprobs=top,
        )  # fmt: skip

    def _grammar(self, asked: ChatRequest) -> Grammar | None:
        """What binds the answer: a schema, or tools that are strict or have to be called."""
        schema: dict[str, Any] | None = None
        match asked.response_format:
            case JsonFormat():
                schema = {"type": "object"}
            case SchemaFormat(json_schema=given):
                schema = given.schema_
        forced = asked.tool_choice not in (None, "auto", "none")
        # A model that isn't told of the tools calls none by itself, and knows no arguments but by the grammar.
        offered = asked.offered if forced or self._knows_tools else []
        binding = forced or any(tool.function.strict for tool in offered)
        if schema is None and not binding:
            return None
        with self._making:
            if self._grammars is None:
                vocabulary = self.engine.model.config.vocab_size
                self._grammars = Grammars(self.tokenizer, vocabulary, sorted(self.engine.end_tokens))
        try:
            if schema is not None and not offered:
                return self._grammars.json(schema)
            # Who names one call gets one, and a model that isn't told of the tools would go on calling.
            several = asked.parallel_tool_calls is not False and (
                self._knows_tools and not isinstance(asked.tool_choice, NamedTool)
            )
            return self._grammars.calls(bound_tools(asked, not self._knows_tools), schema, forced, several)
        except UserError as error:
            name = _binding(asked)
            raise Refused(f"{name}: {error}", name) from error


def _binding(asked: ChatRequest) -> str:
    """The parameter that a grammar comes from, if there is one."""
    return "response_format" if isinstance(asked.response_format, JsonFormat | SchemaFormat) else "tools"


class Service:
    """All models that are served, the default one first. More can be loaded while it runs."""

    def __init__(
        self, device: str = "auto", dtype: str = "float32", limits: EngineLimits | None = None
    ) -> None:
        self._device, self._dtype, self._limits = device, dtype, limits or EngineLimits()
        self.on_end: Callable[[str, Job], None] = lambda name, job: None  # in an engine's thread
        self.models: Mapping[str, Served] = {}  # another one each time, for others may be reading it
        self._lent: tuple[Served, ...] = ()
        self._refusing = False
        self._loading = threading.Lock()
        self.prices = Prices()

    def load(self, name_or_path: str) -> Served:
        """Serve one more model; the one that is there already if it is. Raises UserError."""
        name = f"longjing-{name_or_path}" if name_or_path in shipped() else name_or_path
        with self._loading:
            if name in self.models:
                return self.models[name]
            model, tokenizer = longjing.load(name_or_path, self._device, self._dtype)
            return self.serve(name, model, tokenizer)

    def serve(self, name: str, model: Any, tokenizer: Tokenizer) -> Served:
        """Serve a model that is loaded already."""
        served = self._start(name, model, tokenizer)
        self.models = {**self.models, name: served}
        return served

    def lend(self, name_or_path: str) -> Served:
        """A model that isn't served to everybody, until it is `taken_back`. Raises UserError."""
        with self._loading:
            served = self._start(name_or_path, *longjing.load(name_or_path, self._device, self._dtype))
            self._lent = (*self._lent, served)
            return served

    def take_back(self, served: Served) -> None:
        """Close what was lent."""
        with self._loading:
            self._lent = tuple(one for one in self._lent if one is not served)
        served.worker.close()

    def _start(self, name: str, model: Any, tokenizer: Tokenizer) -> Served:
        limits = self._limits
        engine = Engine(
            model, tokenizer, cache_bytes=limits.cache_bytes, max_batch=limits.rows, speculate="auto",
            prefix_bytes=limits.prefix_bytes, threads=limits.threads,
        )  # fmt: skip
        worker = Worker(engine, limits.queue, lambda job: self.on_end(name, job))
        if self._refusing:
            worker.refuse()
        return Served(name, engine, tokenizer, worker)

    def _all(self) -> Iterable[Served]:
        return (*self.models.values(), *self._lent)

    def find(self, name: str | None) -> Served | None:
        """By name, with or without `longjing-`; the default one for None."""
        if name is None:
            return next(iter(self.models.values()))
        return self.models.get(name) or self.models.get(f"longjing-{name}")

    def refuse(self) -> None:
        """Take no more requests."""
        self._refusing = True
        for served in self._all():
            served.worker.refuse()

    def dismiss(self) -> None:
        """Tell those that they come too late whose requests haven't begun to run."""
        for served in self._all():
            served.worker.dismiss()

    def break_off(self) -> None:
        """Tell everybody else that what runs won't be finished."""
        for served in self._all():
            served.worker.break_off()

    def close(self) -> None:
        """Take no more requests, break off what runs, leave."""
        self.refuse()
        for served in self._all():
            served.worker.close()
