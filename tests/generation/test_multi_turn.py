"""Conversations: what the trainer will read is what was sampled and said, token by token."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import tiny
from engine_cases import trainer_logprobs
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.generation.multi_turn import MultiTurnRollout, generate_multi_turn
from longjing.generation.native import scheduler
from longjing.generation.native.engine import Engine
from longjing.generation.request import Generation, Request, Sampling
from longjing.problems import ModelTurn
from longjing.text.reasoning import ReasoningStream
from longjing.text.tokenizer import Tokenizer

IDS = tiny.tokenizer()
OPENINGS = [[{"role": "user", "content": f"Write {n}."}] for n in range(3)]
CONTROL = "<｜User｜> <｜end▁of▁sentence｜> <｜Us<｜User｜>er｜>"


@cache
def model(family: str) -> Any:
    return tiny.network(family, eos_token_id=[IDS.eos_id, *range(20, 40)])


def sample_conversations(
    family: str = "deepseek_v3", turns: int = 4, says: str = "No, 12!", most: int = 60, **options: Any
):  # type: ignore[no-untyped-def]
    """Five conversations with each of the openings, the turns as they were generated, and the engine."""
    engine = Engine(model(family), IDS, record_routes=True, **options)
    made: list[Generation] = []
    generate = engine.generate

    def noted(requests: Sequence[Request], on_step: Any, follow: Any) -> list[Generation]:
        def note(index: int, turn: Generation) -> Request | None:
            made.append(turn)
            following: Request | None = follow(index, turn)
            return following

        return generate(requests, on_step, note)

    engine.generate = noted  # type: ignore[method-assign, assignment]

    def answer(index: int, so_far: Sequence[ModelTurn]) -> dict[str, str] | None:
        return {"role": "user", "content": f"{index} {says}"} if len(so_far) < turns else None

    samplings = [Sampling(seed=seed, max_tokens=most) for seed in range(5)]
    groups = generate_multi_turn(engine, IDS, [(opening, samplings) for opening in OPENINGS], answer)
    return [rollout for group in groups for rollout in group], made, engine


@settings(max_examples=25)
@given(st.text(max_size=30) | st.just(CONTROL), st.integers(1, 4), st.integers(2, 80), st.integers(1, 9))
def test_no_token_is_lost_or_doubled(says: str, turns: int, most: int, rows: int) -> None:
    says = says.encode("utf-8", "ignore").decode()
    rollouts, made, _ = sample_conversations(says=says, turns=turns, most=most, max_batch=rows)
    for rollout in rollouts:
        generation = rollout.generation
        sampled = [token for token, own in zip(generation.tokens, generation.sampled, strict=True) if own]
        assert len(generation.logprobs) == len(sampled) == generation.length <= most
        assert any(part.prompt + part.tokens == generation.prompt + generation.tokens for part in made)
        # Each turn's prompt is all that came before it, and its tokens are those that it sampled.
        text, spans = generation.prompt + generation.tokens, generation.unsampled
        assert len(spans) == len(rollout.turns) - 1
        bounds = [0, *(bound for span in spans for bound in span), len(generation.tokens)]
        assert bounds == sorted(bounds)
        for turn, (start, end) in zip(rollout.turns, zip(bounds[::2], bounds[1::2], strict=True), strict=True):
            own = generation.tokens[start:end]
            assert any(part.prompt == text[: len(generation.prompt) + start] and part.tokens == own for part in made)
            ended = own[-1] in model("deepseek_v3").config.eos_token_id
            assert turn.text == IDS.decode(own[:-1] if ended else own) and turn.prefilled
        for turn, (start, end) in zip(rollout.turns, spans, strict=False):
            assert turn.reply is not None
            reply = IDS.decode(generation.tokens[start:end])
            # One user and one assistant, whatever the reply says: it can't begin or end a turn.
            assert reply.count("<｜User｜>") == reply.count("<｜Assistant｜>") == 1
            assert reply.count("<｜end▁of▁sentence｜>") == (generation.tokens[start - 1] != IDS.eos_id)


@pytest.mark.parametrize("options", [{}, {"max_batch": 2}, {"cache_bytes": 60_000}])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_trainer_reads_what_the_engine_wrote(
    family: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 1 over whole conversations: at most 1e-5 between the two, for every sampled token."""
    monkeypatch.setattr(scheduler, "HEADROOM", 4)  # so that rows outgrow the memory
    rollouts, _, engine = sample_conversations(family, **options)
    assert sum(len(rollout.turns) > 2 for rollout in rollouts) > 3
    for rollout in rollouts:
        generation = rollout.generation
        recomputed = [
            value
            for value, own in zip(trainer_logprobs(model(family), generation).tolist(), generation.sampled, strict=True)
            if own
        ]
        assert recomputed == pytest.approx(generation.logprobs, abs=1e-5)
        if generation.routes is not None:
            assert len(generation.routes) == len(generation.prompt) + len(generation.tokens) - 1
    if "cache_bytes" in options:
        assert engine.stats.preemptions > 0


def test_a_sample_does_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3: one row at a time, in a crowd, or with too little memory."""
    monkeypatch.setattr(scheduler, "HEADROOM", 4)
    wanted = [rollout.generation.tokens for rollout in sample_conversations()[0]]
    for options in ({"max_batch": 1}, {"max_batch": 4}, {"cache_bytes": 50_000}):
        assert [rollout.generation.tokens for rollout in sample_conversations(**options)[0]] == wanted


def test_nothing_is_read_twice() -> None:
    """Each token once: the first prompts once for their group, then only what is new."""
    rollouts, _, engine = sample_conversations()
    prompts = sum(len(IDS.encode_chat(opening)) - 1 for opening in OPENINGS)
    replies = sum(end - start for rollout in rollouts for start, end in rollout.generation.unsampled)
    assert replies > 0
    # The end token was pending: it is read with what is said to it, whose own last token then is.
    assert engine.stats.tokens_prefilled == prompts + replies
    assert engine.stats.tokens_reused > 2 * prompts
    assert engine.memory_in_use == engine.unfinished == 0


def test_others_go_on_while_one_is_answered() -> None:
    """Continuous batching: a conversation waits for its own turn to end, not for everyone's."""
    steps, ended = 0, []
    engine = Engine(model("deepseek_v3"), IDS, end_tokens=())

    def follow(index: int, turn: Generation) -> Request | None:
        ended.append((index, steps))
        return Request([*turn.prompt, *turn.tokens, 7], Sampling(max_tokens=3)) if len(ended) < 3 else None

    def step(finished: int, tokens: int) -> None:
        nonlocal steps
        steps += 1

    requests = [Request([5, 6], Sampling(max_tokens=length)) for length in (2, 9)]
    engine.generate(requests, step, follow)
    assert ended == [(0, 1), (0, 4), (0, 7), (1, 8)]


def test_a_prompt_that_does_not_go_on_is_read_anew() -> None:
    engine = Engine(model("deepseek_v3"), IDS)
    other = Request([9, 8, 7], Sampling(max_tokens=4, seed=3))
    following = iter([other])
    (result,) = engine.generate(
        [Request([5, 6], Sampling(max_tokens=4))], None, lambda index, turn: next(following, None)
    )
    assert result.tokens == engine.generate([other])[0].tokens and result.reused == 0


def test_all_turns_together_have_so_many_tokens() -> None:
    rollouts, _, _ = sample_conversations(turns=9, most=40)
    cut = [rollout for rollout in rollouts if rollout.turns[-1].truncated]
    assert cut and all(rollout.generation.finish_reason == "length" for rollout in cut)
    assert all(rollout.generation.length == 40 for rollout in cut)
    assert all(rollout.turns[-1].reply is None for rollout in rollouts)


def test_a_turn_that_took_the_last_token_is_not_answered() -> None:
    rollout = MultiTurnRollout(IDS, [1, 2], True, Sampling(max_tokens=2))
    rollout.add(Generation([1, 2], [5, IDS.eos_id], [-1.0, -1.0], "stop", "x"))
    assert rollout.reply({"role": "user", "content": "go on"}) is None
    assert rollout.turns[-1].truncated and rollout.generation.finish_reason == "length"


QWEN = (
    "{%- for m in messages -%}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content + '<｜end▁of▁sentence｜>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def test_the_template_says_what_stands_in_between() -> None:
    """Also a `tool` message, where the template knows one, and line ends behind the end token."""
    other = Tokenizer(IDS._backend, IDS._config, QWEN, "other")
    between = other.render_reply({"role": "tool", "content": "12"})
    assert between == "<｜end▁of▁sentence｜>\n<|im_start|>tool\n12<｜end▁of▁sentence｜>\n<|im_start|>assistant\n"
    assert not ReasoningStream.after(between).in_reasoning
    with pytest.raises(UserError, match="tool"):
        IDS.render_reply({"role": "tool", "content": "12"})
    silent = Tokenizer(IDS._backend, IDS._config, "{{ messages[0].content }}", "silent")
    with pytest.raises(UserError, match="what the assistant said"):
        silent.render_reply({"role": "user", "content": "12"})
