"""A task in a file of rows: .jsonl, .json, .csv or .parquet."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from longjing.errors import UserError
from longjing.files import digest
from longjing.tasks.listed_task import ListedSettings, ListedTask
from longjing.tasks.row_files import LocatedRow, located_rows


class FileSettings(ListedSettings):
    """Where in the rows of a file prompt and answer are; what the other columns hold, a verifier may read."""

    prompt: str = Field("prompt", description="the column of the prompts")
    answer: str = Field("answer", description="the column of the right answers")
    sha256: str | None = Field(None, description="of the file; another is refused")


class FileTask(ListedTask):
    """The rows of a .jsonl, .json, .csv or .parquet file; its name is the path."""

    settings_type = FileSettings
    options: FileSettings

    def __init__(self, path: str, settings: FileSettings) -> None:
        self.name = path
        super().__init__(settings)

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"sha256": digest(self.name)}

    def rows(self) -> Iterable[Mapping[str, Any]]:
        return (row for _, row in self.located_rows())

    def located_rows(self) -> Iterable[LocatedRow]:
        columns = {self.options.prompt: "prompt", self.options.answer: "answer"}
        wanted = [self.options.prompt, *([self.options.answer] if self.rubric.needs_answer else [])]
        for location, row in _rows(self.name, digest(self.name)):
            if absent := [column for column in wanted if column not in row]:
                raise UserError(
                    f"{self.name}, {location}: no column {absent[0]!r}; there are {', '.join(map(str, row))}; another "
                    f"is named by prompt=COLUMN or answer=COLUMN"
                )
            yield location, {columns.get(column, column): value for column, value in row.items()}


@lru_cache(maxsize=4)
def _rows(path: str, content: str) -> list[LocatedRow]:
    """The file's rows, read once for each content."""
    return located_rows(Path(path))
