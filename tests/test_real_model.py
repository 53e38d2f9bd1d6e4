"""A real model all the way: SmolLM2-135M-Instruct is read, talks, learns, is killed, goes on, and is written."""

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from test_kill import KILLED, Worker

import longjing
from longjing.generation.factory import make_generator
from longjing.generation.request import Request, Sampling
from longjing.model.layers.lora import adapters, merge_lora
from longjing.recipe.export import export_model
from longjing.text.tokenizer import Tokenizer

STEPS = {
    "kind": "reinforce", "name": "rl", "model": "smollm2", "steps": 2, "prompts_per_step": 2, "group_size": 3,
    "max_tokens": 12, "lora": {"rank": 4}, "learning_rate": 1e-3, "save_every": 1, "rewards": {"accuracy": 1.0},
    "dynamic_sampling": 0, "evaluation": {"every": 0, "problems": 1, "samples": 1},
}  # fmt: skip


def answer(name: str | Path, question: str, begun: str) -> str:
    """How it goes on with an answer that has begun: of its first word it isn't sure."""
    model, tokenizer = longjing.load(name, dtype="bfloat16")
    prompt = tokenizer.encode_chat([{"role": "user", "content": question}]) + tokenizer.encode(begun)
    (generation,) = make_generator(model, tokenizer).generate([Request(prompt, Sampling(temperature=0, max_tokens=16))])
    return tokenizer.decode(generation.tokens, skip_special_tokens=True)


def test_a_real_model_is_read_taught_killed_and_written(smollm2: Path, tmp_path: Path) -> None:
    assert answer(smollm2, "What is the capital of France?", "The capital of France is") == " Paris."

    problems = tmp_path / "sums.jsonl"
    rows = [{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a in range(1, 13) for b in range(1, 13)]
    problems.write_text("\n".join(map(json.dumps, rows)))
    task = {"name": str(problems), "verifier": "number"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "sums", "dtype": "bfloat16", "stages": [STEPS | {"task": task}]}))
    worker = Worker()
    try:
        assert worker.run(recipe, tmp_path / "whole") == 0
        killed = worker.run(
            recipe, tmp_path / "killed", ("longjing.runs.directory:StageDirectory.save_state", 1, "after")
        )
        assert killed == KILLED
        assert not (tmp_path / "killed" / "rl" / "result.json").exists()
        assert worker.run(recipe, tmp_path / "killed") == 0
    finally:
        worker.close()
    files = [tmp_path / run / "rl" / "model" / "adapter_model.safetensors" for run in ("whole", "killed")]
    whole, killed_too = map(load_file, files)
    assert all(torch.equal(tensor, killed_too[name]) for name, tensor in whole.items())
    metrics = [json.loads(line) for line in (tmp_path / "whole" / "rl" / "metrics.jsonl").read_text().splitlines()]
    assert all(row.get("logprob_difference", 0) < 0.005 for row in metrics)

    model, tokenizer = longjing.load(tmp_path / "killed")
    assert len(list(adapters(model))) == 7 * model.config.num_hidden_layers
    merge_lora(model)
    export_model(str(tmp_path / "killed"), None, tmp_path / "out.gguf", kind="F32")
    again = longjing.load(tmp_path / "out.gguf")[0]
    tokens = torch.tensor([tokenizer.encode("12 + 30 is 42, and Paris is a city.")])
    with torch.no_grad():
        assert (again(tokens) - model(tokens)).abs().max() < 1e-3
    assert Tokenizer.from_directory(tmp_path / "out.gguf").encode("Hi, 42!") == tokenizer.encode("Hi, 42!")
    (tmp_path / "out.gguf").unlink()  # half a gigabyte
