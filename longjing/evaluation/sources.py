"""The files of published benchmarks: from the Hugging Face Hub, or one at hand in the same form."""

import csv
import json
from pathlib import Path
from typing import Any

from longjing.errors import UserError

Row = dict[str, Any]

_INSTALL = "pip install 'longjing[eval]'"


def download(repository: str, revision: str, file: str) -> Path:
    """A file of a data set on the Hub, as of a revision; once downloaded it is at hand offline.

    Raises UserError if it can't be had.
    """
    instead = "or give a file of the same form: --set file=PATH"
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import GatedRepoError
    except ImportError:
        raise UserError(f"{repository} is on the Hugging Face Hub: {_INSTALL}, {instead}") from None
    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    except GatedRepoError:
        raise UserError(
            f"{repository} is shown only to who accepted its terms: do so at "
            f"https://huggingface.co/datasets/{repository} and set HF_TOKEN, {instead}"
        ) from None
    except OSError as error:  # no network, no such file: the Hub's errors are all of this kind
        raise UserError(f"cannot download {file} of {repository}: {error}; try again, {instead}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows of a .jsonl, .json, .csv or .parquet file. Raises UserError if it can't be read."""
    try:
        rows = _READERS[path.suffix](path)
    except KeyError:
        raise UserError(
            f"{path}: known are {', '.join(_READERS)}, not {path.suffix or 'no ending'!r}"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:  # no JSON, no UTF-8, no parquet; a cell without an end
        raise UserError(f"{path} can't be read as {path.suffix[1:]}: {error}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} holds no rows with named columns")
    return rows


def _read_jsonl(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _read_csv(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path}: reading parquet needs pyarrow: {_INSTALL}") from None
    return parquet.read_table(path).to_pylist()


_READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
