"""The two sides of `rl_vs_trl.py`: what they run, and each in a process that takes its turns step by step."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from random import Random
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import torch
from common import peak_bytes
from machine import synchronise

from longjing.cluster.runtime import Runtime
from longjing.generation.multi_turn import MultiTurnRollout
from longjing.generation.request import Generation, Sampling
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings
from longjing.learning.rollouts import draw_problems, judge_group
from longjing.model.device import DTYPES, keep_freed_memory
from longjing.model.layers.lora import merge_lora
from longjing.model.store.checkpoint import save_model
from longjing.problems import Completion, Problem, Split, Task, Verdict
from longjing.text.reasoning import ReasoningStream
from longjing.text.tokenizer import Tokenizer


class EarlyLetters:
    """Setting a's task: the reward is the share of characters that are letters from a to m.

    Dense, so that every group has a signal, and learnable from noise. Prompts have 20 tokens, since digits are
    single ones and the template adds 5.
    """

    name = "early-letters"
    settings: dict[str, Any] = {}

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        random = Random(f"{split} {seed}")
        while True:
            digits = "".join(random.choices("0123456789", k=15))
            yield Problem(self.name, digits, digits, "a", {}, "en")

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        text = completion.reasoning + completion.answer
        share = sum("a" <= letter <= "m" for letter in text) / max(1, len(text))
        return Verdict("wrong", {"accuracy": share}, f"{share:.0%} early letters")

    def solve(self, problem: Problem) -> str:
        return problem.answer


@dataclass(frozen=True)
class Setting:
    """What both sides run. `stage.model` is the directory with the exported checkpoint.

    `rows`: TRL's completions per backward pass; `experts`: its `experts_implementation`.
    """

    stage: ReinforcementSettings
    task: Task
    rows: int
    experts: str | None = None


@dataclass(frozen=True)
class Step:
    """What a side tells of one step. `prompts` in tokens; `lengths` and `rewards` `[groups, samples]`.

    `processor`: seconds of all threads; if others had the processors too, they are fewer than the wall's.
    """

    seconds: float
    processor: float
    sampling: float
    judging: float
    prompts: list[int]
    lengths: list[list[int]]
    rewards: list[list[float]]
    peak: int


class Turns:
    """One side's end of the pipe: it waits for its turn, and tells what its step was like."""

    def __init__(self, pipe: Connection, save: Callable[[str], None], device: torch.device) -> None:
        self.pipe, self.save, self.device = pipe, save, device

    def wait(self) -> bool:
        """Do what is asked for outside the clock; True when a step is wanted, False when that was all."""
        while isinstance(job := self.pipe.recv(), str):
            self.save(job)
            self.pipe.send(None)
        self.started, self.spent = perf_counter(), process_time()
        return bool(job)

    def tell(self, **step: Any) -> None:
        synchronise(self.device)
        seconds, processor = perf_counter() - self.started, process_time() - self.spent
        self.pipe.send(Step(seconds, processor, **step, peak=peak_bytes(self.device)))


def longjing(pipe: Connection, setting: Setting, seed: int, device: torch.device, dtype: torch.dtype) -> None:
    learner = Reinforcement(setting.stage, Runtime(seed, device, dtype))
    learner.task = setting.task

    def save(path: str) -> None:
        whole = copy.deepcopy(learner.model)
        merge_lora(whole)
        save_model(whole, path)

    turns = Turns(pipe, save, device)
    pipe.send(peak_bytes(device))
    step = 0
    while turns.wait():
        metrics, rollouts, _ = learner.step(step)
        step += 1
        groups = [rollout["completions"] for rollout in rollouts]
        chats = [[{"role": "user", "content": rollout["prompt"]}] for rollout in rollouts]
        turns.tell(
            sampling=metrics["seconds_sampling"],
            judging=metrics["seconds_judging"],
            prompts=[len(learner.tokenizer.encode_chat(chat)) for chat in chats],
            lengths=[[len(completion["tokens"]) for completion in group] for group in groups],
            rewards=[[completion["reward"] for completion in group] for group in groups],
        )


def trl(pipe: Connection, setting: Setting, seed: int, device: torch.device, dtype: torch.dtype) -> None:
    import datasets
    import peft
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from transformers.utils import logging
    from trl import GRPOConfig, GRPOTrainer

    logging.set_verbosity_error()
    stage, preset, directory = setting.stage, setting.stage.preset(), setting.stage.model
    tokenizer = Tokenizer.from_directory(directory)
    theirs = AutoTokenizer.from_pretrained(directory, padding_side="left")
    implementation = {"experts_implementation": setting.experts} if setting.experts else {}
    # What is frozen TRL does best in the format of the products.
    kept = dtype if stage.lora else torch.float32
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=kept, **implementation)
    if stage.lora:
        lora = peft.LoraConfig(r=stage.lora.rank, lora_alpha=2 * stage.lora.rank, target_modules="all-linear")
        model = peft.get_peft_model(model, lora)
    end = model.config.eos_token_id
    if end is None:  # TRL would stop at the tokenizer's end token, and train on the padding behind it
        end = -1
    problems = [
        problem
        for step in range(stage.steps)
        for problem in draw_problems(setting.task, stage.prompts_per_step, seed, step, 0)
    ]
    texts = [tokenizer.render([{"role": "user", "content": problem.prompt}]) for problem in problems]
    prompts = [tokenizer.encode(text) for text in texts]
    if theirs(texts)["input_ids"] != prompts:
        raise RuntimeError("the two sides read the same prompts as different tokens")
    opened = ReasoningStream.after(texts[0]).in_reasoning
    seen: dict[str, Any] = {}

    def reward(prompts: list[str], completion_ids: list[list[int]], problem_index: list[int], **_: Any) -> list[float]:
        """The same judge, from the same ids. Notes what this step sampled."""
        began = perf_counter()
        dialogues = [MultiTurnRollout(tokenizer, [], opened, Sampling()) for _ in completion_ids]
        for dialogue, ids in zip(dialogues, completion_ids, strict=True):
            dialogue.add(
                Generation([], ids, [], "stop", tokenizer.decode(ids[:-1]))
                if ids[-1] == end
                else Generation([], ids, [], "length", tokenizer.decode(ids))
            )
        size = stage.group_size
        groups = [
            judge_group(setting.task, problems[problem_index[first]], dialogues[first : first + size])
            for first in range(0, len(dialogues), size)
        ]
        rewards = [group.rewards(stage.rewards) for group in groups]
        seen["prompts"] = [lengths[number] for number in problem_index[::size]]
        seen["lengths"] = [[len(generation.tokens) for generation in group.generations] for group in groups]
        seen["rewards"], seen["judging"] = rewards, perf_counter() - began
        return [value for group in rewards for value in group]

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, *arguments: Any, **settings: Any) -> Any:
            began = perf_counter()
            result = super()._generate_single_turn(*arguments, **settings)
            seen["sampling"] = perf_counter() - began
            return result

    class Interleaved(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = not turns.wait()

        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            turns.tell(**seen)
            control.should_training_stop = not turns.wait()

    lengths = [len(prompt) for prompt in prompts]
    optimizer = torch.optim.AdamW(
        model.parameters(), stage.learning_rate, betas=(0.9, 0.95), weight_decay=stage.weight_decay, fused=True
    )
    warmup = stage.warmup_steps + 1
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
    objective, samples = preset.objective, stage.prompts_per_step * stage.group_size
    with TemporaryDirectory() as scratch:
        trainer = Trainer(
            model,
            reward,
            GRPOConfig(
                scratch, use_cpu=device.type == "cpu", bf16=dtype == torch.bfloat16, seed=seed,
                gradient_checkpointing=False, max_steps=stage.steps, max_grad_norm=stage.max_grad_norm,
                per_device_train_batch_size=setting.rows, gradient_accumulation_steps=samples // setting.rows,
                num_generations=stage.group_size, max_completion_length=stage.max_tokens, beta=0.0,
                temperature=stage.temperature, shuffle_dataset=False, generation_kwargs={"eos_token_id": end},
                epsilon=objective.clip_low, epsilon_high=objective.clip_high,
                loss_type={"tokens": "dapo", "sequences": "grpo", "constant": "dr_grpo"}[preset.aggregation],
                scale_rewards={"none": "none", "group_std": "group"}[preset.advantage_scale],
                logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
                dataloader_num_workers=0, dataloader_pin_memory=False,
            ),
            train_dataset=datasets.Dataset.from_dict({"prompt": texts, "problem_index": list(range(len(texts)))}),
            processing_class=theirs,
            callbacks=[Interleaved()],
            optimizers=(optimizer, schedule),
        )  # fmt: skip
        trainer.eos_token_ids = [end]

        def save(path: str) -> None:
            whole = copy.deepcopy(model).merge_and_unload() if stage.lora else model
            whole.save_pretrained(path)

        turns = Turns(pipe, save, device)
        pipe.send(peak_bytes(device))
        trainer.train()


SIDES = {"longjing": longjing, "trl": trl}


def serve(
    pipe: Connection, side: str, dtype: str, setting: Setting, seed: int, device: torch.device, threads: int
) -> None:
    """One contestant's process: sends the peak of memory once loaded, then a `Step` for every turn."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # Longjing's own runs do; TRL gains as much
    SIDES[side](pipe, setting, seed, device, DTYPES[dtype])
