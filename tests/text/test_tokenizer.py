"""The tokenizer: exact, digits single, the same as `transformers` reads it, and honest about broken files."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from longjing.errors import UserError
from longjing.text import Detokenizer, ReasoningStream, Tokenizer

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
NAMES = [BOS, EOS, PAD, "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
CORPUS = [
    "<｜User｜>Use 31, 6, 20: make 45.<｜Assistant｜><think>\n31-6=25 25!\n</think>\n\n\\boxed{(31-6)+20}",
    "Let's check: 12 * 12 = 144, so 144 / 12 = 12.\n\nThat's right, isn't it? Let's check.\n  done \n \n \n",
    "小明有12个苹果，给了小红5个，还剩几个？还剩12-5=7个苹果。小明有7个苹果。x=3，y=4。",
] * 3

# Characters of every kind, special tokens among them.
texts = st.lists(st.text() | st.sampled_from([*NAMES, "\n", "  ", "\r\n", "12", "苹果", "Let's ", "\\boxed{"])).map(
    "".join
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CORPUS, 400)


@pytest.fixture(scope="module")
def directory(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(directory)
    return directory


def test_special_tokens_have_the_names_and_ids_of_r1(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_id(name) for name in NAMES] == list(range(7))
    assert [tokenizer.encode(name) for name in NAMES] == [[i] for i in range(7)]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2)
    assert (tokenizer.think_id, tokenizer.end_think_id) == (5, 6)
    assert tokenizer.decode(list(range(7)), skip_special_tokens=True) == "".join(NAMES[3:])


@given(text=texts)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)


@given(text=st.text(alphabet="0123456789+-*/=() x\n个"))
def test_every_digit_and_operator_is_its_own_token(tokenizer: Tokenizer, text: str) -> None:
    pieces = [tokenizer.decode([token_id]) for token_id in tokenizer.encode(text)]
    assert sum(piece in "0123456789" for piece in pieces) == sum(c in "0123456789" for c in text)
    assert sum(piece.strip() in set("+-*/=()") for piece in pieces) == sum(c in "+-*/=()" for c in text)


def test_no_merge_has_a_digit_or_a_newline_beside_something_else(directory: Path) -> None:
    vocabulary = json.loads((directory / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    words = [word for word in vocabulary if word not in NAMES]
    assert any(len(word) > 3 for word in words)  # it did merge
    assert all(len(word) == 1 for word in words if set(word) & set("0123456789"))
    assert all(set(word) <= set("ĊčĠĉ") - {"Ġ", "ĉ"} for word in words if set(word) & set("Ċč"))


def test_training_repeats_in_any_order_and_learns_runs_of_chinese(tokenizer: Tokenizer, tmp_path: Path) -> None:
    Tokenizer.train(reversed(CORPUS), 400).save(tmp_path / "reversed")
    tokenizer.save(tmp_path / "forward")
    files = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("reversed", "forward")]
    assert files[0] == files[1]
    assert len(tokenizer.encode("个苹果")) < len("个苹果")


def test_training_refuses_a_vocabulary_without_room_for_bytes() -> None:
    assert Tokenizer.train([], 263).vocab_size == 263
    assert Tokenizer.train(NAMES * 9, 300).vocab_size == 263  # the letters of "<think>" earn no merges
    with pytest.raises(UserError, match="263"):
        Tokenizer.train([], 262)


def test_half_of_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="character 1 "):
        tokenizer.encode("a\ud800b")


@given(ids=st.lists(st.integers(0, 262) | st.integers(0, 353)) | texts, skip=st.booleans())
def test_pieces_come_as_soon_as_their_bytes_do(tokenizer: Tokenizer, ids: list[int] | str, skip: bool) -> None:
    if isinstance(ids, str):
        ids = tokenizer.encode(ids)
    detokenizer, sent = Detokenizer(tokenizer, skip_special_tokens=skip), ""
    for count, token_id in enumerate(ids, 1):
        sent += detokenizer.add(token_id)
        decoded = tokenizer.decode(ids[:count], skip)
        assert sent == decoded.removesuffix("\ufffd") or sent == decoded
    assert sent + detokenizer.flush() == tokenizer.decode(ids, skip)
    assert detokenizer.flush() == ""


messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}),
    min_size=1,
    max_size=5,
)


def by_the_rule_of_r1(turns: list[dict[str, str]], prompt: bool, thinking: bool) -> str:
    text = BOS + "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system" and turn["content"])
    for turn in turns:
        if turn["role"] == "user":
            text += "<｜User｜>" + turn["content"]
        elif turn["role"] == "assistant":
            text += "<｜Assistant｜>" + turn["content"].rpartition("</think>")[2] + EOS
    if prompt:
        text += "<｜Assistant｜><think>\n" + ("" if thinking else "\n</think>\n\n")
    return text


@pytest.fixture(scope="module")
def reference(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory)


@given(turns=messages, prompt=st.booleans(), thinking=st.booleans())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_chats_render_by_the_rule_and_as_transformers_does(
    tokenizer: Tokenizer, reference: Any, turns: list[dict[str, str]], prompt: bool, thinking: bool
) -> None:
    text = tokenizer.render(turns, prompt, thinking)
    ids = tokenizer.encode_chat(turns, prompt, thinking)
    assert text == by_the_rule_of_r1(turns, prompt, thinking)
    assert ids == tokenizer.encode(text) and ids[0] == tokenizer.bos_id
    settings_ = {"add_generation_prompt": prompt, "enable_thinking": thinking}
    assert reference.apply_chat_template(turns, tokenize=False, **settings_) == text
    assert reference.apply_chat_template(turns, return_dict=False, **settings_) == ids
    if prompt:
        stream = ReasoningStream.after(text)
        assert (stream.in_reasoning, stream.closed, stream.opened) == (thinking, not thinking, 1)


@given(text=texts, skip=st.booleans())
@settings(deadline=None)
def test_transformers_encodes_and_decodes_the_same(tokenizer: Tokenizer, reference: Any, text: str, skip: bool) -> None:
    ids = tokenizer.encode(text)
    assert reference(text)["input_ids"] == ids
    assert reference.decode(ids, skip_special_tokens=skip) == tokenizer.decode(ids, skip)


@pytest.mark.parametrize("model_type", ["deepseek_v3", "llama"])
def test_transformers_reads_it_beside_a_model(
    tokenizer: Tokenizer, directory: Path, tmp_path: Path, model_type: str
) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert [reference(text)["input_ids"] for text in CORPUS] == [tokenizer.encode(text) for text in CORPUS]
    names = (reference.bos_token_id, reference.eos_token_id, reference.pad_token_id, len(reference))
    assert names == (0, 1, 2, tokenizer.vocab_size)
    reference.save_pretrained(tmp_path / "again")
    again = Tokenizer.from_directory(tmp_path / "again")
    assert [again.encode(text) for text in CORPUS] == [tokenizer.encode(text) for text in CORPUS]
    turn = [{"role": "user", "content": "12+3?"}]
    assert again.encode_chat(turn, thinking=False) == tokenizer.encode_chat(turn, thinking=False)


@pytest.mark.parametrize(
    "message", [{"role": "tool", "content": "x"}, {"role": "user"}, {"role": "user", "content": None}, {"content": "x"}]
)
def test_messages_that_mean_nothing_are_refused(tokenizer: Tokenizer, message: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="at least one"):
        tokenizer.render([])
    with pytest.raises(UserError, match="message 2"):
        tokenizer.render([{"role": "system", "content": "be brief"}, message])


# ---- directories from elsewhere


def change(source: Path, target: Path, template: str | None = None, **config: Any) -> Path:
    """A copy of `source` with another tokenizer_config.json and maybe a template in its own file."""
    target.mkdir(exist_ok=True)
    (target / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (target / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    if template is not None:
        (target / "chat_template.jinja").write_text(template, "utf-8")
    return target


def test_names_in_the_long_form_and_padding_left_out(directory: Path, tmp_path: Path) -> None:
    names: dict[str, Any] = {"bos_token": {"__type": "AddedToken", "content": BOS}, "eos_token": {"content": EOS}}
    template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}{{ eos_token }}"
    other = Tokenizer.from_directory(change(directory, tmp_path, **names, pad_token=None, chat_template=template))
    assert (other.bos_id, other.eos_id, other.pad_id) == (0, 1, 1)
    assert other.encode_chat([{"role": "user", "content": "1"}]) == [0, *other.encode("1"), 1]
    other.save(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text("utf-8"))
    assert again == {**names, "pad_token": None, "chat_template": template}


def test_no_begin_token_as_in_qwen2(directory: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}\n{% endfor %}\n  {% if add_generation_prompt %}\ngo{% endif %}"
    named = [{"name": "tools", "template": "{{ 1 }}"}, {"name": "default", "template": template}]
    other = Tokenizer.from_directory(change(directory, tmp_path, bos_token=None, eos_token=EOS, chat_template=named))
    assert other.bos_id is None
    assert other.render([{"role": "user", "content": "x"}]) == "user\ngo"  # white space around blocks is trimmed


def test_the_template_file_goes_before_the_configuration(directory: Path, tmp_path: Path) -> None:
    template = "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
    other = Tokenizer.from_directory(change(directory, tmp_path, template, eos_token=EOS, chat_template="no"))
    assert other.render([{"role": "user", "content": "<é>"}] * 2) == '{"role": "user", "content": "<é>"}'


def test_a_template_that_cannot_turn_thinking_off_says_so(directory: Path, tmp_path: Path) -> None:
    template = "{{ messages[0]['content'] + '<think>\\n' }}"
    other = Tokenizer.from_directory(change(directory, tmp_path, template, eos_token=EOS))
    assert other.render([{"content": "x"}]) == "x<think>\n"
    with pytest.raises(UserError, match="enable_thinking"):
        other.render([{"content": "x"}], thinking=False)
    with pytest.raises(UserError, match="refused the messages"):
        other.render([{"content": None}])


def test_a_template_runs_in_a_sandbox(directory: Path, tmp_path: Path) -> None:
    template = "{{ messages.__class__.__mro__ }}{{ messages.append(1) }}"
    other = Tokenizer.from_directory(change(directory, tmp_path, template, eos_token=EOS))
    with pytest.raises(UserError, match="unsafe"):
        other.render([{"role": "user", "content": "x"}])


def test_without_a_template_only_chat_fails(directory: Path, tmp_path: Path) -> None:
    other = Tokenizer.from_directory(change(directory, tmp_path, eos_token=EOS))
    assert other.decode(other.encode("12")) == "12"
    with pytest.raises(UserError, match="chat_template.jinja"):
        other.render([{"role": "user", "content": "x"}])
    other.save(tmp_path / "again")
    assert "chat_template" not in json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())


def test_a_tokenizer_that_would_add_a_begin_token_adds_none_here(directory: Path, tmp_path: Path) -> None:
    change(directory, tmp_path, bos_token=BOS, eos_token=EOS)
    backend = Backend.from_file(str(tmp_path / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single=f"{BOS} $0", special_tokens=[(BOS, 0)])
    backend.save(str(tmp_path / "tokenizer.json"))
    assert backend.encode("12").ids[0] == 0
    assert 0 not in Tokenizer.from_directory(tmp_path).encode("12")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "eos_token"),
        ({"eos_token": "<gone>"}, "<gone>"),
        ({"eos_token": EOS, "bos_token": {"content": "<gone>"}}, "bos_token"),
        ({"eos_token": EOS, "chat_template": "{% if %}"}, "broken chat template, line 1"),
        ({"eos_token": EOS, "chat_template": 7}, "chat_template"),
    ],
)
def test_a_configuration_that_does_not_fit(
    directory: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Tokenizer.from_directory(change(directory, tmp_path, **config))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe"])
def test_a_broken_file_is_named(directory: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    change(directory, tmp_path, eos_token=EOS)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        Tokenizer.from_directory(tmp_path)


def test_a_tokenizer_of_another_kind_is_refused(directory: Path, tmp_path: Path) -> None:
    change(directory, tmp_path, eos_token=EOS)
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    state["decoder"] = {"type": "Fuse"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    with pytest.raises(UserError, match="byte-level"):
        Tokenizer.from_directory(tmp_path)
