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
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("longjing.")}
    return found


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


def test_concepts_are_where_the_documents_say() -> None:
    index = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    files = re.findall(r"`([a-z0-9_]+/[a-z0-9_/]*(?:\.py)?)`", index)
    assert len(files) > 40
    assert [file for file in files if not (PACKAGE / file).exists() and not (ROOT / file).exists()] == []
