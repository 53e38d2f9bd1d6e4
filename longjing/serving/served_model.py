"""One model that is served, and how a client's request to it becomes the engine's."""

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from longjing.chat.invalid_request import InvalidRequest, context_exceeded, invalid
from longjing.chat.prompt import BegunReply, Prompt, PromptBuilder
from longjing.chat.reasoning_controller import ReasoningController
from longjing.chat.thinking_budget import budget_of_effort, room_to_think
from longjing.generation.defaults import SamplingDefaults
from longjing.generation.native import Engine, Request, Sampling, sample_seed
from longjing.generation.native.sequence import special_among
from longjing.model.threads import is_small
from longjing.planning import flops
from longjing.serving.messages import template_messages
from longjing.serving.reply_grammar import ReplyGrammars, grammar_parameter
from longjing.serving.response_stream import Job
from longjing.serving.schemas import ChatRequest, CompletionFields, CompletionRequest
from longjing.serving.worker import EngineWorker
from longjing.text import Tokenizer

# As R1's makers recommend and the paper measures it, where a model's own generation_config.json says nothing; OpenAI's
# default, 1, is for models that need no care.
TEMPERATURE, TOP_P = 0.6, 0.95


@dataclass
class ServedModel:
    """One model, its engine's thread, and what it is called. `repetition_guard`: whether replies that go in circles are
    ended where a request doesn't say; None: if the model is small.

    The form of a request was checked by its schema; here it is checked against what the model has: its context, its
    vocabulary, its chat template.
    """

    name: str
    engine: Engine
    tokenizer: Tokenizer
    worker: EngineWorker
    repetition_guard: bool | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    weights: Path | None = None  # where they were read, which adapters may share

    def __post_init__(self) -> None:
        config = self.engine.model.config
        self.context = min(config.max_position_embeddings, self.engine.capacity)
        self.parameters = flops.parameters(config)
        own = SamplingDefaults.of(self.engine.model.generation_config)
        self.defaults = replace(
            own, temperature=TEMPERATURE if own.temperature is None else own.temperature,
            top_p=TOP_P if own.top_p is None else own.top_p,
        )  # fmt: skip
        if self.repetition_guard is None:  # of what large ones repeat much is meant: tables, zeros, rulers
            self.repetition_guard = is_small(self.engine.model)
        self._vocabulary = config.vocab_size
        self._prompts = PromptBuilder(self.tokenizer, self.context)
        self._grammars = ReplyGrammars(
            self.tokenizer, self._vocabulary, self.engine.end_tokens, self._prompts.knows_tools
        )

    def chat(self, request: ChatRequest) -> list[Job]:
        """The `n` completions of a chat, not submitted yet. Raises InvalidRequest."""
        self._refuse_too_many(request.n or 1, "n")
        thinking, budget = self._thinking(request)
        prompt, max_tokens = self._chat_prompt(request, thinking)
        grammar = self._grammars.of(request)
        end_tokens = frozenset() if request.ignore_eos else self.engine.end_tokens
        end_tokens |= special_among(self.tokenizer, request.stop_token_ids or ())
        guard = request.repetition_guard
        if guard is None:  # who asks for a length doesn't want an early end
            guard = bool(self.repetition_guard and not (request.ignore_eos or request.min_tokens))
        jobs = []
        for seed in self._seeds(request):
            controller = ReasoningController(
                self.tokenizer, prompt.tokens, max_tokens, end_tokens, budget=budget, stops=request.stop_strings,
                grammar=grammar and grammar.copy(), everywhere=bool(request.stop_in_reasoning), repetition_guard=guard,
            )  # fmt: skip
            sampling = self._sampling(request, max_tokens, seed, request.top_logprobs or 0)
            whole = Request(prompt.tokens, sampling, controller, prompt.keep)
            notices = _shortened(request.reply_tokens, max_tokens)
            jobs.append(Job(whole, controller, notices, grammar_parameter(request)))
        return jobs

    def complete(self, request: CompletionRequest) -> list[Job]:
        """`n` completions of each prompt, not submitted yet. Raises InvalidRequest."""
        prompts = request.prompts
        self._refuse_too_many(len(prompts) * (request.n or 1), "prompt" if len(prompts) > 1 else "n")
        jobs = []
        for number, prompt in enumerate(prompts):
            tokens = self._plain(prompt) if isinstance(prompt, str) else prompt
            if not tokens:
                if self.tokenizer.bos_id is None:
                    raise invalid("prompt", "it is empty, and the model needs a token to go on from")
                tokens = [self.tokenizer.bos_id]
            self._refuse_unknown(tokens, "prompt")
            max_tokens = self._max_tokens(len(tokens), request.max_tokens, "prompt")
            for seed in self._seeds(request, number):
                sampling = self._sampling(request, max_tokens or 1, seed, request.logprobs or 0, request.stop_strings)
                jobs.append(Job(
                    Request(tokens, sampling, keep=len(tokens) + max_tokens), None,
                    _shortened(request.max_tokens, max_tokens), scoring=request.logprobs if request.echo else None,
                    only_prompt=not request.max_tokens,
                ))  # fmt: skip
        return jobs

    def _plain(self, prompt: str) -> list[int]:
        """The tokens of a text that is no chat."""
        return self.tokenizer.with_bos(self._prompts.encode(prompt, "prompt")[0])

    def _refuse_too_many(self, replies: int, parameter: str) -> None:
        """Refuse more replies than could ever wait at once: for them no queue is ever empty enough."""
        if replies > self.worker.capacity:
            raise invalid(parameter, f"{replies} replies at once, and this server takes {self.worker.capacity}")

    def _thinking(self, request: ChatRequest) -> tuple[bool, int | None]:
        """Whether it thinks, and for how many tokens at most; None for as many as there is room for."""
        thinking, budget, effort = request.thinking, request.budget, request.reasoning_effort
        if thinking is None:
            thinking = effort != "none" and budget != 0
        if thinking and effort is not None and budget is None:
            budget = budget_of_effort(effort, request.reply_tokens or self.context)
        if not thinking and self._prompts.reasons and not self._prompts.switches_thinking:
            name = "chat_template_kwargs" if request.thinking is False else "thinking_budget"
            raise InvalidRequest(
                "thinking can't be turned off: this model's chat template knows no `enable_thinking`",
                "reasoning_effort" if effort == "none" else name,
            )
        return thinking, budget

    def _chat_prompt(self, request: ChatRequest, thinking: bool) -> tuple[Prompt, int]:
        """The prompt, and how many tokens the reply may have."""
        messages, begun = template_messages(request.messages), None
        tools = [tool.model_dump(exclude_none=True) for tool in request.offered_tools]
        if (last := request.continued) is not None and (last.reasoning_text or last.text):
            begun = BegunReply.of(last.reasoning_text, last.text)
        self._prompts.check(messages, tools, begun)
        if last is not None:
            messages.pop()
        if not self._prompts.knows_tools:
            tools = []
        prompt = self._prompts.build(messages, tools, thinking, begun)
        max_tokens = self._max_tokens(len(prompt.tokens), request.reply_tokens)
        chosen = request.thinking is not None or begun is not None
        if thinking and not chosen and not room_to_think(max_tokens) and self._prompts.switches_thinking:
            # What room there is belongs to the answer.
            prompt = self._prompts.without_thinking(prompt, messages, tools)
            max_tokens = self._max_tokens(len(prompt.tokens), request.reply_tokens)
        return prompt, max_tokens

    def _refuse_unknown(self, tokens: Iterable[int], parameter: str) -> None:
        unknown = next((token for token in tokens if token >= self._vocabulary), None)
        if unknown is not None:
            raise invalid(parameter, f"{unknown} is no token; the vocabulary has {self._vocabulary}")

    def _max_tokens(self, prompt: int, wanted: int | None, parameter: str = "messages") -> int:
        """How many tokens the reply may have: those wanted, as far as there is room. A prompt with 0 is only scored."""
        room = self.context - prompt
        wanted = self.defaults.max_new_tokens if wanted is None else wanted
        if room < (wanted != 0):
            raise context_exceeded(self.context, str(prompt), parameter)
        return room if wanted is None else min(wanted, room)

    def _seeds(self, request: CompletionFields, prompt: int = 0) -> list[int]:
        """A seed for each of the `n` completions of a prompt, which is given by its number."""
        seed = secrets.randbits(63) if request.seed is None else request.seed
        return [sample_seed(seed, prompt, "served", sample) for sample in range(request.n or 1)]

    def _sampling(
        self, request: CompletionFields, max_tokens: int, seed: int, top: int, stops: tuple[str, ...] = ()
    ) -> Sampling:
        bias = {int(token): value for token, value in (request.logit_bias or {}).items()}
        self._refuse_unknown(bias, "logit_bias")
        stop_tokens = tuple(request.stop_token_ids or ())
        self._refuse_unknown(stop_tokens, "stop_token_ids")
        if (request.min_tokens or 0) > max_tokens:
            raise invalid("min_tokens", f"{request.min_tokens} is more than the reply may have, {max_tokens}")
        if request.ignore_eos:
            bias |= dict.fromkeys(self.engine.end_tokens - {*stop_tokens}, float("-inf"))
        return self.defaults.sampling(
            temperature=request.temperature, top_p=request.top_p, min_p=request.min_p,
            top_k=None if request.top_k is None else max(0, request.top_k),
            max_tokens=max_tokens, min_tokens=request.min_tokens, stop=stops, stop_token_ids=stop_tokens, seed=seed,
            repetition_penalty=request.repetition_penalty, presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty, logit_bias=bias, top_logprobs=top,
        )  # fmt: skip


def _shortened(wanted: int | None, max_tokens: int) -> tuple[str, ...]:
    """The notice that a reply may be no longer than the context; many clients ask for more, always."""
    if wanted is None or wanted <= max_tokens:
        return ()
    return (f"max_tokens = {wanted} is more than the context has room for: it was taken for {max_tokens}.",)
