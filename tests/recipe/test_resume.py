"""A kill costs nothing: killed again and again, a run ends with the very bytes of an undisturbed one."""

import json
import subprocess
import sys
from pathlib import Path

RECIPE = """\
name: small
threads: 1
device: cpu
stages:
  - kind: pretrain
    name: read
    model: {model_type: deepseek_v3, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2,
            num_attention_heads: 2, kv_lora_rank: 8, qk_nope_head_dim: 4, qk_rope_head_dim: 4, v_head_dim: 8,
            first_k_dense_replace: 1, n_routed_experts: 4, num_experts_per_tok: 2, n_shared_experts: 1,
            moe_intermediate_size: 16, num_nextn_predict_layers: 1}
    vocabulary: 300
    tokenizer_documents: 100
    corpus: {countdown: 1}
    tasks: {countdown: {difficulty: 1}}
    steps: 9
    rows: 2
    row_length: 128
    save_every: 3
  - kind: reinforce
    name: zero
    model: read
    task: {name: countdown, difficulty: 1}
    steps: 6
    prompts_per_step: 2
    group_size: 4
    minibatches: 2
    max_tokens: 12
    learning_rate: 1e-3
    kl: 0.01
    reference_every: 3
    rewards: {accuracy: 1.0, format: 1.0}
    evaluation: {every: 3, problems: 2, samples: 2}
"""

# One process imports everything and then forks, since importing takes longer than the whole run.
HARNESS = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from rich.console import Console
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe
from longjing.problems import Verdict
from longjing.toys.countdown.task import Countdown

def judge(task, problem, completion):
    # So young a model solves nothing: something else has to make its completions differ.
    right = len(completion.reasoning) % 2
    rewards = {"accuracy": float(right), "format": 1.0}
    return Verdict("correct" if right else "wrong", rewards, "")

Countdown.judge = judge

def child(out):
    process = os.fork()
    if not process:
        try:
            run_recipe(load(sys.argv[1]), out, Console(quiet=True))
            os._exit(0)
        finally:
            os._exit(1)
    return process

directory, kills = Path(sys.argv[2]), int(sys.argv[3])
began = time.monotonic()
assert os.waitpid(child(directory / "undisturbed"), 0)[1] == 0
whole = time.monotonic() - began
random.seed(7)
done = 0
while True:
    process = child(directory / "killed")
    # Later kills let it get further, so that all of the run is hit.
    time.sleep(random.uniform(0.02, 0.25) * whole if done < kills else 0)
    if done < kills:
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    if done >= kills:
        assert status == 0
        break
    done += os.WIFSIGNALED(status)
    if status == 0:
        break
print(done)
"""


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(RECIPE)
    command = [sys.executable, "-c", HARNESS, tmp_path / "small.yaml", tmp_path, "12"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 10
    whole, killed = tmp_path / "undisturbed", tmp_path / "killed"
    weights = Path("model/model.safetensors")
    assert (whole / "read" / weights).read_bytes() != (whole / "zero" / weights).read_bytes()
    files = [path.relative_to(whole) for path in whole.glob("*/model/*")] + [Path("zero/rollouts.jsonl")]
    assert len(files) >= 9
    for file in files:
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    for stage in ("read", "zero"):
        assert timeless(whole / stage / "metrics.jsonl") == timeless(killed / stage / "metrics.jsonl")
    measured = [timeless(run / "zero" / "evaluations.jsonl") for run in (whole, killed)]
    # A stage that is killed between its last measurement and its end measures once more.
    assert measured[1][: len(measured[0])] == measured[0] and all(row in measured[0] for row in measured[1])


def timeless(path: Path) -> list[dict[str, object]]:
    """A log without what the clock decides."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: row[key] for key in row if "second" not in key and key != "time"} for row in rows]
