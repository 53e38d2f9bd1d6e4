"""The command that serves models: the API and the page."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from longjing.cli.models import Device, Dtype, Exact, exact_dtype
from longjing.cli.output import announce
from longjing.errors import UserError

_MODELS_HELP = "runs, model directories, shipped models; the first is the default"
_HOST_HELP = (
    "a name of this server, as browsers see it; on 127.0.0.1 none but localhost is taken else. "
    "Repeat for more; * is any"
)
_THREADS_HELP = "of the CPU, for the models; default: one for small models, else all cores but one"

Host = Annotated[str, typer.Option(help="where to listen; 0.0.0.0 is for everybody who reaches this machine")]
Origins = Annotated[
    list[str] | None, typer.Option(metavar="ORIGIN", help="a web page that may call the API; repeat for more")
]
Names = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="what clients call a model; one for each, in their order")
]
RepetitionGuard = Annotated[
    bool | None,
    typer.Option(
        "--repetition-guard/--no-repetition-guard", help="end replies that go in circles; default: small models'"
    ),
]


def serve(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", help=_MODELS_HELP)] = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="LONGJING_API_KEY", help="asked of every client, and by the page of every person"),
    ] = None,
    runs: Annotated[Path, typer.Option(help="where the runs lie that the page shows")] = Path("runs"),
    page: Annotated[bool, typer.Option(help="the page at the root, or the API alone")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="the page opens at the runs")] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="completions that run at once, of each model")] = 256,
    queue: Annotated[int, typer.Option(min=0, help="completions that wait beyond those; then 429")] = 256,
    cache_mb: Annotated[int, typer.Option(min=1, help="memory for what runs, of each model")] = 1024,
    prefix_mb: Annotated[int, typer.Option(min=0, help="memory for conversations that may go on; 0: none")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds that a request may take")] = 600.0,
    grace: Annotated[float, typer.Option(min=0, help="seconds to finish what runs when it is told to stop")] = 30.0,
    max_request_mb: Annotated[int, typer.Option(min=1, help="the largest request")] = 8,
    cors: Origins = None,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help=_HOST_HELP)] = None,
    served_model_name: Names = None,
    repetition_guard: RepetitionGuard = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    exact: Exact = False,
    threads: Annotated[int | None, typer.Option(min=1, help=_THREADS_HELP)] = None,
) -> None:
    """Serve models: an OpenAI-compatible API under /v1, and a page at the root to chat, compare and watch runs.

    Examples:

        longjing serve

        longjing serve runs/r1-zero r1 base --port 8080

        LONGJING_API_KEY=secret longjing serve --host 0.0.0.0 --no-page

        curl localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\
            -d '{"messages": [{"role": "user", "content": "What is 34+57?"}]}'
    """
    try:
        from longjing.serving.api import ApiConfig, build
        from longjing.serving.middleware import allowed_hosts
        from longjing.serving.server import address, listen, run
        from longjing.serving.service import EngineLimits, Service

        if page:
            from longjing.serving.page import mount
    except ImportError as error:
        raise UserError(f"serving needs more packages ({error}): pip install 'longjing[serve]'") from error

    console = Console()
    # Typer takes an empty one for none.
    key = os.environ.get("LONGJING_API_KEY") if api_key is None else api_key
    bound = listen(host, port)
    listens_on = bound.getsockname()[0]
    local = ip_address(listens_on).is_loopback
    hosts = allowed_hosts(listens_on, allow_host or ())
    config = ApiConfig(key, timeout, max_request_mb << 20, tuple(cors or ()), hosts)
    limits = EngineLimits(
        max_batch, queue, cache_mb << 20, prefix_mb << 20, threads, True if exact else None, repetition_guard
    )
    service = Service(device, exact_dtype(dtype, exact), limits)
    _load(service, _named(models or ["r1"], served_model_name or []), threads, console)
    app = build(service, config)
    if page:
        mount(app, service, runs, key=key, endpoints=local or key is not None, watch=watch)
    if not (local or key):
        text = "Anyone who reaches this machine can use it: give --api-key, or listen on 127.0.0.1."
        announce(console, text, "yellow")

    def ready(server: object) -> None:
        if page:
            announce(console, f"Page:  {address(bound)}")
        announce(console, f"API:   {address(bound)}/v1" + ("   (Ctrl-C stops it)" if console.is_terminal else ""))

    run(app, service, bound, grace, ready)
    announce(console, "Stopped.")


def _named(models: list[str], names: list[str]) -> list[tuple[str, str | None]]:
    """Each of the models with its name, None for its own."""
    if not names:
        return [(model, None) for model in models]
    if len(names) != len(models) or len(set(names)) < len(names):
        raise UserError(f"--served-model-name: give each of the {len(models)} models one name of its own")
    return [*zip(models, names, strict=True)]


def _load(service: Any, models: list[tuple[str, str | None]], threads: int | None, console: Console) -> None:
    """Load the models, and say what each is."""
    import torch

    # By default a core is left to those who bring the work.
    torch.set_num_threads(threads or max(1, torch.get_num_threads() - 1))
    for path, name in models:
        model = service.load(path, name)
        weight = model.engine.model.embed_tokens.weight
        size = f"{model.parameters / 1e6:.1f} million parameters"
        form = f"{weight.device} in {weight.dtype}".replace("torch.", "")
        text = f"{model.name}: {size}, context {model.context}, on {form}; if not asked otherwise, {model.defaults}"
        announce(console, text, "dim")
