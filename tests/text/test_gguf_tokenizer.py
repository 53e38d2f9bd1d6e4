"""Tokenizers in GGUF files: they come back as they were, under the rule that llama.cpp knows them by."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import normalizers
from tokenizers_cases import BYTE_LEVEL, SENTENCEPIECE, directory_of, strings
from transformers import AutoTokenizer

from longjing.errors import UserError
from longjing.gguf import GGUF, write_gguf
from longjing.text import Tokenizer

RULES = {"gpt-2": "gpt-2", "smollm": "smollm", "qwen2": "qwen2", "llama-bpe": "llama3", "deepseek-v3": "deepseek-v3"}


def through_file(tokenizer: Tokenizer, file: Path, size: int | None = None) -> tuple[Tokenizer, GGUF, str | None]:
    fields, note = tokenizer.gguf_fields(size or tokenizer.vocab_size)
    with file.open("wb") as stream:
        write_gguf(stream, {"general.architecture": "llama", **fields}, {}, iter(()))
    return Tokenizer.from_directory(file), GGUF(file), note


@pytest.mark.parametrize("kind", [*BYTE_LEVEL, *SENTENCEPIECE])
def test_a_tokenizer_comes_back_from_a_file(kind: str, tmp_path: Path) -> None:
    ours = Tokenizer.from_directory(directory_of(kind, tmp_path))
    again, file, note = through_file(ours, tmp_path / "x.gguf", ours.vocab_size + 3)
    assert (note is None) == (kind != "qwen2")
    if kind in RULES:
        assert file.fields["tokenizer.ggml.pre"] == RULES[kind]
    assert len(file.fields["tokenizer.ggml.tokens"]) == ours.vocab_size + 3
    assert (again.bos_id, again.eos_id, again.pad_id) == (ours.bos_id, ours.eos_id, ours.pad_id)
    assert again.template == ours.template
    for text in strings(200):
        # A Metaspace puts a space before a text without one; llama.cpp before any, and behind every special token.
        apart = text.startswith((" ", "▁")) or any(token in text for token in ("<s>", "</s>", "<unk>"))
        if kind != "mistral" or not apart:
            assert again.encode_prompt(text) == ours.encode_prompt(text), repr(text)
            assert again.decode(ours.encode(text), True) == ours.decode(ours.encode(text), True)
    again.save(tmp_path / "again")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert theirs.encode("Paris is 12") == again.encode_prompt("Paris is 12")


def test_a_rule_that_llama_cpp_does_not_know_is_said(tmp_path: Path) -> None:
    ours = Tokenizer.train(["Write what you like about 12 numbers."] * 3, 290)
    _, file, note = through_file(ours, tmp_path / "x.gguf")
    assert file.fields["tokenizer.ggml.pre"] == "default"
    assert note is not None and "no rule that cuts text" in note


@pytest.mark.parametrize(
    ("kind", "normalizer", "names"),
    [
        ("qwen2", normalizers.NFC(), "(NFC)"),
        ("qwen2", normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), "(NFKC, Lowercase)"),
        ("deepseek-v3", normalizers.Sequence([]), None),
        ("no-space", normalizers.NFC(), "(NFC)"),
    ],
)
def test_what_llama_cpp_does_not_normalise_is_said(
    kind: str, normalizer: Any, names: str | None, tmp_path: Path
) -> None:
    path = directory_of(kind, tmp_path)
    backend = Backend.from_file(str(path / "tokenizer.json"))
    backend.normalizer = normalizer
    backend.save(str(path / "tokenizer.json"))
    _, note = Tokenizer.from_directory(path).gguf_fields(1000)
    assert note is None if names is None else note is not None and names in note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"merges": ["q zzzzz"]}, "its merges don't fit its vocabulary"),
        ({"merges": [1, 2]}, "merges are no texts"),
        ({"pre": "tekken"}, "the rule 'tekken', which is not known here"),
        ({"model": "t5"}, "the tokenizer 't5' is not supported"),
        ({"eos_token_id": 99999}, "its eos_token is number 99999"),
        ({"eos_token_id": None}, "no eos_token is named"),
        ({"tokens": None}, "no vocabulary in it"),
    ],
)
def test_a_tokenizer_that_makes_no_sense_is_a_sentence(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    fields, _ = Tokenizer.train(["12 numbers"] * 3, 290).gguf_fields(290)
    fields |= {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with (tmp_path / "x.gguf").open("wb") as stream:
        write_gguf(stream, {name: value for name, value in fields.items() if value is not None}, {}, iter(()))
    with pytest.raises(UserError, match=words):
        Tokenizer.from_directory(tmp_path / "x.gguf")


def test_the_real_one_is_written_as_it_was(smollm2: Path, tmp_path: Path) -> None:
    ours, before = Tokenizer.from_directory(smollm2), GGUF(smollm2).fields
    _, after, note = through_file(ours, tmp_path / "x.gguf")
    assert note is None
    differ = {
        name for name in after.fields
        if name.startswith("tokenizer.") and after.fields[name] != before.get(name) and before.get(name) is not None
    }  # fmt: skip
    assert not differ


def test_the_real_one_is_that_of_transformers(smollm2: Path, tmp_path: Path) -> None:
    ours = Tokenizer.from_directory(smollm2)
    ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in strings(500):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
