"""How many of an evaluation's answers are right by each rule of `stream-of-search`: the paper's own, and Countdown's.

    longjing eval RUN --task stream-of-search --set language=en --problems 1000 --samples 1 --temperature 0.6 \\
        --top-p 0.95 --max-tokens 1500 --json sos.json
    python benchmarks/stream_of_search_rules.py sos.json

The file holds the text of each problem's first sample, so that is what is judged.
"""

import json
import shlex
import sys
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path

import numpy as np

from longjing import tasks
from longjing.evaluation import Evaluation
from longjing.evaluation.pass_at_k import pass_at_1
from longjing.tasks import Completion


def main() -> None:
    options = ArgumentParser(description=__doc__)
    options.add_argument("evaluation", type=Path)
    options.add_argument("--out", type=Path, help="where the JSON goes, with what the evaluation says of itself")
    chosen = options.parse_args()
    result = Evaluation.read(chosen.evaluation)
    results = {}
    for rule in ("natural", "any"):
        task = tasks.get("stream-of-search", **(result.settings | {"intermediate": rule}))
        problems = list(islice(task.problems(result.split, 0), len(result.records)))
        assert [problem.id for problem in problems] == [record.id for record in result.records]
        completions = [
            Completion.parse(record.text, record.prefilled, record.truncated[0]) for record in result.records
        ]
        pairs = zip(problems, completions, strict=True)
        right = np.array([[float(task.judge(*pair).outcome == "correct")] for pair in pairs])
        share = pass_at_1(right)
        results[rule] = {"right": int(right.sum()), "pass_at_1": share.mean, "low": share.low, "high": share.high}
    text = json.dumps({"problems": len(result.records), **results}, indent=2)
    print(text)
    if chosen.out:
        own = {key: value for key, value in json.loads(chosen.evaluation.read_text()).items() if key != "records"}
        command = shlex.join(["python", "benchmarks/stream_of_search_rules.py", *sys.argv[1:]])
        document = {"command": command, "results": results, "evaluation": own}
        chosen.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
