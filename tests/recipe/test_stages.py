"""What stages take from each other: known from their settings, in order, and of the right sort."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from longjing.errors import UserError
from longjing.learning.kinds import KINDS
from longjing.learning.stage import DATA, MODEL, REWARD_MODEL
from longjing.recipe.gates import Gate
from longjing.recipe.loading import load
from longjing.recipe.schema import MEASURED
from longjing.recipe.stages import Reference, makes, references

NETWORK = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
           "num_attention_heads": 1}  # fmt: skip
TASK = {"name": "countdown"}
STAGES: list[dict[str, Any]] = [
    {"kind": "pretrain", "name": "read", "model": NETWORK, "corpus": {"countdown": 1}, "steps": 1},
    {"kind": "sample", "name": "draw", "model": "read", "task": [TASK], "problems": 3, "max_tokens": 9},
    {"kind": "finetune", "name": "tune", "model": "read", "data": ["draw", "/more.jsonl"]},
    {"kind": "reward-model", "name": "safety", "model": "tune", "data": "safety"},
    {"kind": "reinforce", "name": "zero", "model": "tune", "task": TASK, "steps": 1, "max_tokens": 9,
     "preference": {"safety": "safety", "from_share": 0.0}},
    {"kind": "distill", "name": "small", "model": "read", "teacher": "zero", "task": TASK, "steps": 1,
     "max_tokens": 9},
    {"kind": "demonstrate", "name": "shown", "task": TASK, "problems": 3},
]  # fmt: skip


def recipe(tmp_path: Path, stages: list[dict[str, Any]]) -> Path:
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump({"name": "all", "stages": stages}))
    return path


def test_all_kinds_make_and_take_something(tmp_path: Path) -> None:
    assert {stage["kind"] for stage in STAGES} == KINDS.keys()
    plain = load(recipe(tmp_path, STAGES)).to_dict()["stages"]
    assert {stage["name"]: makes(stage["kind"]) for stage in plain} == {
        "read": MODEL, "draw": DATA, "tune": MODEL, "safety": REWARD_MODEL, "zero": MODEL, "small": MODEL,
        "shown": DATA,
    }  # fmt: skip
    assert [references(stage) for stage in plain] == [
        [],
        [Reference(("model",), "read", MODEL)],
        [
            Reference(("model",), "read", MODEL),
            Reference(("data", 0), "draw", DATA),
            Reference(("data", 1), "/more.jsonl", DATA),
        ],
        [Reference(("model",), "tune", MODEL)],  # data of its own making come from nowhere
        [Reference(("model",), "tune", MODEL), Reference(("preference", "safety"), "safety", REWARD_MODEL)],
        [Reference(("model",), "read", MODEL), Reference(("teacher",), "zero", MODEL)],
        [],
    ]


@pytest.mark.parametrize("index", range(1, 6))
def test_a_stage_before_what_it_takes_is_refused(tmp_path: Path, index: int) -> None:
    with pytest.raises(UserError, match=f"{STAGES[index]['name']} takes .*, which doesn't come before it"):
        load(recipe(tmp_path, [STAGES[index], *STAGES[:index], *STAGES[index + 1 :]]))


@pytest.mark.parametrize(
    ("index", "change", "expected"),
    [
        (2, {"model": "draw"}, "tune takes `model` from draw, which makes data, not a model"),
        (2, {"data": ["read"]}, "tune takes `data` from read, which makes a model, not data"),
        (4, {"model": "safety"}, "zero takes `model` from safety, which makes a reward model, not a model"),
        (
            4,
            {"preference": {"safety": "tune", "from_share": 0.0}},
            "zero takes `preference` from tune, which makes a model, not a r",
        ),
        (3, {"data": ["draw"]}, "safety takes `data` from draw, which makes data, not preference data"),
    ],
)
def test_a_stage_that_takes_another_sort_of_thing_is_refused(
    tmp_path: Path, index: int, change: dict[str, Any], expected: str
) -> None:
    stages = [*STAGES[:index], STAGES[index] | change, *STAGES[index + 1 :]]
    with pytest.raises(UserError, match=expected):
        load(recipe(tmp_path, stages))


@pytest.mark.parametrize(
    ("index", "measure", "expected"),
    [
        (0, {}, "the gate of read asks for the task 'chess', on which nothing is measured$"),
        (2, {"measure": {"tasks": {"hard": TASK}}}, "of tune .* nothing is measured; known are: hard"),
        (4, {"measure": {"tasks": {"hard": TASK}}}, "of zero .* nothing is measured; known are: hard, countdown"),
    ],
)
def test_a_gate_that_asks_for_what_nobody_measures_is_refused(
    tmp_path: Path, index: int, measure: dict[str, Any], expected: str
) -> None:
    gate = {"metric": "pass_at_1", "task": "chess", "at_least": 0.5}
    stages = [*STAGES[:index], STAGES[index] | {"gate": gate}, *STAGES[index + 1 :]]
    path = recipe(tmp_path, stages)
    path.write_text(path.read_text() + yaml.safe_dump(measure) if measure else path.read_text())
    with pytest.raises(UserError, match=expected):
        load(path)
    path.write_text(path.read_text().replace("chess", "hard" if measure else "countdown"))
    if measure:
        load(path)


@pytest.mark.parametrize(
    ("index", "gate", "setting", "expected"),
    [
        (4, {"metric": "pass_at_2"}, "metric", "`pass_at_2` on hard, .*did you mean `pass_at_1`"),
        (4, {"metric": "language", "task": "countdown"}, "metric", "`language` on countdown, .* measured"),
        (4, {"metric": "money"}, "metric", "`money` on hard"),
        (1, {}, "task", "the task 'hard', on which nothing is measured"),
        (3, {}, "task", "the task 'hard', on which nothing is measured"),
        (1, {"metric": "kepd", "task": None}, "metric", "`kepd` without a task, .* did you mean `kept`"),
        (4, {"metric": "reward_helpfulness", "task": None}, "metric", "`reward_helpfulness` without a task"),
        (4, {"metric": "turns", "task": None}, "metric", "`turns` without a task, and the stage logs no such figure"),
        (5, {"metric": "reward", "task": None}, "metric", "`reward` without a task"),
        (0, {"rise_at_least": 0.1}, "rise_at_least", "a rise, and the stage begins with no model"),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_gate_that_cannot_be_honoured_is_refused_with_its_line(
    tmp_path: Path, index: int, gate: dict[str, Any], setting: str, expected: str, several: bool
) -> None:
    one = {"metric": "pass_at_1", "task": "hard", "at_least": 0.5} | gate
    gates = [{"at_least": 0, "metric": "step"}, {"at_least": 0, **one}] if several else one
    stages = [*STAGES[:index], {**STAGES[index], "gate": gates}, *STAGES[index + 1 :]]
    path = tmp_path / "all.yaml"
    measure = {"tasks": {"hard": TASK}}
    path.write_text(yaml.safe_dump({"name": "all", "measure": measure, "stages": stages}, sort_keys=False))
    lines = path.read_text().splitlines()
    line = max(n for n, text in enumerate(lines, 1) if text.startswith(f"    {setting}: "))
    with pytest.raises(UserError, match=f"line {line}: the gate of {STAGES[index]['name']} asks for {expected}"):
        load(path)


@pytest.mark.parametrize("metric", [*MEASURED, "language"])
def test_a_gate_may_ask_for_whatever_is_measured(tmp_path: Path, metric: str) -> None:
    gate = {"metric": metric, "task": "countdown", "rise_at_least": 0.0}
    path = recipe(tmp_path, [*STAGES[:4], {**STAGES[4], "gate": gate}, STAGES[5]])
    path.write_text(path.read_text() + yaml.safe_dump({"measure": {"tasks": {"countdown": {}}}}))
    read = load(path).stages[4].gate
    assert isinstance(read, Gate) and read.metric == metric


def test_a_gate_without_a_task_may_ask_for_what_the_settings_make_the_stage_log(tmp_path: Path) -> None:
    talking = {"task": {"name": "calculator"}, "rewards": {"accuracy": 1, "language": 0.5}}
    gates = [{"metric": m, "at_least": 0} for m in ("turns", "reward_language", "reward_safety", "all_wrong_groups")]
    path = recipe(tmp_path, [*STAGES[:4], {**STAGES[4], **talking, "gate": gates}])
    load(path)
    with pytest.raises(UserError, match="of zero asks for `reward_language` without a task"):
        load(path, ["zero.rewards={accuracy: 1}"])
    with pytest.raises(UserError, match="--set zero.gate.1.metric=turn: the gate of zero .*did you mean `turns`"):
        load(path, ["zero.gate.1.metric=turn"])
    for wrong, expected in (("[]", "at least 1 item"), ("[{metric: turns}]", "lets all pass"),
                            ("[{metric: turns, at_leest: 1, at_most: 2}]", "did you mean `at_least`")):  # fmt: skip
        with pytest.raises(UserError, match=expected) as caught:
            load(path, [f"zero.gate={wrong}"])
        assert str(caught.value).count("\n") == 1, "one mistake is one complaint"


@pytest.mark.parametrize(("name", "what"), [("draw", "data"), ("safety", "a reward model")])
def test_a_final_stage_that_makes_no_model_is_refused(tmp_path: Path, name: str, what: str) -> None:
    path = recipe(tmp_path, STAGES)
    path.write_text(f"final: {name}\n{path.read_text()}")
    with pytest.raises(UserError, match=f"line 1: `final` is {name}, which makes {what}, not a model"):
        load(path)


@pytest.mark.parametrize("name", ["draw", "zero", "small"])
def test_a_task_that_does_not_exist_is_named_once_with_its_place(tmp_path: Path, name: str) -> None:
    index = next(index for index, stage in enumerate(STAGES) if stage["name"] == name)
    wrong = [{"name": "chess"}] if name == "draw" else {"name": "chess"}
    with pytest.raises(UserError) as caught:
        load(recipe(tmp_path, [*STAGES[:index], STAGES[index] | {"task": wrong}, *STAGES[index + 1 :]]))
    assert str(caught.value).count("no task 'chess'") == 1


@pytest.mark.parametrize("name", ["tune", "zero", "small"])
def test_a_rate_beside_muon_is_refused_without_muon(tmp_path: Path, name: str) -> None:
    def changed(**settings: Any) -> Path:
        return recipe(tmp_path, [stage | settings if stage["name"] == name else stage for stage in STAGES])

    load(changed(optimizer="muon", adamw_learning_rate=0.002))
    for values in ({"adamw_learning_rate": 0.002}, {"adamw_learning_rate": 0.002, "optimizer": "adamw"}):
        with pytest.raises(UserError, match=r"line \d+: `adamw_learning_rate` is for what Muon leaves; .*muon"):
            load(changed(**values))
    resolved = load(changed(optimizer="adamw")).to_dict()  # the default stands there, and reads back
    path = tmp_path / "resolved.yaml"
    path.write_text(yaml.safe_dump(resolved))
    assert load(path).to_dict() == resolved
