"""evaluate() with a generator and a task that do what the test says."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from evaluation_cases import Doubles, good, number_in
from hypothesis import given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.evaluation import EvalConfig, Evaluation, LocalClient, Price, compare, evaluate, measure, normalise
from longjing.generation.native.engine import Engine
from longjing.generation.request import Generation
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.problems import Problem, boxed
from longjing.tasks import get
from longjing.text.tokenizer import Tokenizer


class Letters:
    """A tokenizer of code points, whose chat template opens the reasoning if told to."""

    is_own = True

    def __init__(self, prefilled: bool = True) -> None:
        self.opening = "<think>\n" if prefilled else ""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def render(self, messages: list[dict[str, str]]) -> str:
        return f"<｜User｜>{messages[-1]['content']}<｜Assistant｜>{self.opening}"

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return self.encode(self.render(messages))


class Scripted:
    """Answers with `script(n, sample)`: text and finish reason. Remembers what it was asked."""

    def __init__(self, script) -> None:
        self.script = script

    def generate(self, requests, on_step=None):
        self.requests = list(requests)
        counts: dict[str, int] = {}
        generations = []
        for request in requests:
            prompt = "".join(map(chr, request.prompt))
            n = number_in(prompt)
            counts[prompt] = counts.get(prompt, -1) + 1
            text, reason = self.script(n, counts[prompt])
            tokens = list(range(len(text) + (reason == "stop")))
            generations.append(Generation(list(request.prompt), tokens, [0.0] * len(tokens), reason, text))
        if on_step:
            on_step(len(generations), sum(len(g.tokens) for g in generations))
        return generations


def test_every_figure_of_a_scripted_evaluation():
    wrong = "hm\n</think>\n\n\\boxed{-1}"

    def script(n: int, sample: int):
        if n < 2:
            return good(n), "stop"  # always solved
        if n < 4:
            return (good(n) if sample == 0 else wrong), "stop"  # once in four
        if n == 4:
            return good(n), "length"  # right, but cut off
        if n == 5:
            return "endless", ("length" if sample else "stop")
        return (good(n) if sample < 2 else "x</think>\\boxed{?}"), "stop"  # half unjudged, else right

    seen = []
    evaluation = evaluate(
        Scripted(script), Letters(), Doubles(), samples=4,
        flops=lambda prompt, lengths: prompt + 2 * sum(lengths), on_progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert (evaluation.problems, evaluation.samples) == (8, 4), "the split's eight, though 200 were asked for"
    assert evaluation.pass_at_1 == pytest.approx((1 + 1 + 0.25 + 0.25 + 0 + 0 + 0.5 + 0.5) / 8)
    assert evaluation.low < evaluation.pass_at_1 < evaluation.high
    assert evaluation.pass_at_k[4] == pytest.approx(6 / 8)
    assert evaluation.pass_at_k[2] == pytest.approx((2 + 2 * 0.5 + 2 * 5 / 6) / 8)
    assert evaluation.maj_at_k == pytest.approx((2 + 2 * 0.5) / 8), "the unjudged vote for what they say"
    assert evaluation.unjudged == 4
    assert evaluation.truncated == 7 / 32
    assert evaluation.unparsed == 1 / 32, "one ended by itself without an answer"
    assert evaluation.well_formed == 28 / 32, "only the endless reasoning is not"
    lengths = sum(sum(record.lengths) for record in evaluation.records)
    assert evaluation.tokens == lengths == seen[-1][1]
    assert evaluation.tokens_per_solved == lengths / 14
    prompts = sum(len(Letters().encode_chat([{"content": record.prompt}])) for record in evaluation.records)
    assert evaluation.flops == prompts + 2 * lengths
    assert evaluation.prompt_tokens == prompts, "each prompt is read once for all of its samples"
    assert evaluation.records[0].reasoning_lengths == [3] * 4
    assert evaluation.records[5].reasoning_lengths == [len("endless")] * 4
    assert evaluation.examples(2)[1] == {
        "problem": "0-1", "prompt": "Double 1!", "text": good(1), "prefilled": True, "outcome": "correct",
    }  # fmt: skip
    assert dict(evaluation.summary_rows())["unjudged"] == "4, counted as not right"


@given(st.booleans(), st.sampled_from(["x", "x</think>y", "<think>x</think>y", "<think>x"]))
def test_a_record_tells_its_parts_as_the_prompt_left_them(prefilled: bool, text: str):
    evaluation = evaluate(Scripted(lambda n, sample: (text, "stop")), Letters(prefilled), Doubles(), problems=1)
    record = Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))).records[0]
    assert record.prefilled == evaluation.examples(1)[0]["prefilled"] == prefilled
    assert record.reasoning_lengths[0] == len(record.parts.reasoning)
    assert record.well_formed[0] == record.parts.well_formed


def test_json_round_trip_keeps_every_figure():
    def script(n: int, sample: int):
        return (good(n) if (n + sample) % 3 else "x</think>\\boxed{?}"), "stop"

    evaluation = evaluate(Scripted(script), Letters(), Doubles(), samples=3)
    assert evaluation.money is None is evaluation.money_per_solved
    price, made_by = Price(read=1.0, written=2.0, currency="€"), {"version": "0", "request": {"effort": None}}
    evaluation = replace(evaluation, model="m", price=price, provenance=made_by)
    written = json.dumps(evaluation.to_dict(), allow_nan=False)
    assert Evaluation.from_dict(json.loads(written)) == evaluation
    assert json.dumps(Evaluation.from_dict(json.loads(written)).to_dict()) == written


def test_an_evaluation_written_before_there_were_prices_is_read():
    evaluation = evaluate(Scripted(lambda n, sample: (good(n), "stop")), Letters(), Doubles())
    values = evaluation.to_dict()
    for later in ("price", "prompt_tokens", "model", "unparsed", "money", "maj_at_k_interval", "pass_at_k_intervals"):
        del values[later]
    assert Evaluation.from_dict(values) == replace(evaluation, prompt_tokens=0)


@given(*[st.floats(0, 1e3)] * 3)
def test_money_is_what_tokens_and_hours_cost(read, written, hour):
    evaluation = evaluate(Scripted(lambda n, sample: (good(n), "stop")), Letters(), Doubles(), samples=2)
    assert replace(evaluation, price=Price()).money == 0
    priced = replace(evaluation, price=Price(read, written, hour), seconds=1800.0)
    spent = (evaluation.prompt_tokens * read + evaluation.tokens * written) / 1e6 + hour / 2
    assert priced.money == pytest.approx(spent)
    assert priced.money_per_solved == pytest.approx(spent / 16)


def test_a_task_may_know_better_which_answers_say_the_same():
    class Roman(Doubles):
        def vote(self, problem, completion, verdict):
            return "even" if verdict.outcome == "correct" else None

    def script(n: int, sample: int):
        return (good(n) if sample % 2 else f"x</think>\\boxed{{{100 + n}}}"), "stop"

    assert evaluate(Scripted(script), Letters(), Doubles(), samples=2).maj_at_k == 0.5, "a tie"
    assert evaluate(Scripted(script), Letters(), Roman(), samples=2).maj_at_k == 1.0


def test_measure_is_evaluate_with_a_client_and_a_config():
    generator, config = Scripted(lambda n, sample: (good(n), "stop")), EvalConfig(3, 2, 5, 0.5, 0.9, 40)
    measured = measure(LocalClient(generator, Letters()), Doubles(), config, model="m")
    settings = {"problems": 3, "samples": 2, "seed": 5, "temperature": 0.5, "top_p": 0.9, "max_tokens": 40}
    evaluated = evaluate(generator, Letters(), Doubles(), **settings)
    assert replace(measured, seconds=0, model="") == replace(evaluated, seconds=0)
    assert measured.model == "m"
    assert config.changed(samples=None, seed=7) == EvalConfig(3, 2, 7, 0.5, 0.9, 40)


def test_a_hopeless_model_has_figures_too_and_they_are_json():
    evaluation = evaluate(Scripted(lambda n, sample: ("x</think>\\boxed{?}", "stop")), Letters(), Doubles())
    summary = json.loads(json.dumps(evaluation.summary(), allow_nan=False))
    assert summary["pass_at_1"] == summary["low"] == summary["maj_at_k"] == 0
    assert summary["unjudged"] == 32 and summary["tokens_per_solved"] is None
    assert evaluation.summary_rows()


def test_what_nobody_can_judge_is_not_right():
    """Nine right and five unjudged are 64%, not 100%."""

    def script(n: int, sample: int):
        return (good(n) if sample < 9 else "x</think>\\boxed{?}"), "stop"

    evaluation = evaluate(Scripted(script), Letters(), Doubles(), samples=14)
    assert evaluation.pass_at_1 == pytest.approx(9 / 14) == evaluation.pass_at_k[1]
    assert evaluation.unjudged == 5 * 8
    assert evaluation.tokens_per_solved == evaluation.tokens / (9 * 8)


class Voting(Doubles):
    """Knows better which answers say the same: by what they say, and never asks whether they ended."""

    def vote(self, problem, completion, verdict):
        return boxed(completion.answer)


@pytest.mark.parametrize("task", [Doubles(), Voting()])
def test_a_completion_that_was_cut_off_has_no_vote(task):
    """Two that were cut off behind the same wrong box don't outvote the one that ended; and none is no vote at all."""

    def script(n: int, sample: int):
        return (good(n), "stop") if sample == 2 else ("x</think>\\boxed{-1}", "length")

    evaluation = evaluate(Scripted(script), Letters(), task, samples=3)
    assert [record.answers[:2] for record in evaluation.records] == [[None, None]] * 8
    assert evaluation.maj_at_k == 1 and evaluation.pass_at_1 == pytest.approx(1 / 3)
    cut = evaluate(Scripted(lambda n, sample: (good(n), "length")), Letters(), task, samples=3)
    assert cut.maj_at_k == 0 and {answer for record in cut.records for answer in record.answers} == {None}


def test_problems_are_fixed_and_samples_depend_on_seed_problem_and_sample_alone():
    def requests(**settings):
        generator = Scripted(lambda n, sample: (good(n), "stop"))
        evaluate(generator, Letters(), Doubles(), **settings)
        return {(tuple(r.prompt), r.sampling.seed) for r in generator.requests}

    few, many = requests(problems=3, samples=2, seed=1), requests(problems=8, samples=4, seed=1)
    assert few < many, "asking for more must not change what was there"
    assert len(many) == 32
    other = requests(problems=8, samples=4, seed=2)
    assert {prompt for prompt, _ in other} == {prompt for prompt, _ in many}
    assert not other & many


@pytest.mark.parametrize("prefilled", [True, False])
def test_the_template_decides_whether_the_reasoning_is_open_already(prefilled):
    text = good(3) if prefilled else "<think>\n" + good(3)
    generator = Scripted(lambda n, sample: (text, "stop"))
    assert evaluate(generator, Letters(prefilled), Doubles(), problems=4).well_formed == 1.0
    assert evaluate(generator, Letters(not prefilled), Doubles(), problems=4).well_formed == 0.0


def test_sampling_settings_reach_the_generator():
    generator = Scripted(lambda n, sample: (good(n), "stop"))
    evaluate(generator, Letters(), Doubles(), samples=1, temperature=0.0, top_p=0.9, max_tokens=7)
    for sampling in (request.sampling for request in generator.requests):
        assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0, 0.9, 7)


@pytest.mark.parametrize("settings", [{"problems": 0}, {"samples": 0}, {"temperature": 0.0, "samples": 2}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(UserError):
        evaluate(Scripted(lambda n, sample: (good(n), "stop")), Letters(), Doubles(), **settings)


def test_a_split_without_problems_is_refused():
    class Empty(Doubles):
        def problems(self, split: str, seed: int) -> Iterator[Problem]:
            return iter(())

    with pytest.raises(UserError, match="no validation problems"):
        evaluate(Scripted(lambda n, sample: ("", "stop")), Letters(), Empty(), split="validation")


def test_compare_pairs_the_problems_and_refuses_others():
    def run(script, **settings):
        return evaluate(Scripted(script), Letters(), Doubles(), **settings)

    before = run(lambda n, sample: (good(n) if n % 2 else "x</think>\\boxed{}", "stop"))
    after = run(lambda n, sample: (good(n), "stop"))
    gain = compare(before, after)
    assert gain.mean == pytest.approx(0.5)
    assert gain.mean == after.pass_at_1 - before.pass_at_1
    assert gain.low < 0.5 < gain.high
    with pytest.raises(UserError, match="problems"):
        compare(before, run(lambda n, sample: (good(n), "stop"), problems=7))


@given(st.data())
def test_a_result_that_somebody_has_changed_is_read_or_refused(data):
    values = evaluate(Scripted(lambda n, sample: (good(n), "stop")), Letters(), Doubles(), samples=2).to_dict()
    target = data.draw(st.sampled_from([values, values["records"][0]]))
    key = data.draw(st.sampled_from(list(target)))
    target[key] = data.draw(
        st.none() | st.integers() | st.text() | st.lists(st.sampled_from(["maybe", "correct", 0, None])) | st.just({})
    )
    try:
        evaluation = Evaluation.from_dict(values)
    except UserError as error:
        assert "not an evaluation" in str(error)
        return
    assert evaluation.summary_rows() and evaluation.summary()


def test_an_unknown_outcome_is_refused():
    values = evaluate(Scripted(lambda n, sample: (good(n), "stop")), Letters(), Doubles()).to_dict()
    values["records"][3]["outcomes"][0] = "maybe"
    with pytest.raises(UserError, match=r"records\.3\.outcomes\.0.*'unjudged'"):
        Evaluation.from_dict(values)


def test_every_share_has_its_interval():
    def script(n: int, sample: int):
        return (good(n) if n % 2 or sample == n % 4 else "x</think>\\boxed{-1}"), "stop"

    evaluation = evaluate(Scripted(script), Letters(), Doubles(), samples=4)
    intervals = {**evaluation.pass_at_k_intervals, "maj": evaluation.majority}
    assert intervals[1] == evaluation.accuracy and intervals[4].mean == evaluation.pass_at_k[4]
    assert intervals["maj"].mean == evaluation.maj_at_k
    for interval in intervals.values():
        assert interval.low <= interval.mean <= interval.high and interval.low < interval.high
    summary, table = evaluation.summary(), dict(evaluation.summary_rows())
    assert summary["maj_at_k_interval"] == {
        "low": evaluation.majority.low, "high": evaluation.majority.high, "method": evaluation.majority.method,
    }  # fmt: skip
    assert summary["pass_at_k_intervals"].keys() == summary["pass_at_k"].keys()
    assert all("(95%: " in table[label] for label in ("pass@1", "pass@2", "pass@4", "maj@4"))


@given(st.integers(30, 120), st.integers(1, 100))
def test_prompt_and_answer_stay_within_the_context(context: int, max_tokens: int):
    class Counted(Scripted):
        def generate(self, requests, on_step=None):
            assert all(len(each.prompt) + each.sampling.max_tokens <= context for each in requests)
            self.bounds = {tuple(each.prompt): each.sampling.max_tokens for each in requests}
            return super().generate(requests, on_step)

    generator, config = Counted(lambda n, sample: (good(n), "stop")), EvalConfig(8, 2, max_tokens=max_tokens)
    prompts = [len(Letters().encode_chat([{"content": f"Double {n}!"}])) for n in range(8)]
    least = context - max(prompts)
    if least < 1:
        with pytest.raises(UserError, match=f"a prompt has {max(prompts)} tokens.*the {context} tokens"):
            measure(LocalClient(generator, Letters(), context=context), Doubles(), config)
        return
    evaluation = measure(LocalClient(generator, Letters(), context=context), Doubles(), config)
    assert set(generator.bounds.values()) == {min(max_tokens, context - prompt) for prompt in prompts}
    if max_tokens <= least:
        assert evaluation.sampling["max_tokens"] == max_tokens and "context" not in evaluation.sampling
        measure(LocalClient(generator, Letters(), context=context, strict=True), Doubles(), config)
        return
    assert (evaluation.sampling["max_tokens"], evaluation.sampling["context"]) == (least, context)
    with pytest.raises(UserError, match=f"--max-tokens {least} at most"):
        measure(LocalClient(generator, Letters(), context=context, strict=True), Doubles(), config)


def test_a_bound_that_the_context_makes_is_told_of_once(caplog):
    local = LocalClient(Scripted(lambda n, sample: (good(n), "stop")), Letters(), context=60)
    measure(local, Doubles(), EvalConfig(8, 4, max_tokens=500))
    (warning,) = caplog.messages
    assert "the 60 tokens" in warning and "not 500" in warning


def test_what_is_no_evaluation_is_refused(tmp_path):
    path = tmp_path / "foreign.json"
    for foreign in ({}, {"records": [{"id": "1"}]}, {"records": 3}):
        path.write_text(json.dumps(foreign))
        with pytest.raises(UserError, match=f"{path}: not an evaluation"):
            Evaluation.read(path)
    path.write_text("{")
    with pytest.raises(UserError, match=str(path)):
        Evaluation.read(path)
    with pytest.raises(UserError, match="cannot read"):
        Evaluation.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        ("1/2", "0.5", True), ("3", " 3.0", True), ("３", "3", True), ("-4", "−4", True),
        ("(31-6)×20", "( 31 - 6 ) * 20", True), ("x=2, y=3", "X = 2,y = 3", True),
        ("3", "-3", False), ("31-6", "6-31", False), ("x=2,y=3", "x=3,y=2", False),
        ("1" * 600, "1" * 601, False),
    ],
)  # fmt: skip
def test_answers_vote_together_when_they_say_the_same(first, second, agree):
    assert (normalise(first) == normalise(second)) is agree


def test_a_real_task_can_be_evaluated():
    task = get("countdown", difficulty=1, language="en")
    problems = {problem.prompt: problem for problem in islice(task.problems("test", 0), 5)}

    class Oracle:
        def generate(self, requests, on_step=None):
            texts = []
            for request in requests:
                prompt = "".join(map(chr, request.prompt)).split("<｜User｜>")[1].split("<｜Assistant｜>")[0]
                texts.append(f"So\n</think>\n\n\\boxed{{{task.solve(problems[prompt])}}}")
            return [Generation([], [0], [0.0], "stop", text) for text in texts]

    evaluation = evaluate(Oracle(), Letters(), task, problems=5, samples=2)
    assert evaluation.pass_at_1 == evaluation.maj_at_k == evaluation.well_formed == 1.0


def test_the_native_engine_gives_the_same_evaluation_alone_and_in_a_crowd():
    task = get("countdown", difficulty=1, language="en")
    tokenizer = Tokenizer.train([problem.prompt for problem in islice(task.problems("train", 0), 50)], 300)
    config = ModelConfig(
        "llama", vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, eos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    engine = Engine(Decoder(config).initialise(0).eval(), tokenizer, cache_bytes=1 << 22)
    steps = []
    few, many = (
        evaluate(
            engine, tokenizer, task, problems=problems, samples=2, seed=5, max_tokens=6,
            on_progress=lambda *at: steps.append(at),
        )
        for problems in (2, 6)
    )  # fmt: skip
    assert few.records == many.records[:2]
    assert steps[-1] == (12, many.tokens)
    assert any(record.text for record in many.records)
    other = evaluate(engine, tokenizer, task, problems=2, samples=2, seed=6, max_tokens=6)
    assert other.records != few.records
