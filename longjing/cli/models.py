"""Commands on models: talk to one, export one, list them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from longjing.cli.output import say, show_table
from longjing.errors import UserError

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the fastest that is there")]
Dtype = Annotated[
    str, typer.Option(help="float32, bfloat16, or auto: bfloat16 for files of no more bits, where that is fast")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="float32, with the same bits whatever runs beside; small models always")
]


def chat(
    model: Annotated[str, typer.Argument(help="a run, a model directory, or a shipped model's name")] = "r1",
    system: Annotated[str, typer.Option(help="what the model is told before the conversation: a system prompt")] = "",
    temperature: Annotated[
        float | None, typer.Option(min=0, help="0 always takes the likeliest token; default the model's own, or 0.6")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="longest reply, reasoning included; default the model's own, or 512")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=0, help="tokens to think for; default what the answer leaves of --max-tokens")
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed and questions give the same replies")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    exact: Exact = False,
) -> None:
    """Talk to a model in the terminal. Its reasoning is dimmed, its answer isn't.

    Examples:

        longjing chat

        longjing chat runs/r1-zero

        longjing chat base --temperature 0

        longjing chat smollm2 --system "You are a pirate."
    """
    from longjing.chat.session import ChatModel, ChatSession
    from longjing.cli.terminal import converse
    from longjing.generation.defaults import SamplingDefaults
    from longjing.model.threads import is_small
    from longjing.recipe.running import task_of

    console = Console(highlight=False)

    def load(name: str) -> ChatModel:
        engine, tokenizer = load_engine(name, device, dtype, console, exact)
        limit, defaults = (
            engine.model.config.max_position_embeddings,
            SamplingDefaults.of(engine.model.generation_config),
        )
        if str(defaults):
            say(console, f"its own settings: {defaults}", "dim")
        return ChatModel(name, engine, tokenizer, limit, task_of(name), defaults, is_small(engine.model))

    session = ChatSession(load(model), temperature, max_tokens, seed)
    session.system = system
    if budget is not None:
        session.budget = budget
    converse(session, load, console)


def export(
    model: Annotated[str, typer.Argument(help="a run, or a model's name, directory or GGUF file")],
    target: Annotated[Path, typer.Argument(help="where it goes: a directory, or a file that ends in .gguf")],
    stage: Annotated[str | None, typer.Option(help="of a run: whose model; default the run's own")] = None,
    to: Annotated[str | None, typer.Option(help="hf or gguf; default what the target's name says")] = None,
    type: Annotated[
        str | None,
        typer.Option("--type", "--dtype", help="F32, F16 or BF16 (default); in GGUF also Q8_0, Q4_0 and Q4_1"),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="an adapter and its base as one whole model")] = False,
) -> None:
    """Write a model as a Hugging Face directory, or as a GGUF file with a Modelfile for Ollama, and say how to run it.

    A run's model gets a card that says how it was made and what it can do; of one that is there already only the
    facts are written again. An adapter, which a stage with `lora` has made, is written in the form of `peft`, unless
    it is merged into its base; in GGUF it always is.

    Examples:

        longjing export runs/r1 my-model --stage distilled

        longjing export runs/r1 my-model.gguf --type Q8_0

        longjing export runs/my-task my-model --merge
    """
    from longjing.recipe.export import FORMS, export_model

    if to is not None and to not in FORMS:
        raise UserError(f"--to {to}: known are {' and '.join(FORMS)}")
    kind = None if type is None else {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}.get(type, type.upper())
    lines = export_model(model, stage, target, None if to is None else FORMS[to], kind, merge)
    print("\n".join([str(target), *lines]))


def fetch(name: Annotated[str, typer.Argument(help="smollm2, or a model's name on the Hugging Face Hub")]) -> None:
    """Put a model into this machine's cache, so that it is here without a network, and say where it lies.

    Examples:

        longjing fetch smollm2

        longjing fetch Qwen/Qwen2.5-0.5B-Instruct
    """
    from longjing.runs.resolve import resolve

    print(resolve(name))


def models() -> None:
    """List the models that come with the package; `longjing chat NAME` talks to one."""
    from longjing.recipe.card import about
    from longjing.runs.resolve import SHIPPED, shipped

    show_table("models", [(name, about(SHIPPED / name / "README.md")) for name in shipped()], Console())


def refuse_device(device: str, dtype: str) -> None:
    """Raise UserError if they were given, beside an endpoint."""
    if (device, dtype) != ("auto", "auto"):
        raise UserError("--device and --dtype are for a model here; an endpoint has chosen its own")


def exact_dtype(dtype: str, exact: bool) -> str:
    """The format to load in. Raises UserError for `--exact` with another than float32."""
    if exact and dtype == "bfloat16":
        raise UserError("--exact computes in float32: leave out --dtype bfloat16, or --exact")
    return "float32" if exact else dtype


def load_engine(model: str, device: str, dtype: str, console: Console, exact: bool = False) -> Any:
    """An engine for the model, and its tokenizer; says what was chosen. `exact`: see `Engine`'s `batch_invariant`."""
    import longjing
    from longjing.generation.factory import make_generator

    network, tokenizer = longjing.load(model, device, exact_dtype(dtype, exact))
    weight = network.embed_tokens.weight
    size = sum(parameter.numel() for parameter in network.parameters())
    dtype = str(weight.dtype).removeprefix("torch.")
    say(console, f"{model}: {size / 1e6:.1f} million parameters, on {weight.device} in {dtype}", "dim")
    engine = make_generator(
        network, tokenizer, speculate="auto", prefix_bytes=64 << 20, batch_invariant=True if exact else None
    )
    return engine, tokenizer
