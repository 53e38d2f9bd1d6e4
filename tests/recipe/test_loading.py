"""A recipe that can't be honoured is refused, with its line, the reason and the nearest name."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.recipe.loading import load, names, parse_settings
from longjing.recipe.yaml_document import RecipeDocument, parse_value

TEXT = """\
name: small
stages:
  - kind: pretrain
    name: read
    model: {model_type: llama, hidden_size: 8, intermediate_size: 8,
            num_hidden_layers: 1, num_attention_heads: 1}
    corpus: {countdown: 1}
    steps: 3
  - kind: reinforce
    name: zero
    model: read
    task: {name: countdown, difficulty: 1}
    steps: 2
    max_tokens: 16
    learning_rate: 3e-6
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def test_shipped_recipes_are_valid() -> None:
    assert names() == ["base", "r1", "r1-smollm2", "r1-zero"]
    assert [load(name).name for name in names()] == names()


QUICK = """\
quick:
  read: {steps: 1, tasks: {countdown: {difficulty: 1}}}
  zero: {gate: {at_least: 0.1}}
"""
GATED = TEXT + "    gate: {metric: reward, at_least: 0.5, at_most: 2}\n" + QUICK


def test_the_quick_form_changes_what_it_says_and_nothing_else(recipe: Path) -> None:
    recipe.write_text(GATED)
    whole, quick = load(recipe).to_dict(), load(recipe, quick=True).to_dict()
    assert quick["name"] == "small-quick" and "quick" not in quick
    whole["stages"][0] |= {"steps": 1, "tasks": {"countdown": {"difficulty": 1}}}
    whole["stages"][1]["gate"]["at_least"] = 0.1
    assert quick == whole | {"name": "small-quick"}
    assert load(recipe, ["read.steps=2"], quick=True).to_dict()["stages"][0]["steps"] == 2


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("read: {steps: 1", "read: {stepz: 1", "line 18: there is no setting `stepz`; did you mean `steps`?"),
        ("at_least: 0.1", "at_leest: 0.1", "line 19: there is no setting `at_leest`; did you mean `at_least`?"),
        ("{steps: 1", "{steps: {more: 1}", "steps is 3, which has no settings of its own"),
        ("  zero: {gate", "  zeo: {gate", "`quick` changes 'zeo', and no stage is called so; did you mean `zero`?"),
        (QUICK, "", "small.yaml has no quick form"),
    ],
)
def test_a_mistake_in_the_quick_form_is_named(recipe: Path, old: str, new: str, expected: str) -> None:
    assert old in GATED
    recipe.write_text(GATED.replace(old, new))
    with pytest.raises(UserError) as caught:
        load(recipe, quick=True)
    assert expected in str(caught.value)


def test_one_stage_alone_has_to_be_given_what_it_takes(recipe: Path) -> None:
    assert load(recipe, only=["read"]).name == "small-read"
    with pytest.raises(UserError, match="a model from the stage read, .* --set zero.model=PATH"):
        load(recipe, only=["zero"])
    alone = load(recipe, ["zero.model=base"], only=["zero"])
    assert [stage.name for stage in alone.stages] == ["zero"] and alone.name == "small-zero"
    with pytest.raises(UserError, match="no stage is called so; did you mean `zero`"):
        load(recipe, only=["zeroo"])


def test_a_model_of_the_package_that_is_called_like_a_stage_left_out_has_its_full_name(recipe: Path) -> None:
    recipe.write_text(TEXT.replace("name: read", "name: base").replace("model: read", "model: base"))
    with pytest.raises(UserError, match="--set zero.model=PATH, or .* --set zero.model=longjing-base"):
        load(recipe, ["zero.model=base"], only=["zero"])
    load(recipe, ["zero.model=longjing-base"], only=["zero"])
    recipe.write_text(TEXT)
    with pytest.raises(UserError) as caught:
        load(recipe, only=["zero"])
    assert "longjing-" not in str(caught.value)


def test_a_resolved_recipe_is_complete_and_reads_back(recipe: Path, tmp_path: Path) -> None:
    resolved = load(recipe).to_dict()
    assert resolved["stages"][1]["group_size"] == 16 and resolved["stages"][1]["learning_rate"] == 3e-6
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(resolved))
    assert load(again).to_dict() == resolved


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("name: small", "nam: small", "line 1: there is no setting `nam`; did you mean `name`?"),
        ("steps: 3", "step: 3", "line 8: there is no setting `step`; did you mean `steps`?"),
        ("steps: 3", "steps: 0", "line 8: `steps` is 0"),
        ("steps: 3", "steps: many", "line 8: `steps` is 'many'"),
        ("    steps: 3\n", "", "line 3: the setting `steps` is missing"),
        ("{countdown: 1}", "{cuontdown: 1}", "line 7: there are no documents `cuontdown`; did you mean `countdown`?"),
        ("{countdown: 1}", "{countdown: 0}", "line 7: all shares are zero"),
        ("hidden_size: 8", "hidden_size: 8, tie_word_embedings: 1", "line 5: a network has no `tie_word_embedings`"),
        ("difficulty: 1", "dificulty: 1", "line 12: task 'countdown': no setting 'dificulty' (did you mean"),
        ("difficulty: 1", "difficulty: 9", "line 12: task 'countdown': setting 'difficulty' is 9"),
        ("kind: reinforce", "kind: reinforced", "line 9: there is no stage of the kind `reinforced`; did you mean"),
        ("kind: pretrain", "type: pretrain", "line 3: a stage needs its `kind`: pretrain or demonstrate or sample or"),
        ("name: zero", "name: read", "two stages are called 'read'"),
        ("name: zero", "name: ../zero", "line 10: `name` is '../zero'"),
        ("max_tokens: 16", "max_tokens: 16\n    evaluation: {evry: 2}", "line 15: there is no setting `evry`"),
        ("max_tokens: 16", "minibatches: 3\n    max_tokens: 16", "minibatches 3 does not divide prompts_per_step"),
        ("steps: 3", "steps: 3\n    steps: 4", "line 9: `steps` is given twice, first in line 8"),
        ("name: small", "name: [small", "line 2: "),
        ("name: small", "name: 2020-13-01", "month"),
        ("name: small", 'name: ".."', "line 1: `name` is '..'"),
        ("name: small", 'name: ".small"', "line 1: `name` is '.small'"),
        ("steps: 3", "steps: 3\n    learning_rate: .inf", "line 9: `learning_rate` is inf"),
        ("steps: 3", "steps: 3\n    learning_rate: inf", "line 9: `learning_rate` is inf"),  # as text
        ("{countdown: 1}", "{countdown: .nan}", "line 7: `countdown` is nan"),
        ("max_tokens: 16", "max_tokens: 16\n    rewards: {accuracy: .inf}", "line 15: `accuracy` is inf"),
        (
            "max_tokens: 16",
            "max_tokens: 16\n    gate: [{metric: reward, at_least: 0}, {metric: kl, at_most: .nan}]",
            "line 15: `at_most` is nan",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(recipe: Path, old: str, new: str, expected: str) -> None:
    assert old in TEXT
    recipe.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        load(recipe)
    assert expected in str(caught.value) and str(recipe) in str(caught.value)


def test_all_mistakes_are_named_in_their_order(recipe: Path) -> None:
    recipe.write_text(TEXT.replace("steps: 3", "steps: 0").replace("name: small", "name: small\nsed: 1"))
    with pytest.raises(UserError, match=r"(?s)line 2: .*`sed`.*line 9: `steps`"):
        load(recipe)


@given(st.text() | st.binary())
def test_any_file_is_a_recipe_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="replace"))
    with pytest.raises(UserError):
        load(path)


LEAVES = st.none() | st.floats(allow_nan=False) | st.integers() | st.text("ab :-1e", max_size=4)
KEYS = st.sampled_from(["name", "stages", "kind", "steps"])


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_any_data_is_a_recipe_or_a_user_error(tmp_path_factory: pytest.TempPathFactory, data: object) -> None:
    path = tmp_path_factory.mktemp("any") / "any.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "stages": [{"kind": "pretrain", "corpus": data}, data]}))
    with pytest.raises(UserError):
        load(path)


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean `r1-zero`"):
        load("r1zero")
    with pytest.raises(UserError, match="no recipe"):
        load(tmp_path)


def changed(recipe: Path, *changes: str) -> dict[str, object]:
    base, new = load(recipe).to_dict(), load(recipe, changes).to_dict()
    difference = {key: new[key] for key in new if new[key] != base[key] and key != "stages"}
    for before, after in zip(base["stages"], new["stages"], strict=True):
        difference |= {f"{after['name']}.{key}": after[key] for key in after if after[key] != before.get(key)}
    return difference


def test_changes_go_where_they_belong(recipe: Path) -> None:
    assert changed(recipe) == {}
    assert changed(recipe, "seed=7", "threads=1") == {"seed": 7, "threads": 1}
    assert changed(recipe, "read.steps=5") == {"read.steps": 5}
    assert changed(recipe, "group_size=4") == {"zero.group_size": 4}
    assert changed(recipe, "task.difficulty=3") == {"zero.task": {"name": "countdown", "difficulty": 3}}
    assert changed(recipe, "tasks.countdown.difficulty=3") == {"read.tasks": {"countdown": {"difficulty": 3}}}
    assert changed(recipe, "zero.evaluation={every: 4}", "zero.evaluation.samples=1") == {
        "zero.evaluation": {"every": 4, "problems": 200, "samples": 1}
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("group_sise=4", "did you mean `group_size`"),
        ("group_size=1", "--set group_size=1: `group_size` is 1"),
        ("steps=4", "say read.steps or zero.steps"),
        ("task.difficulty=9", "--set task.difficulty=9: task 'countdown': setting 'difficulty' is 9"),
        ("evaluation.evry=1", "did you mean `every`"),
        ("read.steps.x=1", "has no settings of its own"),
        ("group_size", "write KEY=VALUE"),
        ("=4", "write KEY=VALUE"),
        ("group_size=[1", "cannot read the value '[1'"),
        ("zero=3", "no setting `zero`"),
        ("gate={metric: reward}", "say read.gate or zero.gate"),
        ("zero.gate={metric: reward}", "this one lets all pass"),
        ("zero.gate.at_leest=1", "there is no setting `at_leest`; did you mean `at_least`"),
        ("prices.watt=1", "there is no setting `watt`"),
        ("measure.tasks.countdwn={}", "no task 'countdwn'"),
        ("zero.model=zero", "zero takes `model` from zero, which doesn't come before it"),
        ("zero.gate={metric: reward, at_least: -.inf}", "`at_least` is -inf"),
        ("prices.watts=.inf", "--set prices.watts=.inf: `watts` is inf"),
        ("final=red", "`final` is 'red', and no stage is; did you mean `read`"),
    ],
)
def test_a_wrong_change_is_named(recipe: Path, change: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load(recipe, [change])
    assert expected in str(caught.value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans() | st.none())
def test_values_read_as_they_are_written(value: object) -> None:
    text = json.dumps(value)
    assert parse_value(text) == value and type(parse_value(text)) is type(value)


def test_settings_of_a_task() -> None:
    assert parse_settings(["difficulty=2", "language = zh"]) == {"difficulty": 2, "language": "zh"}
    with pytest.raises(UserError, match="KEY=VALUE"):
        parse_settings(["difficulty"])


def test_a_place_that_is_missing_has_the_line_of_what_holds_it(recipe: Path) -> None:
    document = RecipeDocument.read(recipe)
    assert document.line(("stages", 1, "nothing", "here")) == 9
    assert document.line(("stages", 0, "model", "hidden_size")) == 5
    assert document.line(()) == 1


def test_a_verifier_is_the_tasks(tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"prompt": "What is 2+2?", "answer": "4"}\n', "utf-8")
    stage = load("r1-zero", [f"task={problems}", "verifier=number"]).to_dict()["stages"][0]
    assert stage["task"]["name"] == str(problems) and stage["task"]["verifier"] == "number"
