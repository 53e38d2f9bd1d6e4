"""Programs that try for a verdict without solving the problem."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attacks import attack, isolated, sandbox
from hypothesis import given
from hypothesis import strategies as st

from longjing.sandbox import CallTest, ExecutionResult, SandboxError, StdioTest, TestResult, UnsafeSubprocess, run_tests

pytestmark = isolated
DOUBLE = CallTest("double", [21], 42)
SQUARES = [StdioTest(f"{n}\n", f"{n * n}\n") for n in (3, 12)]


def verdicts(program: str, *tests: StdioTest | CallTest) -> list[str]:
    return [result.verdict for result in run_tests(sandbox(), program, tests, workers=2)]


def test_what_is_right_is_correct() -> None:
    assert verdicts("print(int(input()) ** 2)", *SQUARES) == ["correct", "correct"]
    assert verdicts("print(9)", *SQUARES) == ["correct", "wrong"]
    assert verdicts("print('noise')\ndef double(x):\n    print('noise')\n    return 2 * x", DOUBLE) == ["correct"]
    assert verdicts("import sys\nprint('x' * 100_000, file=sys.stderr)\nprint(9, '  \\n\\n')", SQUARES[0]) == [
        "correct"
    ]


FORGED = {
    "leaves before the tests": "import os; os._exit(0)",
    "exits": "raise SystemExit(0)",
    "leaves in the function": "def double(x):\n    import os; os._exit(0)",
    "leaves at the end of Python": "import atexit, os; atexit.register(os._exit, 0)\ndouble = lambda x: 1 / 0",
    "equal to everything": (
        "class All:\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndouble = lambda x: All()"
    ),
    "an int equal to everything": (
        "class All(int):\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndouble = lambda x: All(1)"
    ),
    "patched builtins": (
        "import builtins, json\nbuiltins.all = builtins.any = lambda *a: True\nbuiltins.type = lambda *a: int\n"
        "json.dump = lambda value, file, **k: file.write('true')\ndouble = lambda x: 0"
    ),
    "patched comparison": (
        "import operator, json\noperator.eq = json.loads = lambda *a, **k: True\ndouble = lambda x: 0"
    ),
    "a forged line": "print('PASS'); print('1 passed'); print('OK')\ndouble = lambda x: 'PASS'",
    "a forged verdict": 'double = lambda x: {"verdict": "correct", "reward": 1.0}',
    "a forged outcome": (
        "import os\nfor n in range(64):\n    try:\n        os.write(n, b'd0')\n    except OSError:\n        pass\n"
        "double = lambda x: 0"
    ),
    "overwritten tests": (
        "import os\nfor name in os.listdir():\n    open(name, 'w').write('')\n"
        "for name in ('tests.json', 'verdict', 'result.json'):\n    open(name, 'w').write('42')\ndouble = lambda x: 0"
    ),
    "NaN": "double = lambda x: float('nan')",
    "infinity": "double = lambda x: float('inf')",
    "NaN written by hand": "import json\njson.dump = lambda v, f, **k: f.write('NaN')\ndouble = lambda x: 0",
    "infinity by size": "import json\njson.dump = lambda v, f, **k: f.write('1e999')\ndouble = lambda x: 0",
    "another type": "double = lambda x: 42.0",
    "a text": "double = lambda x: '42'",
    "two results": "import json\njson.dump = lambda v, f, **k: f.write('41 42')\ndouble = lambda x: 0",
    "nested beyond measure": "import json\njson.dump = lambda v, f, **k: f.write('[' * 300_000)\ndouble = lambda x: 0",
    "digits beyond measure": "import json\njson.dump = lambda v, f, **k: f.write('4' * 300_000)\ndouble = lambda x: 0",
    "no such function": "x = 42",
    "no Python": "double(21) = 42",
    "a NUL": "double = lambda x: 42\0",
    "a lone surrogate": "double = lambda x: '\ud800'",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_is_wrong(name: str) -> None:
    assert verdicts(FORGED[name], DOUBLE, SQUARES[0]) == ["wrong", "wrong"]


# Everything that a program can get at in its own process and on its disk.
HUNT = """
import gc, os, sys
frame, seen = sys._getframe(), []
while frame:
    seen += [frame.f_locals, frame.f_globals]
    frame = frame.f_back
seen += [vars(module) for module in list(sys.modules.values())] + gc.get_objects() + [dict(os.environ), sys.argv]
for folder, _, names in os.walk('/box'):
    seen += [open(os.path.join(folder, name), errors='replace').read() for name in names]
seen.append(sys.stdin.read())
half = 'expected-but-'
found = any(half + 'hidden' in repr(thing) for thing in seen if type(thing) in (dict, list, tuple, str))
print('FOUND' if found else 'nothing')
solve = lambda: 'FOUND' if found else 'nothing'
"""
HIDDEN = "expected-but-hidden"


def test_what_is_expected_is_nowhere_to_be_found() -> None:
    results = run_tests(sandbox(), HUNT, [StdioTest("", HIDDEN), CallTest("solve", [], HIDDEN)])
    assert [result.verdict for result in results] == ["wrong", "wrong"]
    assert results[0].execution and results[0].execution.stdout == b"nothing\n", results[0]
    assert "nothing" in results[1].reason
    # The hunt is no idle one: what does enter, it finds.
    assert sandbox().run(HUNT, files={"tests.json": HIDDEN.encode()}).stdout == b"FOUND\n"
    assert sandbox().run(HUNT, HIDDEN.encode()).stdout == b"FOUND\n"


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_stays_closed(tmp_path: Path) -> None:
    payload = pickle.dumps(_Touch(tmp_path / "opened"))
    program = f"import os, sys\nsys.stdout.buffer.write({payload!r})\ndouble = lambda x: {list(payload)}"
    assert verdicts(program, DOUBLE, SQUARES[0]) == ["wrong", "wrong"]
    assert not (tmp_path / "opened").exists()
    pickle.loads(payload)
    assert (tmp_path / "opened").exists()  # it would have worked


def test_the_programs_own_ruin_is_wrong_and_the_sandboxs_unjudged() -> None:
    class Broken:
        def run(self, *_: object) -> ExecutionResult:
            raise SandboxError("it fell over")

    assert verdicts("import ctypes; ctypes.string_at(0)", DOUBLE) == ["wrong"]
    (result,) = run_tests(Broken(), "", [DOUBLE])
    assert result == TestResult("unjudged", "it fell over", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class _Says:
    """A runner whose every program puts out this text."""

    def __init__(self, text: str) -> None:
        self.text = text.encode("utf-8", errors="surrogatepass")

    def run(self, *_: object) -> ExecutionResult:
        return ExecutionResult("finished", 0, None, self.text, b"", 0.0, 0.0, 0)


@given(JSON, JSON)
def test_a_result_is_right_if_it_is_written_as_expected(expected: Any, other: Any) -> None:
    """JSON tells types apart, so its canonical text is an independent judge of equality."""
    (result,) = run_tests(_Says(json.dumps(other)), "", [CallTest("f", [], expected)])

    def canonical(value: Any) -> str:
        return json.dumps(json.loads(json.dumps(value), parse_float=lambda x: float(x) + 0.0), sort_keys=True)

    assert result.verdict == ("correct" if canonical(expected) == canonical(other) else "wrong")


@given(st.binary(max_size=50))
def test_any_output_gets_a_verdict(output: bytes) -> None:
    runner = _Says("")
    runner.text = output
    for test in (DOUBLE, SQUARES[0]):
        assert run_tests(runner, "", [test])[0].verdict in ("correct", "wrong")


@pytest.mark.parametrize("expected", [float("nan"), float("inf"), (1, 2), {1: 2}, {"a": {1}}])
def test_a_test_that_nothing_could_pass_is_refused(expected: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        CallTest("f", [], expected)


def test_the_kernel_judges_the_same_without_isolation() -> None:
    program = "import sys\nprint(int(sys.stdin.readline()) ** 2)"
    assert [result.verdict for result in run_tests(UnsafeSubprocess(), program, SQUARES)] == ["correct", "correct"]
    assert run_tests(UnsafeSubprocess(), "double = lambda x: 2 * x", [DOUBLE])[0].verdict == "correct"


def test_the_same_program_says_the_same_twice() -> None:
    program = "print({'a', 'b', 'c', 'd'}, hash('x'))"
    assert attack(program).stdout == attack(program).stdout
