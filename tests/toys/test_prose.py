"""The prose of toys is data: it is checked when it is read, and a toy brings its own."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from longjing import toys
from longjing.errors import UserError
from longjing.problems import Language, Problem, registry
from longjing.toys import corpus
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.countdown.task import Countdown, CountdownData
from longjing.toys.document import Document
from longjing.toys.prose import Bilingual, Forms, Wording, read_prose
from longjing.toys.toy import STANDALONE, TOYS, UNASKED, Toy, register_documents, register_toy

FILES = sorted(Path(toys.__file__).parent.rglob("*.yaml"))
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
    return read_prose(str(tmp_path / "task.py"), "prompts.yaml", Wording)


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
    import yaml

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


class Doubles(Countdown):
    name = "doubles"

    def draw(self, random: Random) -> CountdownData:
        number = random.randint(1, 500)
        return CountdownData(numbers=[number, number], target=2 * number)

    def prompt(self, data: CountdownData, language: Language, random: Random) -> str:
        return f"Double {data.numbers[0]}."


def write_doubled(problem: Problem, random: Random) -> Document:
    return Document(problem.prompt, "twice", f"\\boxed{{{problem.answer}}}", "direct")


def write_greeting(random: Random) -> Document:
    return Document("Hi", "", "Hello", "greeting")


def test_a_new_toy_declares_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else needs to know of it: not the corpus, not the answer sentences, not the paraphrases."""
    for table in (TOYS, STANDALONE, registry._TASKS):
        for name, value in dict(table).items():  # what is registered here goes when the test ends
            monkeypatch.setitem(table, name, value)  # type: ignore[arg-type]
    monkeypatch.setattr("longjing.toys.toy.UNASKED", set(UNASKED))
    answers = Bilingual(en=["Twice it is {box}."], zh=["两倍是 {box}。"])
    monkeypatch.setitem(TOYS, "doubles", None)  # so that it is taken out at the end
    monkeypatch.setitem(registry._TASKS, "doubles", None)
    monkeypatch.setitem(STANDALONE, "greeting", None)
    register_toy(Toy(Doubles, write_doubled, forms=Forms(answers=answers)))
    register_documents("greeting", write_greeting, asked=False)
    assert {"doubles", "greeting"} <= set(corpus.kinds()) and "doubles" in corpus.prompt_kinds()
    met = list(islice(corpus.documents(0, {"doubles": 1, "greeting": 1}, {}), 40))
    assert {document.style for document in met} == {"direct", "greeting"}
    problem = next(registry.make("doubles", language="en").problems("train", 0))
    assert answer_sentence(problem, "6", Random(0)) == "Twice it is \\boxed{6}."
