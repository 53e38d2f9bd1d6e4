"""Checkpoints that others' tools have quantised: each is packed here number by number, as its format says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_cases import dense, difference, network
from safetensors.torch import load_file, save_file
from torch import Tensor

from longjing.errors import UserError
from longjing.model.store.checkpoint import load_model, save_model

GROUP = 16
Parts = tuple[dict[str, Tensor], Tensor]
Maker = Callable[[np.random.Generator, int, int], Parts]


def pack(numbers: np.ndarray, bits: int, order: list[int] | None = None) -> Tensor:
    """Each row's numbers, so many to an int32, the first in the lowest bits."""
    count = 32 // bits
    rows, columns = numbers.shape
    packed = np.zeros((rows, -(-columns // count)), np.uint32)
    for row in range(rows):
        for column in range(columns):
            index = column % count if order is None else order.index(column % count)
            packed[row, column // count] |= np.uint32(int(numbers[row, column]) << bits * index)
    return torch.from_numpy(packed.view(np.int32))


def groups_of(random: np.random.Generator, inputs: int, shuffled: bool) -> np.ndarray:
    group = np.arange(inputs) // GROUP
    return random.permutation(group) if shuffled else group


def scales_of(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (0.01 + 0.05 * random.random(shape)).astype(np.float16)


def gptq(bits: int, shuffled: bool, offset: int = 1) -> Maker:
    def make(random: np.random.Generator, rows: int, inputs: int) -> Parts:
        numbers, group = random.integers(0, 2**bits, (inputs, rows)), groups_of(random, inputs, shuffled)
        zeros = random.integers(0, 2**bits, (inputs // GROUP, rows))
        scales = scales_of(random, inputs // GROUP, rows)
        expected = np.empty((rows, inputs), np.float32)
        for i in range(rows):
            for j in range(inputs):
                expected[i, j] = np.float32(scales[group[j], i]) * (numbers[j, i] - zeros[group[j], i])
        parts = {
            "qweight": pack(numbers.T, bits).T, "qzeros": pack((zeros - offset) % 2**bits, bits),
            "scales": torch.from_numpy(scales), "g_idx": torch.from_numpy(group.astype(np.int32)),
        }  # fmt: skip
        return parts, torch.from_numpy(expected)

    return make


def awq(random: np.random.Generator, rows: int, inputs: int) -> Parts:
    numbers, zeros = random.integers(0, 16, (inputs, rows)), random.integers(0, 16, (inputs // GROUP, rows))
    scales, order = scales_of(random, inputs // GROUP, rows), [0, 2, 4, 6, 1, 3, 5, 7]
    expected = np.empty((rows, inputs), np.float32)
    for i in range(rows):
        for j in range(inputs):
            expected[i, j] = np.float32(scales[j // GROUP, i]) * (numbers[j, i] - zeros[j // GROUP, i])
    parts = {"qweight": pack(numbers, 4, order), "qzeros": pack(zeros, 4, order), "scales": torch.from_numpy(scales)}
    return parts, torch.from_numpy(expected)


def eight_bits(random: np.random.Generator, rows: int, inputs: int) -> Parts:
    numbers = random.integers(-127, 128, (rows, inputs)).astype(np.int8)
    largest = (0.5 + random.random(rows)).astype(np.float32)
    expected = numbers.astype(np.float32) * (largest / np.float32(127))[:, None]
    parts = {
        "weight": torch.from_numpy(numbers), "SCB": torch.from_numpy(largest),
        "weight_format": torch.tensor(0, dtype=torch.uint8),
    }  # fmt: skip
    return parts, torch.from_numpy(expected)


def nf4(nested: bool) -> Maker:
    def make(random: np.random.Generator, rows: int, inputs: int) -> Parts:
        codes = np.linspace(-1, 1, 16).astype(np.float32)
        numbers = random.integers(0, 16, rows * inputs)
        blocks = -(-len(numbers) // 64)
        parts: dict[str, Any] = {}
        state: dict[str, Any] = {
            "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [rows, inputs],
        }  # fmt: skip
        if nested:
            small, values = random.integers(0, 256, blocks).astype(np.uint8), np.linspace(-1, 1, 256).astype(np.float32)
            outer = (0.01 + random.random(-(-blocks // 4))).astype(np.float32)
            largest = np.array([values[n] * outer[at // 4] for at, n in enumerate(small)], np.float32)
            largest = largest + np.float32(0.25)
            state |= {"nested_blocksize": 4, "nested_dtype": "float32", "nested_offset": 0.25}
            parts = {"weight.absmax": small, "weight.nested_absmax": outer, "weight.nested_quant_map": values}
        else:
            largest = (0.1 + random.random(blocks)).astype(np.float32)
            parts = {"weight.absmax": largest}
        expected = np.array([codes[n] * largest[at // 64] for at, n in enumerate(numbers)], np.float32)
        packed = np.array([numbers[at] << 4 | numbers[at + 1] for at in range(0, len(numbers), 2)], np.uint8)
        name = "weight.quant_state.bitsandbytes__nf4"
        parts |= {"weight": packed[:, None], "weight.quant_map": codes}
        parts[name] = np.frombuffer(json.dumps(state).encode(), np.uint8).copy()
        tensors = {key: torch.from_numpy(value) for key, value in parts.items()}
        return tensors, torch.from_numpy(expected).view(rows, inputs)

    return make


def compressed(bits: int, packed: bool, zeros: bool, shuffled: bool = False, per_row: bool = False) -> Maker:
    def make(random: np.random.Generator, rows: int, inputs: int) -> Parts:
        half = 2 ** (bits - 1)
        groups = 1 if per_row else inputs // GROUP
        numbers, scales = random.integers(-half, half, (rows, inputs)), scales_of(random, rows, groups)
        zero = random.integers(-half, half, (rows, groups)) if zeros else np.zeros((rows, groups), np.int64)
        group = groups_of(random, inputs, shuffled) if groups > 1 else np.zeros(inputs, np.int64)
        expected = np.empty((rows, inputs), np.float32)
        for i in range(rows):
            for j in range(inputs):
                expected[i, j] = np.float32(scales[i, group[j]]) * (numbers[i, j] - zero[i, group[j]])
        parts: dict[str, Tensor] = {"weight_scale": torch.from_numpy(scales)}
        if packed:
            parts |= {"weight_packed": pack(numbers + half, bits), "weight_shape": torch.tensor([rows, inputs])}
        else:
            parts["weight"] = torch.from_numpy(numbers.astype(np.int8))
        if zeros:
            whole = torch.from_numpy(zero.astype(np.int8))
            parts["weight_zero_point"] = pack((zero + half).T, bits).T if packed else whole
        if shuffled:
            parts["weight_g_idx"] = torch.from_numpy(group.astype(np.int32))
        return parts, torch.from_numpy(expected)

    return make


def float8(random: np.random.Generator, rows: int, inputs: int) -> Parts:
    weight = torch.from_numpy(random.standard_normal((rows, inputs)).astype(np.float32)).to(torch.float8_e4m3fn)
    scale = torch.from_numpy(scales_of(random, rows, 1))
    return {"weight": weight, "weight_scale": scale}, weight.float() * scale.float()


def config_of(form: str, bits: int) -> dict[str, Any]:
    group = {"weights": {"num_bits": bits, "strategy": "group"}, "targets": ["Linear"]}
    return {"quant_method": "compressed-tensors", "format": form, "config_groups": {"group_0": group}}


CASES: dict[str, tuple[dict[str, Any], Maker]] = {
    "gptq": ({"quant_method": "gptq", "bits": 4, "group_size": GROUP}, gptq(4, False)),
    "gptq in any order": ({"quant_method": "gptq", "bits": 4, "desc_act": True}, gptq(4, True)),
    "gptq of 8 bits": ({"quant_method": "gptq", "bits": 8}, gptq(8, True)),
    "gptq_v2": ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}, gptq(4, False, offset=0)),
    "awq": ({"quant_method": "awq", "bits": 4, "version": "gemm"}, awq),
    "bitsandbytes": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, eight_bits),
    "nf4": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, nf4(False)),
    "nf4, scales too": ({"quant_method": "bitsandbytes", "load_in_4bit": True}, nf4(True)),
    "packed": (config_of("pack-quantized", 4), compressed(4, True, False)),
    "packed, zeros": (config_of("pack-quantized", 4), compressed(4, True, True)),
    "packed, in any order": (config_of("pack-quantized", 8), compressed(8, True, False, shuffled=True)),
    "whole numbers": (config_of("int-quantized", 8), compressed(8, False, False, per_row=True)),
    "naive": (config_of("naive-quantized", 8), compressed(8, False, True)),
    "float8": (config_of("float-quantized", 8), float8),
}


def directory(path: Path, config: dict[str, Any], make: Maker) -> dict[str, Tensor]:
    """Write a network with every projection quantised; returns what the weights are."""
    save_model(network(dense("llama", hidden_size=64, intermediate_size=64, num_key_value_heads=4)), path)
    tensors, random = load_file(path / "model.safetensors"), np.random.default_rng(0)
    expected = {name: tensor for name, tensor in tensors.items() if not name.endswith("_proj.weight")}
    for name in tensors.keys() - expected.keys():
        rows, inputs = tensors.pop(name).shape
        parts, expected[name] = make(random, rows, inputs)
        module = name.removesuffix(".weight")
        tensors |= {f"{module}.{part}": tensor.contiguous() for part, tensor in parts.items()}
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": config}))
    return expected


@pytest.mark.parametrize("case", CASES)
def test_a_quantised_checkpoint_is_read_as_its_format_says(case: str, tmp_path: Path) -> None:
    expected = directory(tmp_path, *CASES[case])
    model = load_model(tmp_path)
    save_model(model, tmp_path / "dense")
    read = load_file(tmp_path / "dense" / "model.safetensors")
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert difference(read[name], tensor.float()) < 1e-6, name


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"quant_method": "hqq"}, "quant_method 'hqq'.*unquantised"),
        ({"quant_method": "gptq", "bits": 3}, "gptq of 3 bits"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "awq of 4 bits in the form gemv"),
        (config_of("nvfp4-pack-quantized", 4), "compressed-tensors in the form nvfp4-pack-quantized"),
        (config_of("pack-quantized", 3), "in the form pack-quantized, of 3 bits"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
    ],
)
def test_what_is_not_read_is_named(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    directory(tmp_path, config, awq)
    with pytest.raises(UserError, match=f"config.json: .*{words}"):
        load_model(tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_parts_that_do_not_fit_are_said(case: str, tmp_path: Path) -> None:
    directory(tmp_path, *CASES[case])
    tensors = load_file(tmp_path / "model.safetensors")
    name = next(n for n in sorted(tensors) if n.endswith(("scales", "SCB", ".absmax", "weight_scale")))
    tensors[name] = tensors[name][:1].clone() if tensors[name].dim() < 2 else tensors[name][:, :3].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    if case not in ("bitsandbytes", "whole numbers", "float8"):  # of which one scale for all has a meaning
        with pytest.raises(UserError, match="don't fit together"):
            load_model(tmp_path)


def test_scales_that_are_powers_of_two_may_be_stored_as_their_exponents(tmp_path: Path) -> None:
    """DeepSeek-V3.1's `scale_fmt` ue8m0, in either way of storing it."""
    config = {"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [16, 16]}

    def make(kind: torch.dtype) -> Maker:
        def parts(random: np.random.Generator, rows: int, inputs: int) -> Parts:
            weight = torch.from_numpy(random.standard_normal((rows, inputs)).astype(np.float32))
            scale = torch.exp2(torch.from_numpy(random.integers(-9, 3, (-(-rows // 16), -(-inputs // 16)))).float())
            small, each = weight.to(torch.float8_e4m3fn), scale.repeat_interleave(16, 0).repeat_interleave(16, 1)
            expected = small.float() * each[:rows, :inputs]
            return {"weight": small, "weight_scale_inv": scale.to(kind)}, expected

        return parts

    for kind in (torch.float32, torch.float8_e8m0fnu):
        path = tmp_path / str(kind)
        expected = directory(path, config, make(kind))
        model = load_model(path)
        save_model(model, path / "dense")
        read = load_file(path / "dense" / "model.safetensors")
        assert all(torch.equal(read[name], tensor.float()) for name, tensor in expected.items())
