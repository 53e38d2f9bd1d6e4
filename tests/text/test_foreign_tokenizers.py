"""Tokenizers of released kinds against `transformers`: ids, text, text as it comes, chats, the begin token."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tokenizers_cases import BYTE_LEVEL, SENTENCEPIECE, directory_of, strings
from transformers import AutoTokenizer

from longjing.text import Detokenizer, Tokenizer

COUNT = 500


@pytest.fixture(scope="module", params=[*BYTE_LEVEL, *SENTENCEPIECE])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """A tokenizer here, and in `transformers`."""
    directory = directory_of(request.param, tmp_path_factory.mktemp("tokenizers"))
    return Tokenizer.from_directory(directory), AutoTokenizer.from_pretrained(directory)


def test_ids_and_texts_are_those_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    for text in strings(COUNT):
        ids = ours.encode(text)
        assert ids == theirs.encode(text, add_special_tokens=False), repr(text)
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False), repr(text)
        skipped = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids, skip_special_tokens=True) == skipped, repr(text)


def test_a_plain_prompt_begins_as_transformers_begins_it(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    for text in strings(50):
        assert ours.encode_prompt(text) == theirs.encode(text) or text.lstrip().startswith("<s>")
    assert ours.encode_prompt("<s>x") == ours.encode("<s>x"), "never twice"


def test_chats_are_those_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    contents = iter(strings(COUNT, seed=1))
    random = Random(2)
    for _ in range(COUNT // 5):
        roles = random.choice(["u", "su", "uau", "suaua", "ua"])
        names = {"s": "system", "u": "user", "a": "assistant"}
        turns = [{"role": names[role], "content": next(contents)} for role in roles]
        text = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert ours.render(turns) == text
        assert ours.encode_chat(turns) == theirs.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False
        )
        assert ours.encode_chat(turns).count(ours.bos_id) == text.count("<s>")


def test_the_pieces_of_a_text_are_the_text(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    random = Random(3)
    for number, text in enumerate(strings(COUNT, seed=4)):
        ids = ours.encode(text)
        if number % 3 == 0:  # what no text gives
            ids = [random.randrange(ours.vocab_size) for _ in range(12)]
        for skip in (False, True):
            detokenizer = Detokenizer(ours, skip)
            pieces = [detokenizer.add(token) for token in ids]
            assert "".join([*pieces, detokenizer.flush()]) == ours.decode(ids, skip), (text, ids)


def test_what_goes_on_with_a_text_keeps_its_first_space(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    for text in strings(100, seed=6):
        before, after = ours.encode("Hello"), ours.encode(text)
        whole = ours.decode([*before, *after])
        assert ours.decode(before) + ours.decode_continuation(after) == whole
        detokenizer = Detokenizer(ours, continues=True)
        assert "".join([*map(detokenizer.add, after), detokenizer.flush()]) == ours.decode_continuation(after)


def test_the_bytes_of_tokens_are_the_bytes_of_the_text(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    for text in strings(100, seed=5):
        ids = [token for token in ours.encode(text) if not ours.is_special(token)]
        written = b"".join(map(ours.token_bytes, ids))
        assert written.decode() in (ours.decode(ids), " " + ours.decode(ids)), "the first space may vanish"


def test_what_is_saved_gives_transformers_the_same_ids(pair: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, theirs = pair
    ours.save(tmp_path)
    again, their_again = Tokenizer.from_directory(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for text in strings(50):
        assert their_again.encode(text) == theirs.encode(text)
        assert again.encode_prompt(text) == ours.encode_prompt(text)
    assert (their_again.bos_token, their_again.eos_token) == (theirs.bos_token, theirs.eos_token)


@pytest.mark.parametrize(
    ("kind", "asks", "adds"), [("qwen2", False, False), ("qwen2", True, True), ("llama", False, True)]
)
def test_the_config_may_ask_for_a_begin_token_too(kind: str, asks: bool, adds: bool, tmp_path: Path) -> None:
    file = directory_of(kind, tmp_path) / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"add_bos_token": asks}))
    ours = Tokenizer.from_directory(file.parent)
    assert ours.adds_bos is adds
    assert ours.encode_prompt("Paris") == [*([ours.bos_id] if adds else []), *ours.encode("Paris")]


def test_special_tokens_may_be_named_in_a_map_of_their_own(tmp_path: Path) -> None:
    directory = directory_of("llama", tmp_path)
    (directory / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}, "bos_token": "<s>"}')
    (directory / "tokenizer_config.json").write_text('{"eos_token": null}')
    ours = Tokenizer.from_directory(directory)
    assert (ours.bos_id, ours.eos_id) == (1, 2)
