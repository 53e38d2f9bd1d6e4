"""The log-probabilities of a text are those that it was sampled with."""

import pytest
import tiny

from longjing.generation.native import Engine, Request, Sampling
from longjing.generation.native.scoring import score


@pytest.mark.parametrize("family", ["deepseek_v3", "llama"])
def test_a_text_is_as_likely_as_when_it_was_written(family):
    model = tiny.network(family)
    engine = Engine(model, None, end_tokens=())
    (made,) = engine.generate([Request([5, 6, 7], Sampling(max_tokens=40, seed=1, top_logprobs=2))])
    scores = score(model, made.prompt + made.tokens, top=2)
    assert len(scores) == 2 + 40
    assert [own for own, _ in scores[2:]] == pytest.approx(made.logprobs, abs=1e-5)
    assert [top[0][1] for _, top in scores[2:]] == pytest.approx([top[0][1] for top in made.top], abs=1e-5)
    assert all(own <= top[0][1] + 1e-6 for own, top in scores)


def test_a_text_in_parts(monkeypatch):
    model = tiny.network("llama")
    whole = score(model, range(3, 30))
    monkeypatch.setattr("longjing.generation.native.scoring._PART", 4)
    parts = score(model, range(3, 30))
    assert [own for own, _ in parts] == pytest.approx([own for own, _ in whole], abs=1e-5)
    assert score(model, [3]) == [] and len(score(model, [3, 4])) == 1
