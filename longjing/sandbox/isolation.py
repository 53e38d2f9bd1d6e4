"""Which layers of isolation this machine offers: tried, not assumed."""

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from longjing.errors import UserError


@dataclass(frozen=True)
class Layer:
    """`lost`: what a program could do without it. `problem`: why it isn't there, "" where it is. `hint`: what would
    bring it. Without one that is required nothing runs."""

    name: str
    required: bool
    lost: str
    problem: str
    hint: str = ""


_LAYERS = yaml.safe_load(Path(__file__).with_name("layers.yaml").read_text("utf-8"))
WAYS_OUT = (
    "LONGJING_SANDBOX=wasm, or `longjing sandbox run --sandbox wasm`, runs them in WebAssembly, which is slower "
    "(pip install 'longjing[wasm]'); --unsafe runs programs without isolation"
)


@cache
def layers() -> tuple[Layer, ...]:
    """Try them all, in a process apart. They don't change while this one lives."""
    problems = _probe_layers()
    return tuple(Layer(name, **facts, problem=problems[name]) for name, facts in _LAYERS.items())


def _probe_layers() -> dict[str, str]:
    if sys.platform != "linux":
        return dict.fromkeys(_LAYERS, f"{platform.system()} has no such thing, it needs Linux")
    folder = str(Path(__file__).parent)
    start = f"import sys; sys.path.insert(0, {folder!r}); from inside.layer_probe import main; main()"
    command = [str(Path(sys.executable).resolve()), "-sSPB", "-c", start]
    probe = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/", timeout=60, check=True)
    return json.loads(probe.stdout)


def require_layers() -> list[str]:
    """The layers to do without. Raises UserError where a required one isn't there: no isolation, no execution."""
    missing_layers = [layer for layer in layers() if layer.problem]
    for layer in missing_layers:
        if layer.required:
            raise UserError(
                f"this machine can't isolate programs: the {layer.name} layer is missing ({layer.problem}), and "
                f"without it {layer.lost}. {layer.hint and layer.hint + ' '}"
                f"`longjing sandbox check` lists all layers; {WAYS_OUT}"
            )
    return [layer.name for layer in missing_layers]
