"""Files of rows with named columns: .jsonl, .json, .csv, .parquet."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longjing.errors import UserError

Row = dict[str, Any]
LocatedRow = tuple[str, Row]  # a row, and where it is: `line 3`


def read_rows(path: Path) -> list[Row]:
    """The rows of a file. Raises UserError if it can't be read, or holds none."""
    return [row for _, row in located_rows(path)]


def located_rows(path: Path) -> list[LocatedRow]:
    """The rows of a file, each with its place. Raises UserError if it can't be read, or holds none."""
    if path.suffix not in READERS:
        raise UserError(f"{path}: known are {', '.join(READERS)}, not {path.suffix or 'no ending'!r}")
    with _read_errors(path):
        rows = READERS[path.suffix](path)
    if not rows:
        raise UserError(f"{path} holds no rows with named columns")
    for location, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {location}: no rows with named columns, but {json.dumps(row)[:60]}")
    return rows


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except UserError:  # no pyarrow
        raise
    except (ValueError, csv.Error) as error:  # no JSON, no UTF-8, no parquet; a cell without an end
        raise UserError(f"{path} can't be read as {path.suffix[1:]}: {error}") from error


def stream_rows(path: Path, columns: Sequence[str]) -> Iterator[LocatedRow]:
    """The rows of a file, each with its place. A parquet file is read bit by bit, and of its columns only those given.
    Raises UserError if it can't be read, or holds none."""
    if path.suffix != ".parquet":
        yield from located_rows(path)
        return
    number, parquet = 0, _parquet(path)
    with _read_errors(path), parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        available = [column for column in columns if column in names] or names
        for batch in file.iter_batches(1000, columns=available):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    if not number:
        raise UserError(f"{path} holds no rows with named columns")


def cell_text(value: Any) -> str:
    """A cell as text: what isn't text as JSON has it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _read_jsonl(path: Path) -> list[LocatedRow]:
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append((f"line {number}", json.loads(line)))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return rows


def _read_json(path: Path) -> list[LocatedRow]:
    rows = json.loads(path.read_text("utf-8"))
    return _numbered(rows if isinstance(rows, list) else [])


def _read_csv(path: Path) -> list[LocatedRow]:
    # Spreadsheets write a byte order mark; `newline=""` leaves line breaks within cells to csv.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        return [(f"line {reader.line_num}", row) for row in reader]


def _read_parquet(path: Path) -> list[LocatedRow]:
    return _numbered(_parquet(path).read_table(path).to_pylist())


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: reading parquet needs pyarrow: pip install 'longjing[eval]'") from None
    return parquet


def _numbered(rows: list[Any]) -> list[LocatedRow]:
    return [(f"row {number}", row) for number, row in enumerate(rows, 1)]


READERS: dict[str, Callable[[Path], list[LocatedRow]]] = {
    ".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet,
}  # fmt: skip
