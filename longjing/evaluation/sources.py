"""The files of published benchmarks on the Hugging Face Hub."""

from pathlib import Path

from longjing.errors import UserError

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
