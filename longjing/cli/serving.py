"""The command that serves models: the API and the page."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from longjing.cli.models import Device, Dtype
from longjing.cli.output import announce
from longjing.errors import UserError


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...", help="runs, model directories, shipped models; the first is the default"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="where to listen; 0.0.0.0 is for everybody who reaches this machine")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="LONGJING_API_KEY", help="asked of every client, and by the page of every person"
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="where the runs lie that the page shows")] = Path("runs"),
    page: Annotated[bool, typer.Option(help="the page at the root, or the API alone")] = True,
    watch: Annotated[bool, typer.Option("--watch", help="the page opens at the runs")] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="completions that run at once, of each model")] = 256,
    queue: Annotated[int, typer.Option(min=0, help="completions that wait beyond those; then 429")] = 256,
    cache_mb: Annotated[int, typer.Option(min=1, help="memory for what runs, of each model")] = 1024,
    prefix_mb: Annotated[
        int, typer.Option(min=0, help="memory for conversations that may go on; 0: none")
    ] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds that a request may take")] = 600.0,
    grace: Annotated[
        float, typer.Option(min=0, help="seconds to finish what runs when it is told to stop")
    ] = 30.0,
    max_request_mb: Annotated[int, typer.Option(min=1, help="the largest request")] = 8,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="a web page that may call the API; repeat for more"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="a name of this server, as browsers see it; on 127.0.0.1 none but localhost is taken else. "
            "Repeat for more; * is any",
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="of the CPU, for the models; default: one for small models, else all cores but one"
        ),
    ] = None,
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

    import torch

    if api_key is None:
        api_key = os.environ.get("LONGJING_API_KEY")  # Typer takes an empty one for none
    console = Console()
    bound = listen(host, port)
    where = address(bound)
    names = allowed_hosts(bound.getsockname()[0], allow_host or ())
    config = ApiConfig(api_key, timeout, max_request_mb << 20, tuple(cors or ()), names)
    local = ip_address(bound.getsockname()[0]).is_loopback
    # By default a core is left to those who bring the work.
    torch.set_num_threads(threads or max(1, torch.get_num_threads() - 1))
    limits = EngineLimits(max_batch, queue, cache_mb << 20, prefix_mb << 20, threads)
    service = Service(device, dtype, limits)
    for name in models or ["r1"]:
        model = service.load(name)
        announce(
            console,
            f"{model.name}: {model.parameters / 1e6:.1f} million parameters, context {model.context}",
            "dim",
        )
    app = build(service, config)
    if page:
        mount(app, service, runs, key=api_key, endpoints=local or api_key is not None, watch=watch)
    if not (local or api_key):
        announce(
            console,
            "Anyone who reaches this machine can use it: give --api-key, or listen on 127.0.0.1.",
            "yellow",
        )

    def ready(server: object) -> None:
        if page:
            announce(console, f"Page:  {where}")
        announce(console, f"API:   {where}/v1" + ("   (Ctrl-C stops it)" if console.is_terminal else ""))

    run(app, service, bound, grace, ready)
    announce(console, "Stopped.")
