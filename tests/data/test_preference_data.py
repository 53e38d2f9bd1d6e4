"""Preference data: the forms that files come in, what a reward model reads, and what is kept apart."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from longjing.data.preference_data import Preference, Text, encode, held_out, read_preferences
from longjing.errors import UserError
from longjing.text.tokenizer import Tokenizer

ASKED = [{"role": "user", "content": "2+3?"}]
GOOD, BAD = Text("", "It is 5."), Text("", "Who knows.")


def say(text: str, **more: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text, **more}]


def read(path: Path, *rows: Any) -> list[Preference]:
    examples, differing = read_all(path, *rows)
    assert not differing
    return examples


def read_all(path: Path, *rows: Any, control: Collection[str] = ()) -> tuple[list[Preference], int]:
    path = path / "data.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return read_preferences(path, control)


PAIRS: dict[str, dict[str, Any]] = {
    "whole conversations": {"chosen": ASKED + say(GOOD.answer), "rejected": ASKED + say(BAD.answer)},
    "a prompt of messages": {"prompt": ASKED, "chosen": say(GOOD.answer), "rejected": say(BAD.answer)},
    "texts": {"prompt": "2+3?", "chosen": GOOD.answer, "rejected": BAD.answer},
    "a prompt besides whole conversations": {
        "prompt": "2+3?", "chosen": ASKED + say(GOOD.answer), "rejected": ASKED + say(BAD.answer), "score": 7,
    },
    "texts with turns": {
        "chosen": "\n\nHuman: 2+3?\n\nAssistant: It is 5.", "rejected": "\n\nHuman: 2+3?\n\nAssistant: Who knows.",
    },
    "a prompt with turns": {
        "prompt": "\n\nHuman: 2+3?\n\nAssistant:", "chosen": " It is 5.", "rejected": " Who knows.",
    },
}  # fmt: skip
LABELLED: dict[str, dict[str, Any]] = {
    "a whole conversation": {"messages": ASKED + say(BAD.answer), "label": False},
    "texts": {"prompt": "2+3?", "completion": BAD.answer, "label": False},
    "messages": {"prompt": ASKED, "completion": say(BAD.answer), "label": 0},
}


@pytest.mark.parametrize("form", PAIRS)
def test_a_pair_in_every_form(form: str, tmp_path: Path) -> None:
    assert read(tmp_path, PAIRS[form], "", PAIRS[form]) == [Preference(ASKED, (GOOD, BAD))] * 2


@pytest.mark.parametrize("form", LABELLED)
def test_a_labelled_text_in_every_form(form: str, tmp_path: Path) -> None:
    assert read(tmp_path, LABELLED[form]) == [Preference(ASKED, (BAD,), False)]


def test_earlier_turns_belong_to_what_was_asked(tmp_path: Path) -> None:
    before = [{"role": "system", "content": "Be short."}, *ASKED, *say("5"), *ASKED]
    (example,) = read(tmp_path, {"chosen": before + say("5!"), "rejected": before + say("6!")})
    assert example.prompt == before and [text.answer for text in example.texts] == ["5!", "6!"]
    turns = "\n\nHuman: 2+3?\n\nAssistant: 5\n\nHuman: Sure?\n\nAssistant: "
    (example,) = read(tmp_path, {"chosen": turns + "Yes.", "rejected": turns + "No."})
    assert [message["content"] for message in example.prompt] == ["2+3?", "5", "Sure?"]
    assert [text.answer for text in example.texts] == ["Yes.", "No."]


def test_reasoning_stands_apart_or_between_its_tags(tmp_path: Path) -> None:
    apart = {"messages": ASKED + say("5", reasoning_content="2+3=5"), "label": True}
    inside = {"messages": ASKED + say("<think>\n2+3=5\n</think>\n\n5"), "label": True}
    text = {"prompt": "2+3?", "completion": "<think>2+3=5</think>5", "label": True}
    assert read(tmp_path, apart, inside, text) == [Preference(ASKED, (Text("2+3=5", "5"),), True)] * 3


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("[1]", "no rows with named columns"),
        ({"chosen": "a"}, "`chosen` and `rejected`, or a `label`"),
        ({"prompt": "p", "chosen": "a", "rejected": None}, "rejected"),
        ({"chosen": "a", "rejected": "b"}, "`chosen` has an answer and no question"),
        ({"chosen": ASKED, "rejected": ASKED + say("5")}, "`chosen` must end in a message of the assistant"),
        ({"chosen": ASKED + say("5"), "rejected": say("6")}, "`rejected` has an answer and no question"),
        ({"prompt": "p", "chosen": say("a", thinking="b"), "rejected": "b"}, r"chosen\.0: `thinking` in a message"),
        ({"chosen": [{"role": "robot", "content": ""}], "rejected": "b"}, r"chosen\.0\.role"),
        ({"prompt": "p", "label": True}, "`messages`, or `prompt` and `completion`"),
        ({"prompt": "p", "completion": "c", "label": "maybe"}, "label"),
        ({"messages": say("5"), "label": True}, "`messages` has an answer and no question"),
    ],
)
def test_what_is_no_preference_is_refused_with_its_line(row: Any, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"data\.jsonl, line 2: .*{complaint}"):
        read(tmp_path, PAIRS["texts"], row)


PARTED = {"chosen": ASKED + say("5"), "rejected": [{"role": "user", "content": "?"}, *say("6")]}


def test_pairs_that_answer_different_conversations_are_left_out_and_counted(tmp_path: Path) -> None:
    turns = "\n\nHuman: 2+3?\n\nAssistant: "
    early = {"chosen": f"{turns}5\n\nHuman: Sure?\n\nAssistant: Yes.", "rejected": f"{turns}No."}
    examples, differing = read_all(tmp_path, PARTED, PAIRS["texts"], early)
    assert examples == [Preference(ASKED, (GOOD, BAD))] and differing == 2
    assert examples[0].origin == f"{tmp_path / 'data.jsonl'}, line 2"
    with pytest.raises(UserError, match="data.jsonl: `chosen` and `rejected` of each pair differ before"):
        read_all(tmp_path, PARTED, early)


def test_tables_are_read_as_the_hub_has_them(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    rows = [PAIRS["a prompt besides whole conversations"], PAIRS["whole conversations"]]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    for name in ("pairs.json", "pairs.parquet"):
        examples, _ = read_preferences(tmp_path / name)
        assert examples == [Preference(ASKED, (GOOD, BAD))] * 2
        assert examples[1].origin == f"{tmp_path / name}, row 2"
    labels = tmp_path / "labels.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([LABELLED["messages"]]), labels)
    assert read_preferences(labels) == ([Preference(ASKED, (BAD,), False)], 0)
    with pytest.raises(UserError, match=r"data\.txt: known are \.jsonl, \.json, \.csv, \.parquet"):
        read_preferences(tmp_path / "data.txt")


@pytest.mark.parametrize("token", sorted(tiny.tokenizer().control_tokens))
def test_what_the_tokenizer_takes_for_control_is_refused(token: str, tmp_path: Path) -> None:
    """An answer that ends its turn itself, and begins another, would be read as two."""
    text, control = f"a{token}b", tiny.tokenizer().control_tokens
    for row, name in (
        ({"prompt": text, "chosen": "a", "rejected": "b"}, "chosen"),
        ({"prompt": "p", "chosen": text, "rejected": "b"}, "chosen"),
        ({"chosen": ASKED + say("a"), "rejected": ASKED + say(text)}, "rejected"),
        ({"prompt": ASKED, "completion": say("a", reasoning_content=text), "label": True}, "completion"),
        ({"messages": [*ASKED, *say(text), *ASKED, *say("a")], "label": True}, "messages"),
    ):
        assert len(read(tmp_path, row)) == 1
        with pytest.raises(UserError) as caught:
            read_all(tmp_path, PAIRS["texts"], row, control=control)
        expected = f"data.jsonl, line 2: the conversation of `{name}` has {token} in its text"
        assert expected in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere.jsonl: No such file"):
        read_preferences(tmp_path / "nowhere.jsonl")
    with pytest.raises(UserError, match="data.jsonl holds no rows"):
        read(tmp_path, "")
    with pytest.raises(UserError, match="data.jsonl can't be read as jsonl: line 2"):
        read(tmp_path, PAIRS["texts"], "{")
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="data.jsonl can't be read as jsonl: 'utf-8'"):
        read_preferences(tmp_path / "data.jsonl")


def test_what_a_reward_model_reads() -> None:
    ids = tiny.tokenizer()
    text = Text("2+3=5", "It is 5.")
    begin, end = "<｜begin▁of▁sentence｜><｜User｜>2+3?<｜Assistant｜>", "<｜end▁of▁sentence｜>"
    assert ids.decode(encode(ids, ASKED, text, "answer")) == f"{begin}It is 5.{end}"
    assert ids.decode(encode(ids, ASKED, text, "everything")) == f"{begin}<think>\n2+3=5\n</think>\n\nIt is 5.{end}"
    history = [*ASKED, *say("<think>no</think>4"), *ASKED]
    assert (
        ids.decode(encode(ids, history, text, "answer")) == f"{begin}4{end}<｜User｜>2+3?<｜Assistant｜>It is 5.{end}"
    )


def test_a_template_that_leaves_the_reasoning_to_the_model(tmp_path: Path) -> None:
    tiny.tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    ids, text = Tokenizer.from_directory(tmp_path), Text("2+3=5", "5")
    prompt = "<|im_start|>user\n2+3?<|im_end|>\n<|im_start|>assistant\n"
    everything = ids.decode(encode(ids, ASKED, text, "everything"))
    assert everything == f"{prompt}<think>\n2+3=5\n</think>\n\n5<｜end▁of▁sentence｜>"
    assert ids.decode(encode(ids, ASKED, text, "answer")) == f"{prompt}5<|im_end|>\n"


@given(st.text("ab <", max_size=8), st.text("ab <", min_size=1, max_size=8), st.text("ab <", max_size=8))
def test_the_answer_alone_is_judged_whatever_the_reasoning(answer: str, one: str, other: str) -> None:
    ids = tiny.tokenizer()
    first, second = (encode(ids, ASKED, Text(reasoning, answer), "answer") for reasoning in (one, other))
    assert first == second
    assert encode(ids, ASKED, Text("", answer), "everything") == first
    assert encode(ids, ASKED, Text(one, answer), "everything") != first


@given(st.lists(st.text(max_size=5), max_size=60, unique=True), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_prompts_are_held_out_whole_and_by_themselves(prompts: list[str], low: float, high: float) -> None:
    low, high = sorted((low, high))
    for prompt in prompts:
        messages = [{"role": "user", "content": prompt}]
        examples = [Preference(messages, (GOOD, BAD)), Preference(messages, (BAD,), True, "any")]
        assert len({held_out(example, low) for example in examples}) == 1
        assert held_out(examples[0], low) <= held_out(examples[0], high)


def test_the_share_that_is_held_out() -> None:
    examples = [Preference([{"role": "user", "content": str(n)}], (GOOD, BAD)) for n in range(3000)]
    assert sum(held_out(example, 0.2) for example in examples) / 3000 == pytest.approx(0.2, abs=0.03)
