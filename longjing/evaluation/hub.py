"""The files of published sets on the Hugging Face Hub; once downloaded they are at hand offline."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from longjing.errors import UserError

INSTEAD = "or give a file of the same form: --set file=PATH"


def download(repository: str, revision: str, file: str, instead: str = INSTEAD) -> Path:
    """A file of a data set on the Hub, as of a revision. Raises UserError if it can't be had, with what may be done
    `instead`."""
    with _hub_errors(repository, file, instead):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))


def snapshot(repository: str, revision: str, pattern: str, instead: str) -> tuple[Path, str]:
    """A folder with the data set's files that match the pattern, and the commit they are of. Raises UserError if they
    can't be had, with what may be done `instead`."""
    with _hub_errors(repository, pattern, instead):
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=pattern))
        return folder, folder.name


@contextmanager
def _hub_errors(repository: str, file: str, instead: str) -> Iterator[None]:
    try:
        from huggingface_hub.errors import GatedRepoError
    except ImportError:
        raise UserError(f"{repository} is on the Hugging Face Hub: pip install 'longjing[eval]', {instead}") from None
    try:
        yield
    except GatedRepoError:
        raise UserError(
            f"{repository} is shown only to who accepted its terms: do so at "
            f"https://huggingface.co/datasets/{repository} and set HF_TOKEN, {instead}"
        ) from None
    except OSError as error:  # no network, no such file: the Hub's errors are all of this kind
        raise UserError(f"cannot download {file} of {repository}: {error}; try again, {instead}") from error
