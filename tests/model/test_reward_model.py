"""Reward models against those of `transformers`, and their files."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_cases import deepseek, deepseeks, dense, denses, difference, network
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from longjing.errors import UserError
from longjing.model.reward_model import RewardModel
from longjing.model.store.checkpoint import load_model, load_reward_model, save_model

PAD = 60  # the last of the 61 tokens; no text holds it
TEXTS = [[5, 9, 11, 2, 7, 30, 1], [3], [8, 8, 41, 1], list(range(20))]
few = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
anything = st.one_of(deepseeks(), denses())


def reward_model(shape: dict[str, Any], seed: int = 0) -> RewardModel:
    model = RewardModel.from_decoder(network(shape, seed), PAD)
    generator = torch.Generator().manual_seed(seed)
    model.lm_head.weight = nn.Parameter(torch.randn(model.lm_head.weight.shape, generator=generator))
    return model.eval()


def padded() -> Tensor:
    length = max(map(len, TEXTS))
    return torch.tensor([text + [PAD] * (length - len(text)) for text in TEXTS])


@few
@given(anything, st.integers(0, 1000))
@torch.no_grad()
def test_scores_equal_those_of_transformers(shape: dict[str, Any], seed: int) -> None:
    model = reward_model(shape, seed)
    with tempfile.TemporaryDirectory() as directory:
        save_model(model, directory)
        theirs, report = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
    assert not any(report.values()), report
    assert type(theirs).__name__.endswith("ForSequenceClassification") and theirs.config.num_labels == 1
    scores = model.score(TEXTS)
    assert scores.std() > 0.1
    assert difference(scores, theirs.eval()(padded()).logits[:, 0]) < 1e-4


@few
@given(anything)
@torch.no_grad()
def test_what_transformers_saves_loads_and_scores_the_same(shape: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**shape, num_labels=1, pad_token_id=PAD)
    theirs = AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in theirs.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory)
        scores = load_reward_model(directory).score(TEXTS)
    assert scores.std() > 0.01
    assert difference(scores, theirs(padded()).logits[:, 0]) < 1e-4


@pytest.mark.parametrize(
    "shape",
    [deepseek(tie_word_embeddings=True, num_nextn_predict_layers=2), dense("qwen2", tie_word_embeddings=True)],
    ids=["deepseek_v3", "qwen2"],
)
def test_a_directory_holds_the_body_and_the_score_and_comes_back_bit_by_bit(
    shape: dict[str, Any], tmp_path: Path
) -> None:
    model = reward_model(shape)
    save_model(model, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = load_reward_model(tmp_path)
    assert again.config == model.config and not again.training
    kept = again.state_dict()
    assert kept.keys() == model.state_dict().keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(again.score(TEXTS), model.score(TEXTS))


def test_a_new_reward_model_takes_the_body_over_and_scores_zero() -> None:
    decoder = network(deepseek())
    model = RewardModel.from_decoder(decoder, None)
    assert model.score(TEXTS).tolist() == [0.0] * len(TEXTS)
    assert model.layers is decoder.layers and model.embed_tokens is decoder.embed_tokens
    body = [name for name, _ in decoder.named_parameters() if not name.startswith(("mtp.", "lm_head"))]
    assert [name for name, _ in model.named_parameters()] == [*body, "lm_head.weight"]


@given(st.lists(st.lists(st.integers(0, 59), min_size=1, max_size=12), min_size=1, max_size=5))
@settings(max_examples=20)
@torch.no_grad()
def test_a_score_is_that_of_the_text_alone(texts: list[list[int]]) -> None:
    model = reward_model(dense("llama"))
    alone = torch.cat([model.score([text]) for text in texts])
    assert difference(model.score(texts), alone) < 1e-4  # scores reach 20


@torch.no_grad()
def test_the_last_token_counts() -> None:
    model = reward_model(deepseek())
    scores = model.score([[4, 5, 1], [4, 5, 6], [9, 5, 1], [4, 5]])
    assert len({round(score, 5) for score in scores.tolist()}) == 4


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    save_model(reward_model(dense("llama")), tmp_path / "reward")
    save_model(network(dense("llama")), tmp_path / "language")
    config = AutoConfig.for_model(**dense("llama"), num_labels=2)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "two")
    with pytest.raises(UserError, match=r"score\.weight is missing"):
        load_reward_model(tmp_path / "language")
    with pytest.raises(UserError, match=f"{tmp_path / 'reward'} holds a reward model"):
        load_model(tmp_path / "reward")
    with pytest.raises(UserError, match=r"score\.weight has shape \[2, 32\]"):
        load_reward_model(tmp_path / "two")
