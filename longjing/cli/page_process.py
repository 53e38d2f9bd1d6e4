"""The page in a process of its own, beside a run that is watched in it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from longjing.errors import UserError
from longjing.serving.server import address, listen

_START_SECONDS = 60.0  # seconds until it listens
_COMMAND = "from longjing.cli import main; main()"


def has_display() -> bool:
    """Whether a person can open a browser here."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def page_process(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Serve the page for the runs under `folder`; gives its address and its process, which ends with the block.

    Raises UserError if it doesn't come up.
    """
    with listen("127.0.0.1", 0) as free:
        url = address(free)
    command = ["serve", "--watch", "--runs", str(folder), "--port", url.rpartition(":")[2]]
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(url, process)
        yield url, process
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    opener = build_opener(ProxyHandler({}))  # it is on this machine
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"{url}/health", timeout=1):
                return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise UserError("the page doesn't come up; `longjing serve` says why")
