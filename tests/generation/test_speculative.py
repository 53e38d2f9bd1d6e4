"""Drafts: that good ones save steps, that the clock decides, and what the module is shown."""

import torch
from engine_cases import LATENT, MODELS, crowd

from longjing.generation.native import Engine, Request, Sampling
from longjing.generation.native.speculative import AdaptiveDrafting
from longjing.model.decoder import Decoder


def run(pace, rows, drafted_cost, plain_cost, steps):
    """What a batch of so many rows is told to do, when steps cost so much a token."""
    calls = []
    for _ in range(steps):
        calls.append(pace.choose(rows))
        pace.note(calls[-1], 1, drafted_cost if calls[-1] else plain_cost)
    return calls


def test_the_faster_way_is_kept_until_the_batch_changes():
    pace = AdaptiveDrafting(trial=4)
    assert run(pace, 8, 1.0, 2.0, 12) == [True] * 4 + [False] * 4 + [True] * 4
    assert run(pace, 15, 2.0, 1.0, 5) == [True] * 5  # not yet twice as many: the verdict holds
    assert run(pace, 16, 2.0, 1.0, 12) == [True] * 4 + [False] * 8
    assert run(pace, 8, 1.0, 2.0, 12) == [True] * 4 + [False] * 4 + [True] * 4


def predictable() -> Decoder:
    """A decoder that always says the next number, and so does its prediction module."""
    model = Decoder(LATENT).initialise(0).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")):
                parameter.zero_()
        model.embed_tokens.weight.normal_(generator=torch.Generator().manual_seed(0))
        model.lm_head.weight.copy_(30 * model.embed_tokens.weight.roll(1, dims=0))
        model.mtp[0].eh_proj.weight.copy_(torch.cat((torch.eye(32), torch.zeros(32, 32)), dim=1))
    return model


def test_right_drafts_halve_the_steps():
    request = Request([10], Sampling(max_tokens=41))
    drafting, plain = (Engine(predictable(), None, end_tokens=(), speculate=way) for way in (True, False))
    (generation,) = drafting.generate([request])
    assert generation.tokens == [(11 + i) % 64 for i in range(41)] == plain.generate([request])[0].tokens
    assert drafting.stats.steps == 21 and plain.stats.steps == 41  # the first guess is blind
    assert drafting.stats.acceptance > 0.9


@torch.no_grad()
def test_the_module_sees_what_it_was_trained_on():
    """Greedy drafts equal those of the module run over the whole sequence, also across rejections."""
    model = MODELS["latent"]
    engine = Engine(model, None, end_tokens=(), speculate=True)
    for request in crowd(4, max_tokens=25, temperature=0.0):
        engine.add(request)
    while engine.unfinished:
        engine.step()
        for sequence in engine._scheduler.running:
            tokens = torch.tensor([sequence.prompt + tuple(sequence.tokens)])
            positions = torch.arange(tokens.shape[1] - 1)[None]
            hidden = model.hidden(tokens[:, :-1], model.context(positions))
            ahead = model.next_hidden(0, tokens[:, 1:], hidden, model.context(positions))
            assert sequence.draft == model.head(ahead[0, -1]).argmax()


def test_auto_falls_back_to_plain_steps_and_back(monkeypatch):
    engine, ways = Engine(MODELS["latent"], None, end_tokens=(), speculate="auto"), []
    script = [True] * 3 + [False] * 4 + [True] * 3 + [False] * 2 + [True] * 50

    def choose(self, rows):
        ways.append(script[len(ways)])
        return ways[-1]

    monkeypatch.setattr(AdaptiveDrafting, "choose", choose)
    monkeypatch.setattr(AdaptiveDrafting, "note", lambda *_: None)
    requests = crowd(6, max_tokens=25)
    expected = Engine(MODELS["latent"], None, end_tokens=()).generate(requests)
    assert [g.tokens for g in engine.generate(requests)] == [g.tokens for g in expected]
    assert False in ways and len(ways) > 12
