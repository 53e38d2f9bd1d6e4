"""The example of a tool, run whole, at its quickest."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[1] / "examples" / "calculator.py"


def test_the_calculator_example_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert len(rows) == 20 and {len(row["messages"]) for row in rows} == {2, 4}
    stages = [json.loads((tmp_path / "run" / name / "result.json").read_text()) for name in ("form", "tool")]
    assert stages[0]["conversations"] == 20 and stages[1]["step"] == 0
