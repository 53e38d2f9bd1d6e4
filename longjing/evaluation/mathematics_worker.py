"""The process behind `mathematics.MathVerifier`: a line [gold, answer] in, a line true or false out.

Run as a program, never imported. An error ends it, which tells the one who asked.
"""

import json
import resource
import sys

from math_verify import parse, verify

_MEMORY = 4 << 30  # bytes


def main() -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    print("true", flush=True)
    for line in sys.stdin:
        # Time is kept by the other side, which can stop what no alarm of this process could.
        gold, answer = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in json.loads(line))
        if not gold:
            raise ValueError("the gold answer can't be read")
        print(json.dumps(verify(gold, answer, timeout_seconds=None, raise_on_error=True)), flush=True)


if __name__ == "__main__":
    main()
