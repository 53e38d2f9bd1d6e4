"""Commands on models: talk to one, export one, list them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from longjing.cli.output import say, show_table
from longjing.errors import UserError

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the fastest that is there")]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16")]


def chat(
    model: Annotated[str, typer.Argument(help="a run, a model directory, or a shipped model's name")] = "r1",
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token")] = 0.6,
    max_tokens: Annotated[int, typer.Option(min=1, help="longest reply, reasoning included")] = 512,
    budget: Annotated[
        int | None, typer.Option(min=0, help="tokens to think for; default what the answer leaves of --max-tokens")
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed and questions give the same replies")] = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Talk to a model in the terminal. Its reasoning is dimmed, its answer isn't.

    Examples:

        longjing chat

        longjing chat runs/r1-zero

        longjing chat base --temperature 0
    """
    from longjing.chat.session import ChatModel, ChatSession
    from longjing.cli.terminal import converse
    from longjing.recipe.running import task_of

    console = Console(highlight=False)

    def load(name: str) -> ChatModel:
        engine, tokenizer = load_engine(name, device, dtype, console)
        limit = engine.model.config.max_position_embeddings
        return ChatModel(name, engine, tokenizer, limit, task_of(name))

    session = ChatSession(load(model), temperature, max_tokens, seed)
    if budget is not None:
        session.budget = budget
    converse(session, load, console)


def export(
    run: Annotated[Path, typer.Argument(help="a run")],
    directory: Annotated[Path, typer.Argument(help="where the model goes; its name is the model's")],
    stage: Annotated[str | None, typer.Option(help="whose model; default the run's own")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16 (default), half the size, or float32, as it was trained")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="an adapter and its base as one whole model")] = False,
) -> None:
    """Write a run's model as a Hugging Face directory, with a card that says how it was made and what it can do.

    A stage with `lora` has made an adapter, which is written in the form of `peft`; with --merge, a whole model. An
    adapter's own directory can be merged, too, without a card. Of a card that is there already only the facts are
    written again.

    Examples:

        longjing export runs/r1 my-model --stage distilled

        longjing export runs/my-task my-model --merge
    """
    from longjing.recipe.card import export_model, merge_into
    from longjing.runs import RunDirectory

    if merge and stage is None and not (run / "recipe.yaml").exists():
        merge_into(run, directory, dtype)
    else:
        export_model(RunDirectory(run), stage, directory, dtype, merge)
    print(directory)


def models() -> None:
    """List the models that come with the package; `longjing chat NAME` talks to one."""
    from longjing.recipe.card import about
    from longjing.runs.resolve import SHIPPED, shipped

    show_table("models", [(name, about(SHIPPED / name / "README.md")) for name in shipped()], Console())


def refuse_device(device: str, dtype: str) -> None:
    """Raise UserError if they were given, beside an endpoint."""
    if (device, dtype) != ("auto", "float32"):
        raise UserError("--device and --dtype are for a model here; an endpoint has chosen its own")


def load_engine(model: str, device: str, dtype: str, console: Console) -> Any:
    """An engine for the model, and its tokenizer; says what was chosen."""
    import longjing
    from longjing.generation.factory import make_generator

    network, tokenizer = longjing.load(model, device, dtype)
    weight = network.embed_tokens.weight
    size = sum(parameter.numel() for parameter in network.parameters())
    dtype = str(weight.dtype).removeprefix("torch.")
    say(console, f"{model}: {size / 1e6:.1f} million parameters, on {weight.device} in {dtype}", "dim")
    return make_generator(network, tokenizer, speculate="auto", prefix_bytes=64 << 20), tokenizer
