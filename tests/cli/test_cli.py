"""The commands: help that teaches, errors without a traceback, output that other programs can read."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import FakeEndpoint, completion
from tiny import network, tokenizer

from longjing import __version__, cli, load
from longjing.evaluation import EvalConfig, Evaluation, Record
from longjing.files import digest
from longjing.model.reward_model import RewardModel
from longjing.model.store.checkpoint import save_model
from longjing.recipe import running
from longjing.recipe.gates import GateClosed
from longjing.runs.resolve import SHIPPED, shipped

RECORD = Record("p", "Make 3.", "1+2", "en", ["correct", "wrong"], ["3", "4"], [9, 8], [5, 4], [False] * 2,
                [True] * 2, "x")  # fmt: skip


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `longjing ARGUMENTS`; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["longjing", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    code = caught.value.code
    assert code is None or isinstance(code, int)
    return code or 0


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("run",),
        ("report",),
        ("chat",),
        ("eval",),
        ("compare",),
        ("recipes",),
        ("models",),
        ("export",),
        ("tasks",),
        ("tasks", "check"),
    ],
)
def test_help_has_what_each_command_is_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    assert call(monkeypatch, *command, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage: longjing" in text and ("longjing run r1-zero" in text or command != ())


def test_the_version_says_on_request_what_the_machine_offers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"longjing {__version__}\n"
    assert call(monkeypatch, "--version", "--verbose") == 0
    text = capsys.readouterr().out
    for expected in ("torch 2", "processor: ", "device: ", "float32: on one thread a token's bits "):
        assert expected in text
    assert call(monkeypatch, "--verbose") == 2
    assert "longjing --version --verbose" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = "import sys, longjing.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "r1zero"), "did you mean `r1-zero`"),
        (("run", "r1-zero", "--set", "step=3"), "did you mean `steps`"),
        (("run", "r1-zero", "--seed", "-1"), "`seed` is -1"),
        (("run", "r1-zero", "--device", "abacus"), "abacus"),
        (("run", "r1-zero", "--dtype", "int3"), "int3"),
        (("report", "/nowhere"), "/nowhere is not a run"),
        (("chat", "/nowhere"), "/nowhere"),
        (("eval", "/nowhere", "--task", "countdown"), "/nowhere"),
        (("eval", "base", "--task", "countdow"), "did you mean 'countdown'"),
        (("eval", "base", "--task", "countdown", "--set", "difficulty"), "KEY=VALUE"),
        (("eval", "base", "--task", "aime-2023"), "did you mean 'aime-202"),
        (("eval", "base", "--task", "countdown", "--retries", "3"), "--base-url"),
        (("eval", "m", "--task", "countdown", "--base-url", "localhost"), "http://localhost"),
        (("eval", "m", "--task", "countdown", "--base-url", "http://localhost", "--device", "cpu"), "--device"),
        (("eval", "base", "--task", "gsm8k", "--set", "file=3"), "`file` is 3"),
        (("eval", "m", "--task", "countdown", "--base-url", "http://[::1/v1"), "http://localhost"),
        (("eval", "m", "--task", "countdown", "--temperature", "0"), "at temperature 0"),
        (("eval", "m", "--task", "countdown", "--base-url", "http://x", "--request", "temperature=0"), "--temperature"),
        (("compare", "base", "r1"), "--task"),
        (("compare", "base", "--task", "countdown"), "two"),
        (("compare", "/nowhere/a.json", "/nowhere/b.json"), "cannot read /nowhere/a.json"),
        (("tasks", "sample", "countdow"), "did you mean 'countdown'"),
        (("tasks", "check", "countdown", "--set", "difficulty=9"), "difficulty"),
    ],
)
def test_a_mistake_ends_with_its_reason_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and expected in output.err and output.out == ""


def test_a_defect_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longjing.tasks.names", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call(monkeypatch, "tasks", "list")


def test_tasks_are_listed_sampled_and_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "tasks", "list") == 0
    assert "countdown\tdifficulty=2" in capsys.readouterr().out
    assert call(monkeypatch, "tasks", "sample", "countdown", "--count", 4, "--set", "language=en") == 0
    assert capsys.readouterr().out.count("\n=> ") == 4
    assert call(monkeypatch, "tasks", "check", "countdown", "--problems", 10) == 0
    assert "0 failed, 0 warnings" in capsys.readouterr().out


def test_a_task_that_breaks_its_promises_fails_its_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "never.py"
    file.write_text(
        "from longjing.toys.countdown.task import Countdown\n\n\nclass Never(Countdown):\n"
        "    def mistake(self, data, answer):\n        return 'never'\n"
    )
    assert call(monkeypatch, "tasks", "check", file, "--problems", 5) == 1
    output = capsys.readouterr()
    assert "FAILED\tgold answers\t15 of 15 are not judged correct" in output.out and "2 failed" in output.out


def test_models_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "models") == 0
    listed = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert [*listed] == shipped() and all(text.endswith(".") for text in listed.values())


def test_recipes_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "recipes") == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        "base",
        "r1",
        "r1-smollm2",
        "r1-zero",
    ]


def test_run_passes_on_what_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(running, "run_recipe", lambda *arguments: calls.extend(arguments))
    options = ["--set", "steps=7", "--set", "threads=1", "--device", "cpu", "--out", tmp_path / "run"]
    assert call(monkeypatch, "run", "r1-zero", "--seed", 3, *options) == 0
    recipe, out, _ = calls
    assert (recipe.seed, recipe.stages[-1].steps, recipe.threads, recipe.device) == (3, 7, 1, "cpu")
    assert out == tmp_path / "run"
    text = capsys.readouterr().out
    assert "on cpu in float32, CPU threads: 1" in text and f"longjing chat {out}" in text


def test_the_quick_form_and_single_stages_are_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(running, "run_recipe", lambda *arguments: calls.append(arguments))
    assert call(monkeypatch, "run", "r1", "--quick", "--device", "cpu") == 0
    options = ["--only", "rl-1", "--set", "rl-1.model=base", "--device", "cpu", "--quick"]
    assert call(monkeypatch, "run", "r1", *options) == 0
    assert [(len(recipe.stages), str(out)) for recipe, out, _ in calls] == [
        (12, "runs/r1-quick"),
        (1, "runs/r1-quick-rl-1"),
    ]


def test_a_run_that_makes_no_model_invites_nobody_to_talk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "run_recipe", lambda *arguments: None)
    options = ["--only", "helpfulness", "--set", "helpfulness.model=base", "--device", "cpu"]
    assert call(monkeypatch, "run", "r1", *options) == 0
    text = capsys.readouterr().out
    assert "Done" in text and "chat" not in text


def test_a_closed_gate_ends_with_code_1_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(*arguments: object) -> None:
        raise GateClosed("rl-1 did not pass its gate: kl is 3; it must be at most 2")

    monkeypatch.setattr(running, "run_recipe", closed)
    assert call(monkeypatch, "run", "r1", "--quick", "--device", "cpu") == 1
    text = capsys.readouterr().out
    assert "rl-1 did not pass its gate: kl is 3" in text and "Done" not in text


def test_an_interrupted_run_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "run_recipe", interrupted)
    assert call(monkeypatch, "run", "r1-zero", "--device", "cpu", "--seed", 3) == 130
    text = capsys.readouterr().out
    assert "the same command goes on" in text and "runs/r1-zero-seed-3/report.html" in text


VANISHING = """\
name: vanishing
threads: 1
device: cpu
stages:
  - kind: pretrain
    name: read
    model: {model_type: llama, hidden_size: 8, intermediate_size: 8,
            num_hidden_layers: 1, num_attention_heads: 1}
    corpus: {countdown: 1}
    steps: 1
  - {kind: reinforce, name: zero, model: read, task: {name: problems.jsonl, verifier: exact}, steps: 1, max_tokens: 8}
"""


def test_a_task_that_vanishes_as_a_run_goes_ends_with_its_reason_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(VANISHING)
    rows = [json.dumps({"prompt": f"Say {number}.", "answer": str(number)}) for number in range(60)]
    Path("problems.jsonl").write_text("\n".join(rows) + "\n")
    run_stage = running.run_stage

    def lose_the_file(make: Any, settings: Any, *others: Any) -> None:
        run_stage(make, settings, *others)
        if settings.name == "read":
            Path("problems.jsonl").unlink()

    monkeypatch.setattr(running, "run_stage", lose_the_file)
    assert call(monkeypatch, "run", "recipe.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "problems.jsonl" in error and not Path("problems.jsonl").exists()


def test_chat_goes_on_with_any_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], base: Callable[[str], Path]
) -> None:
    path = base("llama")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"/model {path}\n/problem\n/model base\n/model /nowhere\n/model\n"))
    assert call(monkeypatch, "chat", "r1", "--device", "cpu") == 0
    first, other, problem, back, missing, stays, says, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("r1: ") and other.startswith(f"{path}: ") and back.startswith("base: ")
    assert "no task" in problem and "/nowhere" in missing
    assert stays == "base goes on" and says.startswith("base answers")


def test_eval_prints_a_table_and_writes_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    received: dict[str, Any] = {}

    def measure(client: Any, task: Any, config: EvalConfig, **options: Any) -> Evaluation:
        received.update(options, difficulty=task.settings["difficulty"], config=config)
        options["on_progress"](1, 2)
        return Evaluation("countdown", {}, "test", {"seed": 1}, [RECORD], 3600.0, price=options["price"])

    class Engine:
        model = load("base")[0]

    monkeypatch.setattr("longjing.cli.evaluation.load_engine", lambda *arguments: (Engine, None))
    monkeypatch.setattr("longjing.evaluation.measure", measure)
    path = tmp_path / "result.json"
    options = ["--problems", 5, "--samples", 2, "--seed", 1, "--set", "difficulty=3", "--json", path]
    assert call(monkeypatch, "eval", "base", "--task", "countdown", *options) == 0
    assert received["config"] == EvalConfig(5, 2, 1, 1.0, 1.0, 512)
    assert received["provenance"] == {
        "version": __version__, "device": "cpu", "dtype": "float32", "sha256": digest(SHIPPED / "base"),
    }  # fmt: skip
    assert (received["model"], received["difficulty"]) == ("base", 3)
    text = capsys.readouterr().out
    assert "pass@1\t50.0%" in text and "cost per solved problem\t$0.0195 at $0.0195 per hour" in text
    assert json.loads(path.read_text())["pass_at_1"] == 0.5


def test_eval_asks_an_endpoint_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    options = ["--task", "arithmetic", "--problems", 3, "--samples", 2, "--json", "result.json"]
    prices = ["--price-read", 1, "--price-written", 10]
    asking = ["--concurrency", 2, "--retries", 0, "--request", "seed=null", "--request", "effort=low"]
    answer = completion("\\boxed{1}", prompt_tokens=100, tokens=50)
    with FakeEndpoint(lambda request, attempt: answer) as fake:
        command = ["eval", "lab/m", "--base-url", fake.base_url, *options, *prices, *asking]
        for _ in range(2):
            assert call(monkeypatch, *command) == 0
            assert "answers/lab-m-arithmetic.jsonl" in capsys.readouterr().out
    assert len(fake.requests) == 6
    assert set(fake.keys) == {"Bearer secret"}
    for request in fake.requests:
        assert "seed" not in request and request["effort"] == "low" and request["model"] == "lab/m"
    result = Evaluation.read(tmp_path / "result.json")
    assert result.model == "lab/m"
    assert result.money == pytest.approx((600 * 1 + 300 * 10) / 1e6)
    assert result.provenance == {
        "version": __version__, "base_url": fake.base_url, "request": {"seed": None, "effort": "low"},
    }  # fmt: skip
    assert result.sampling["seed"] is None and result.sampling["temperature"] == 1.0
    assert "secret" not in (tmp_path / "result.json").read_text()


def test_compare_reads_results_and_measures_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, base: Callable[[str], Path]
) -> None:
    model, result = base("llama"), tmp_path / "first.json"
    options = ["--task", "arithmetic", "--problems", 3, "--samples", 2, "--max-tokens", 4, "--device", "cpu"]
    assert call(monkeypatch, "eval", model, *options, "--json", result) == 0
    other = tmp_path / "other.json"
    assert call(monkeypatch, "compare", result, model, *options, "--json", other) == 0
    table = {line.split("\t")[0]: line.split("\t")[1:] for line in capsys.readouterr().out.splitlines()}
    assert table[""] == [str(result), str(model)]
    for label in ("pass@1", "tokens per solved problem", "FLOPs per solved problem", "mean length"):
        assert len(set(table[label])) == 1, "the same model, seed and problems"
    assert table[f"{model} - {result}"][0].startswith("+0.0 points")
    assert json.loads(other.read_text())["differences"][str(model)]["mean"] == 0
    again = tmp_path / "again.json"
    again.write_text(result.read_text())
    assert call(monkeypatch, "compare", result, again) == 0
    capsys.readouterr()
    for option in (("--problems", 3), ("--seed", 0), ("--set", "difficulty=3"), ("--task", "arithmetic")):
        assert call(monkeypatch, "compare", result, again, *option) == 2
        assert f"nothing to measure: leave out {option[0]}" in capsys.readouterr().err


def test_eval_keeps_to_the_context(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    base: Callable[[str], Path],
) -> None:
    command = ["eval", base("llama"), "--task", "arithmetic", "--problems", 2, "--samples", 1, "--device", "cpu"]
    path = tmp_path / "result.json"
    assert call(monkeypatch, *command, "--json", path) == 0
    sampling = Evaluation.read(path).sampling
    assert sampling["context"] == 512 > sampling["max_tokens"]
    (warning,) = caplog.messages
    assert f"{sampling['max_tokens']} to the answer, not 512" in warning
    assert call(monkeypatch, *command, "--max-tokens", 512) == 2
    assert f"give --max-tokens {sampling['max_tokens']} at most" in capsys.readouterr().err


def test_compare_finds_out_before_it_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("longjing.cli.evaluation.load_engine", lambda *arguments: pytest.fail("loaded"))
    one, two, odd = tmp_path / "one.json", tmp_path / "two.json", tmp_path / "odd.json"
    one.write_text(json.dumps(Evaluation("countdown", {}, "test", {}, [RECORD], 1.0).to_dict()))
    two.write_text(one.read_text().replace('"gold": "1+2"', '"gold": "2+2"'))
    odd.write_text(one.read_text().replace('"correct"', '"maybe"'))
    save_model(RewardModel.from_decoder(network("llama"), tokenizer().pad_id), tmp_path / "rater")
    for sides, says in (
        (("base", "nosuch", "--task", "arithmetic"), "no model 'nosuch'"),
        (("base", tmp_path / "rater", "--task", "arithmetic"), "rater holds a reward model"),
        ((one, "base", "--task", "arithmetic"), "differ in their problems (1 of countdown {}; 200 of arithmetic"),
        ((one, two), "right answers"),
        ((one, two, "base", "--task", "arithmetic"), "right answers"),
        ((one, odd), f"{odd}: not an evaluation"),
    ):
        assert call(monkeypatch, "compare", *sides) == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("old", [None, "{}"])
def test_work_that_fails_leaves_the_result_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str | None
) -> None:
    path = tmp_path / "result.json"
    if old is not None:
        path.write_text(old)
    assert call(monkeypatch, "eval", "/nowhere", "--task", "countdown", "--json", path) == 2
    assert (path.read_text() if path.exists() else None) == old
    assert list(tmp_path.iterdir()) == [path] * (old is not None)


@pytest.mark.parametrize("path", ["/proc/nowhere/x.json", "/proc"])
def test_a_result_that_cannot_be_written_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.setattr("longjing.cli.evaluation.load_engine", lambda *arguments: (None, None))
    monkeypatch.setattr("longjing.evaluation.measure", lambda *arguments, **options: pytest.fail("worked"))
    assert call(monkeypatch, "eval", "base", "--task", "countdown", "--json", path) == 2
    assert f"cannot write {path}" in capsys.readouterr().err
