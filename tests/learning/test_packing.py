"""Packing: no document knows of another, nothing is cut, and padding is never learned."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from longjing.learning.mtp_loss import ahead
from longjing.learning.packing import Packed, pack
from longjing.learning.text_losses import losses

PAD = 99
documents = st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=12), max_size=30)


def placed(packed: Packed) -> list[list[list[int]]]:
    """The documents of each row, in order."""
    return [
        [tokens[segments == number].tolist() for number in range(1, int(segments.max()) + 1)]
        for tokens, segments in zip(packed.tokens, packed.segments, strict=True)
    ]


@given(documents, st.integers(1, 4), st.integers(4, 24))
def test_every_document_is_whole_or_left_out(texts: list[list[int]], rows: int, length: int) -> None:
    packed = pack(texts, rows, length, PAD)
    contents = placed(packed)
    # First fit, written down once more: the order of documents decides alone.
    expected: list[list[list[int]]] = [[] for _ in range(rows)]
    misses = 0
    for text in texts:
        row = next((row for row in expected if sum(map(len, row)) + len(text) <= length), None)
        if row is None:
            misses += 1
            if misses == 8:
                break
        else:
            row.append(text)
    assert contents == expected


@given(documents, st.integers(1, 4), st.integers(4, 24))
def test_positions_padding_and_what_is_learned(texts: list[list[int]], rows: int, length: int) -> None:
    packed = pack(texts, rows, length, PAD)
    for row, content in enumerate(placed(packed)):
        used = sum(map(len, content))
        assert packed.positions[row, :used].tolist() == [index for text in content for index in range(len(text))]
        assert packed.loss_mask[row, :used].tolist() == [index > 0 for text in content for index in range(len(text))]
        assert (packed.tokens[row, used:] == PAD).all()
        assert (packed.segments[row, used:] == 0).all() and not packed.loss_mask[row, used:].any()


def test_an_endless_stream_is_read_only_as_far_as_it_fits() -> None:
    drawn = 0

    def stream():
        nonlocal drawn
        while True:
            drawn += 1
            yield [drawn] * 5

    packed = pack(stream(), 2, 12, PAD)
    assert [len(row) for row in placed(packed)] == [2, 2] and drawn == 4 + 8


@given(documents, st.integers(1, 3), st.integers(6, 24), st.integers(1, 3))
def test_targets_ahead_are_those_of_each_document_alone(
    texts: list[list[int]], rows: int, length: int, distance: int
) -> None:
    """At `distance` tokens ahead (2 and more are for multi-token prediction)."""
    packed = pack(texts, rows, length, PAD)
    targets, counts = ahead(packed, distance)
    assert targets.shape == counts.shape == (rows, length - distance)
    expected = [[text[index] for text in content for index in range(distance, len(text))] for content in placed(packed)]
    assert [row[kept].tolist() for row, kept in zip(targets, counts, strict=True)] == expected


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_packed_document_is_predicted_as_it_is_alone(family: str) -> None:
    """The same log-probability of every token, and the same losses, whatever stands around it."""
    random = torch.Generator().manual_seed(0)
    model = tiny.network(family)
    texts = [torch.randint(290, (size,), generator=random).tolist() for size in (9, 14, 3, 20, 1, 6, 11)]
    packed = pack(texts, 3, 24, PAD)
    assert sorted(map(len, placed(packed))) == [2, 2, 3]
    with torch.no_grad():
        logprobs = model(packed.tokens, packed.positions, packed.segments).log_softmax(dim=-1)
        for row, content in enumerate(placed(packed)):
            start = 0
            for text in content:
                alone = model(torch.tensor([text]))[0].log_softmax(dim=-1)
                torch.testing.assert_close(logprobs[row, start : start + len(text)], alone, rtol=0, atol=1e-5)
                start += len(text)
        together = losses(model, packed)
        apart = [losses(model, pack([text], 1, len(text), PAD)) for text in texts if len(text) > 2]
        sizes = torch.tensor([len(text) for text in texts if len(text) > 2])
    for name, distance in (("next_token", 1), ("further", 2)):
        counted = sizes - distance
        mean = (torch.stack([getattr(loss, name) for loss in apart]) * counted).sum() / counted.sum()
        torch.testing.assert_close(getattr(together, name), mean, rtol=0, atol=1e-5)
    assert (together.further > 0) == bool(model.mtp)


def test_padding_is_never_learned() -> None:
    """What the padding is, or where it makes the row end, changes neither losses nor gradients."""
    model = tiny.network("deepseek_v3", num_nextn_predict_layers=2)
    texts = [[1, 5, 9, 7, 30], [8, 2, 6]]

    def outcome(length: int, pad: int) -> list[torch.Tensor]:
        model.zero_grad()
        loss = losses(model, pack(texts, 1, length, pad))
        (loss.next_token + loss.further).backward()
        return [loss.next_token, loss.further, *(p.grad for p in model.parameters() if p.grad is not None)]

    expected = outcome(8, 0)
    for length, pad in ((8, 250), (13, 250), (13, 5)):
        for got, wanted in zip(outcome(length, pad), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_losses_are_cross_entropies_of_the_right_targets() -> None:
    """By hand, on one document: the head reads h_i for token i + 1, and the module [h_i; t_i+1] for i + 2."""
    model = tiny.network("deepseek_v3")
    text = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    loss = losses(model, pack(text.tolist(), 1, 8, PAD))
    positions = torch.arange(8)[None]
    hidden = model.hidden(text, model.context(positions))
    torch.testing.assert_close(loss.next_token, F.cross_entropy(model.head(hidden)[0, :-1], text[0, 1:]))
    ahead_of = model.next_hidden(0, text[:, 1:], hidden[:, :-1], model.context(positions[:, :-1]))
    torch.testing.assert_close(loss.further, F.cross_entropy(model.head(ahead_of)[0, :-1], text[0, 2:]))


def test_several_modules_predict_further_and_their_losses_are_averaged() -> None:
    one, two = (tiny.network("deepseek_v3", num_nextn_predict_layers=depth) for depth in (1, 2))
    shared = {name: p for name, p in two.state_dict().items() if name in one.state_dict()}
    one.load_state_dict(shared)
    text = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    packed = pack(text.tolist(), 1, 8, PAD)
    positions = torch.arange(8)[None]
    hidden = two.hidden(text, two.context(positions))
    first = two.next_hidden(0, text[:, 1:], hidden[:, :7], two.context(positions[:, :7]))
    second = two.next_hidden(1, text[:, 2:], first[:, :6], two.context(positions[:, :6]))
    third_ahead = F.cross_entropy(two.head(second)[0, :-1], text[0, 3:])
    expected = (losses(one, packed).further + third_ahead) / 2
    torch.testing.assert_close(losses(two, packed).further, expected)
