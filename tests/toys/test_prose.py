"""The prose of toys is data, and is checked when it is read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from longjing import data, tasks, toys
from longjing.errors import UserError
from longjing.toys.prose import Wording
from longjing.validation import read_yaml

FILES = sorted(path for room in (toys, tasks, data) for path in Path(room.__file__).parent.rglob("*.yaml"))
GOOD = """# a comment
prompts:
  en: ["What is {}?", "Compute {}."]
  zh: ["{} 等于多少？"]
answers:
  en:
    - The answer is {box}.
  zh: ["答案是 {box}。"]
"""


def read(tmp_path: Path, text: str) -> Wording:
    (tmp_path / "prompts.yaml").write_text(text, "utf-8")
    return read_yaml(str(tmp_path / "task.py"), "prompts.yaml", Wording)


def test_prose_is_read_as_it_stands(tmp_path: Path) -> None:
    wording = read(tmp_path, GOOD)
    assert wording.prompts["en"] == ["What is {}?", "Compute {}."] and wording.short is None
    assert wording.answers is not None and wording.answers["zh"] == ["答案是 {box}。"]
    with pytest.raises(KeyError):
        wording.prompts["de"]


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('  zh: ["{}', '  fr: ["{}', 2, "prompts.zh: Field required"),
        ('"Compute {}."', "no", 3, "valid string"),
        ("    - The answer is {box}.", "    - 7", 7, "answers.en.0"),
        ("answers:", "anwsers:", 5, "anwsers: Extra inputs are not permitted"),
        ("]\nanswers", "\nanswers", 5, "did not find expected"),
        ("# a comment\nprompts", "# a comment\nprompt", 2, "prompts: Field required"),
    ],
)
def test_what_is_wrong_with_prose_is_named_by_file_and_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(UserError) as raised:
        read(tmp_path, GOOD.replace(old, new))
    assert f"prompts.yaml, line {line}" in str(raised.value) and says in str(raised.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_key_stands_twice_in_a_file(path: Path) -> None:
    """YAML would take the second one without a word."""

    def mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
        if isinstance(node, yaml.MappingNode):
            yield node
            for _, value in node.value:
                yield from mappings(value)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                yield from mappings(value)

    for mapping in mappings(yaml.compose(path.read_text("utf-8"))):
        keys = [key.value for key, _ in mapping.value]
        assert len(keys) == len(set(keys))
