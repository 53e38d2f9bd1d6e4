"""Trying a grammar where it may fail: the compiler is native code that can overflow its stack, and takes what it takes.

`GrammarTrials` hands grammars to a process beside the server, which this very file is as a program. It imports nothing
of the package, reads the tokenizer once, and forks for each grammar: what overflows, exhausts its memory or takes too
long is a process that died. What got through there gets through in the server, which has larger stacks.
"""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

SECONDS = 3  # of computing for one grammar, its references followed
TOKEN_SECONDS = 0.5  # seconds of computing for one token
LIMITS = LLParserLimits(verbose_errors=False, max_lexer_states=50_000)
_WALL = 20.0  # seconds, on a machine that has much else to do
_MEMORY = 512 << 20  # bytes beyond what the process has at its start
_STACK = 1 << 20  # bytes: less than any thread of the server has
_TOKENS = 256  # of a text that is tried
_REMEMBERED = 512  # grammars whose outcome is remembered
_TOO_MUCH = (
    f"it takes more than {SECONDS} s or {_MEMORY >> 20} MB to prepare, or its references go too deep; "
    "make it smaller or flatter"
)  # fmt: skip


class GrammarTrials:
    """Tries out grammars for one tokenizer, given as JSON. `ways_out`: tokens by which a text is likely to come to its
    end. Safe to call from several threads."""

    def __init__(self, tokenizer: str, vocabulary: int, end_tokens: Sequence[int], ways_out: Sequence[int]) -> None:
        self._tokenizer = json.dumps([tokenizer, vocabulary, list(end_tokens), list(ways_out)])
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[bytes]] = []  # one at most
        weakref.finalize(self, _end, self._running)
        self._verdicts: OrderedDict[bytes, str | None] = OrderedDict()

    def problem_of(self, grammars: Sequence[str]) -> str | None:
        """What is wrong with one of them, found within half a minute; None if texts can be written that keep each."""
        line = json.dumps(list(grammars)).encode() + b"\n"
        key = sha256(line).digest()
        # One trial at a time: they are short, and a crowd of hostile schemas mustn't take all processors.
        with self._lock:
            if key in self._verdicts:
                self._verdicts.move_to_end(key)
                return self._verdicts[key]
            problem = self._verdicts[key] = self._ask(line)
            while len(self._verdicts) > _REMEMBERED:
                self._verdicts.popitem(last=False)
            return problem

    def _ask(self, line: bytes) -> str | None:
        if not self._running:
            # With -P the other files here, which lie beside the program, don't hide modules of their names.
            process = subprocess.Popen(
                [sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            self._running.append(process)
            line = self._tokenizer.encode() + b"\n" + line
        stdin, stdout = self._running[0].stdin, self._running[0].stdout
        assert stdin is not None and stdout is not None
        answer = b""
        with suppress(BrokenPipeError):
            stdin.write(line)
            stdin.flush()
            answer = _line(stdout.fileno(), 1.5 * _WALL)
        if not answer.endswith(b"\n"):
            _end(self._running)
            return _TOO_MUCH
        problem = json.loads(answer)
        return problem if problem is None else str(problem)


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    while running:
        process = running.pop()
        process.kill()
        with process:  # close its pipes, and wait
            pass


def _line(descriptor: int, seconds: float) -> bytes:
    """What comes until a line's end, or the end of time."""
    read, deadline = b"", time.monotonic() + seconds
    while not read.endswith(b"\n"):
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        if not (part := os.read(descriptor, 1 << 16)):
            break
        read += part
    return read


# In the process


def _serve() -> None:
    tokenizer, vocabulary, ends, ways_out = json.loads(sys.stdin.buffer.readline())
    tokens = LLTokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _bound()
            threading.stack_size(_STACK)
            thread = threading.Thread(target=_answer, args=(writing, tokens, ends, ways_out, line))
            thread.start()
            thread.join()
            os._exit(1)
        os.close(writing)
        answer = _line(reading, _WALL)
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not answer.endswith(b"\n"):
            answer = json.dumps(_TOO_MUCH).encode() + b"\n"
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with suppress(OSError, ValueError):  # where there is no /proc, the seconds alone bound it
        with open("/proc/self/statm") as file:
            most = int(file.read().split()[0]) * resource.getpagesize() + _MEMORY
        # On top of what the tokenizer takes, which every trial shares with the process that it was forked from.
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _answer(writing: int, tokens: Any, ends: list[int], ways_out: list[int], line: bytes) -> None:
    problem = None
    for grammar in json.loads(line):
        matcher = LLMatcher(tokens, grammar, log_level=0, limits=LIMITS)
        if matcher.is_error():
            problem = reason_of(matcher)
        else:  # one text that leads nowhere isn't all of them
            problem = _write(matcher.deep_copy(), ends, ways_out, first=True)
            if problem:
                other = _write(matcher.deep_copy(), ends, ways_out, first=False)
                problem = other and min(problem, other, key=len)
        del matcher  # that, too, may overflow
        if problem:
            break
    os.write(writing, json.dumps(problem).encode() + b"\n")
    os._exit(0)


def _write(matcher: LLMatcher, ends: list[int], ways_out: list[int], first: bool) -> str | None:
    """Write a text that keeps to the grammar, and soon comes to its end; what keeps it from being written, or None.
    `first`: whether it goes on with the first of the tokens that are allowed, or with the last."""
    for _ in range(_TOKENS):
        began = time.thread_time()
        mask = matcher.compute_logit_bias()
        token = next((token for token in (*ends, *ways_out) if mask[token]), None)
        if token is None:
            token = mask.find(b"\xc8") if first else mask.rfind(b"\xc8")
        if token in ends and not matcher.is_error():
            return None
        if token >= 0:
            matcher.consume_token(token)
        if token < 0 or matcher.is_error():
            why = reason_of(matcher)
            return "no text satisfies it" if not why or why.startswith("NoExtension") else why
        if time.thread_time() - began > TOKEN_SECONDS:
            return f"to follow it takes more than {TOKEN_SECONDS:g} s for a token"
    return None


def reason_of(matcher: LLMatcher) -> str:
    """What has gone wrong, without the state that follows; of a pattern that is none, the last line says it."""
    first, *others = str(matcher.get_error()).strip().splitlines() or [""]
    return (others[-1] if others and first.endswith(":") else first)[:300]


if __name__ == "__main__":
    _serve()
