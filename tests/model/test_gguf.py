"""GGUF files: their numbers against llama.cpp's own package, and what is wrong with broken ones."""

import tempfile
import weakref
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from model_cases import LLAMA3, batch, deepseek_v2s, deepseeks, dense, denses, difference, network, qwen3_moes
from numpy.testing import assert_array_equal

from longjing.errors import UserError
from longjing.gguf import FORMATS, GGUF, write_gguf
from longjing.model.families.gguf import fields
from longjing.model.store.block_formats import dequantise, quantise
from longjing.model.store.checkpoint import load_model
from longjing.model.store.gguf import write_model

QUANTISED = [form for form in FORMATS.values() if form.count > 1]
few = settings(max_examples=40, deadline=None, derandomize=True)


@few
@given(st.integers(0, 2**32 - 1))
def test_any_bytes_are_read_as_llama_cpp_reads_them(seed: int) -> None:
    for form in QUANTISED:
        data = np.random.default_rng(seed).integers(0, 256, 64 * form.size, dtype=np.uint8)
        with np.errstate(all="ignore"):
            theirs = gguf.quants.dequantize(data.reshape(-1, form.size), GGMLQuantizationType[form.name])
            assert_array_equal(dequantise(data, form.name), theirs.reshape(-1), form.name)


@few
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e4))
def test_numbers_are_rounded_as_llama_cpp_rounds_them(seed: int, size: float) -> None:
    numbers = (np.random.default_rng(seed).standard_normal(32 * 50) * size).astype(np.float32)
    numbers[:32] = 0
    for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"):
        theirs = gguf.quants.quantize(numbers, GGMLQuantizationType[name]).tobytes()
        assert quantise(numbers, name) == theirs, name


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    numbers = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    ours = np.frombuffer(quantise(numbers.numpy(), "BF16"), np.uint16)
    assert_array_equal(ours, numbers.bfloat16().view(torch.uint16).numpy())


FIELDS = {
    "general.architecture": "llama", "a.number": 7, "a.rate": 0.5, "a.switch": True, "some.words": ["á", "", "ß"],
    "some.numbers": [1, -2, 3], "some.rates": [0.25, -1.5],
}  # fmt: skip


def write(path: Path) -> Path:
    generator = np.random.default_rng(0)
    tensors = {
        "first": ((3, 64), FORMATS["Q8_0"]), "second": ((5,), FORMATS["F32"]), "third": ((2, 3, 32), FORMATS["Q4_0"]),
    }  # fmt: skip
    contents = [
        quantise(generator.standard_normal(shape).astype(np.float32), form.name) for shape, form in tensors.values()
    ]
    with path.open("wb") as file:
        write_gguf(file, FIELDS, tensors, iter(contents))
    return path


def test_what_is_written_is_read_here_and_by_llama_cpp(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf")
    ours, theirs = GGUF(path), gguf.GGUFReader(path)
    assert ours.fields == FIELDS
    assert [field.contents() for name, field in theirs.fields.items() if name in FIELDS] == list(FIELDS.values())
    assert [tensor.shape for tensor in ours.tensors.values()] == [(3, 64), (5,), (2, 3, 32)]
    for tensor in theirs.tensors:
        mine = ours.tensors[tensor.name]
        assert tensor.tensor_type.name == mine.format.name
        assert_array_equal(tensor.data.reshape(-1).view(np.uint8), mine.data)


@few
@given(position=st.integers(0, 300), flip=st.integers(0, 255))
def test_a_cut_or_broken_file_is_refused_in_a_sentence(
    position: int, flip: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    content = bytearray(write(path).read_bytes())
    if flip:
        content[position] ^= flip
    else:
        del content[position:]
    path.write_bytes(content)
    try:
        GGUF(path)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: b"GGML" + content[4:], "no GGUF file"),
        (lambda content: content[:4] + b"\1\0\0\0" + content[8:], "version 1"),
        (lambda content: content[:8] + b"\xff" * 8 + content[16:], "promises"),
        (lambda content: content[:-10], "past the end"),
        (lambda content: content[:100], "not a whole GGUF file"),
        (lambda content: b"", "empty"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change, words: str) -> None:
    path = write(tmp_path / "x.gguf")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=words):
        GGUF(path)


def test_formats_that_are_not_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("a", np.zeros((2, 136), np.uint8), raw_dtype=GGMLQuantizationType.IQ4_XS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="a is stored as IQ4_XS, which is not read; known: F32"):
        GGUF(path)


@few
@given(st.one_of(deepseeks(), denses(), qwen3_moes(), deepseek_v2s()), st.sampled_from(["F32", "Q8_0"]))
@torch.no_grad()
def test_a_network_comes_back_from_a_file(shape: dict[str, Any], name: str) -> None:
    assume(shape["rope_parameters"] is not LLAMA3)  # whose numbers aren't Llama 3.1's
    model = network(shape)
    try:
        fields(model.config)
    except UserError:
        assume(False)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.gguf"
        write_model(model, path, name, {})
        again = load_model(path)
        copy = Path(directory) / "y.gguf"
        write_model(again, copy, name, {})
        assert path.read_bytes() == copy.read_bytes(), "the format's numbers are kept"
    written = {"mistral": "llama"}.get(model.config.model_type, model.config.model_type)
    assert again.config.model_type == written
    if name == "F32":
        tokens = batch(model)
        assert difference(again(tokens), model(tokens)) < 1e-5


def test_tensors_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file in four bits, loaded in sixteen, no second tensor in float32 is ever in memory."""
    write_model(network(dense("llama", hidden_size=64, num_hidden_layers=3)), tmp_path / "x.gguf", "Q8_0", {})
    alive: list[weakref.ref[Any]] = []

    def watched(*arguments: Any) -> Any:
        assert not any(array() is not None for array in alive)
        result = dequantise(*arguments)
        alive.append(weakref.ref(result))
        return result

    monkeypatch.setattr("longjing.model.store.gguf.dequantise", watched)
    model = load_model(tmp_path / "x.gguf", dtype=torch.bfloat16)
    assert len(alive) > 20 and model.embed_tokens.weight.dtype == torch.bfloat16


def test_a_part_of_a_model_is_said_to_be_one(tmp_path: Path) -> None:
    with (tmp_path / "x.gguf").open("wb") as file:
        write_gguf(file, {"split.count": 3}, {}, iter(()))
    with pytest.raises(UserError, match="one of 3 parts of a model.*llama-gguf-split --merge"):
        GGUF(tmp_path / "x.gguf")
