"""The rooms: an import points down, never up, and never to a neighbour on the same floor (docs/architecture.md)."""

import ast
import re
from pathlib import Path

import pytest

import longjing

PACKAGE = Path(longjing.__file__).parent
ROOT = PACKAGE.parent
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 400, 80
FLOORS = {
    "errors": -1,
    "batching": 0, "cluster": 0, "files": 0, "gguf": 0, "validation": 0,
    "model": 1, "text": 1, "sandbox": 1, "moved": 1,
    "problems": 2, "openai_client": 2,
    "verifiers": 3,
    "generation": 4, "tasks": 4, "toys": 4, "runs": 4,
    "evaluation": 5, "planning": 5, "chat": 5,
    "data": 6,
    "learning": 7,
    "recipe": 8, "serving": 8,
    "cli": 9, "__init__": 9, "__main__": 10,
}  # fmt: skip


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The rooms of this package that a file imports, wherever in the file it does."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("longjing.")}
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path.relative_to(PACKAGE).parts)
    for other in imports(path) & FLOORS.keys() - {here}:
        assert FLOORS[other] < FLOORS[here], f"{here}/ (floor {FLOORS[here]}) imports {other}/ ({FLOORS[other]})"


def test_one_import_points_up_and_it_is_made_by_name() -> None:
    """What is imported by a name in a string, no `import` shows: `problems/registry.py` calls the toys up."""
    by_name = set()
    for path in PACKAGE.rglob("*.py"):
        here = path.relative_to(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and re.fullmatch(r"longjing(\.\w+)+", str(node.value)):
                other = node.value.split(".")[1]
                if other != room(here.parts) and FLOORS[other] >= FLOORS[room(here.parts)]:
                    by_name.add((str(here), node.value))
    assert by_name == {("problems/registry.py", "longjing.toys")}


def test_every_room_has_a_floor() -> None:
    rooms = {room(path.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("*.py")}
    assert rooms <= FLOORS.keys()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_holds_one_idea(path: Path) -> None:
    source = path.read_text("utf-8")
    assert source.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            assert length <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {length} lines"


def test_the_drawing_has_the_floors() -> None:
    """From the top down, each between two lines; only of the lowest floor some stand in the text."""
    drawing = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("\n\n")[2]
    floors: list[set[str]] = [set()]
    for line in drawing.splitlines():
        if set(line.strip()) == {"-"}:
            floors.append(set())
        floors[-1] |= {name.rstrip("/").removesuffix(".py") for name in re.findall(r"\w+(?:/|\.py)", line[:32])}
    assert len(floors) == FLOORS["cli"] + 1
    for number, floor in enumerate(reversed(floors)):
        expected = {name for name, own in FLOORS.items() if own == number and not name.startswith("__")}
        assert floor == expected if number else floor <= expected


DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "decisions.md"], ids=lambda path: path.name
)
def test_documents_speak_of_files_that_are_there(document: Path) -> None:
    """The log of decisions alone may name what was there once."""
    roots = [*FLOORS, *(path.name for path in ROOT.iterdir() if path.is_dir())]
    files = re.findall(
        r"`((?:longjing/)?(\w+)/[a-z0-9_/]*(?:\.(?:py|yaml|json|md|jinja|css|js|txt))?)`", document.read_text("utf-8")
    )
    assert document.name != "architecture.md" or len(files) > 40
    named = {file for file, root in files if root in roots}
    assert {file for file in named if not (PACKAGE / file).exists() and not (ROOT / file).exists()} == set()
