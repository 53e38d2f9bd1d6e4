"""Law 2 where an adapter learns: in every kind of stage, killed at chosen moments, it becomes the same, bit by bit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_kill import APPEND, FINISH, KILLED, RENAME, REPLACE, SAVE, UPDATE, Worker, assert_same, content, recipe_in

ADAPTER = "longjing.model.store.adapter:save_file"
POLICY: dict[str, Any] = {
    "task": {"name": "letters"}, "steps": 4, "prompts_per_step": 2, "group_size": 6, "max_tokens": 12,
    "learning_rate": 1e-2, "evaluation": {"problems": 2, "samples": 1}, "save_every": 2, "lora": {"rank": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, base: Callable[[str], Path]) -> Path:
    """Each kind once; the reinforcement goes on with what was taught."""
    directory = tmp_path_factory.mktemp("recipe")
    model = {"model": str(base("deepseek_v3"))}
    talks = [
        {"messages": [{"role": "user", "content": f"Write {n}."}, {"role": "assistant", "content": f"{n}!" * n}]}
        for n in range(1, 9)
    ]
    pairs = [{"prompt": f"Write {n}.", "chosen": "ab" * (n % 3 + 1), "rejected": "bb" * (n % 4 + 1)} for n in range(9)]
    for name, rows in (("talks", talks), ("pairs", pairs)):
        (directory / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reading = {"learning_rate": 1e-2, "save_every": 2, "lora": {"rank": 2}}
    return recipe_in(
        directory,
        reading | model | {"kind": "finetune", "name": "taught", "data": [str(directory / "talks.jsonl")], "rows": 2,
                           "row_length": 96, "optimizer": "muon"},
        reading | model | {"kind": "reward-model", "name": "judge", "data": [str(directory / "pairs.jsonl")],
                           "batch_size": 2, "held_out": 0.3},
        POLICY | model | {"kind": "distill", "name": "student", "teacher": str(base("llama"))},
        POLICY | {"kind": "reinforce", "name": "zero", "model": "taught", "kl": 0.1, "reference_every": 3},
    )  # fmt: skip


STRIKES = [
    # A stage's first moments, its states, and its adapter; then the next stage's.
    *[(UPDATE, 1, "before"), (SAVE, 1, "cut"), (UPDATE, 2, "after"), (APPEND, 1, "cut"), (ADAPTER, 1, "cut"),
      (RENAME, 1, "before"), (FINISH, 1, "before")],
    *[(UPDATE, 3, "after"), (REPLACE, 1, "after"), (ADAPTER, 1, "before")],
    *[(UPDATE, 3, "before"), (SAVE, 1, "cut"), (UPDATE, 2, "after"), (ADAPTER, 1, "cut")],
    *[(UPDATE, 3, "before"), (SAVE, 1, "cut"), (UPDATE, 2, "after"), (ADAPTER, 1, "cut")],
]  # fmt: skip


def test_every_kind_of_stage_resumes_its_adapter(worker: Worker, recipe: Path, tmp_path: Path) -> None:
    assert worker.run(recipe, tmp_path / "whole") == 0
    whole = content(tmp_path / "whole")
    stages = ("taught", "judge", "student", "zero")
    assert {f"{name}/model/adapter_model.safetensors" for name in stages} <= whole.keys()
    assert not [name for name in whole if name.endswith("model/config.json")]
    assert all(row.get("logprob_difference", 0) < 1e-5 for name in stages[2:] for row in whole[f"{name}/metrics.jsonl"])
    for strike in STRIKES:
        assert worker.run(recipe, tmp_path / "run", strike) == KILLED, strike
    assert worker.run(recipe, tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)
