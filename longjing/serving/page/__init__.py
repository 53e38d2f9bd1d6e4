"""The page: chat, compare, and runs as they train. Works with no network."""

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before Gradio is imported

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from longjing.serving.middleware import HeadersMiddleware
from longjing.serving.page.chat import chat_tab
from longjing.serving.page.compare import compare_tab
from longjing.serving.page.login import Login
from longjing.serving.page.markdown import escape_markdown
from longjing.serving.page.model_pool import ModelPool
from longjing.serving.page.routes import attach
from longjing.serving.page.runs_tab import runs_tab
from longjing.serving.service import Service

_STYLES = [Path(__file__).with_name(name) for name in ("page.css", "runs.css")]
_ICON = (
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E"
    "%3Ccircle cx='16' cy='16' r='15' fill='%23059669'/%3E"
    "%3Cpath d='M9 21c0-9 6-12 14-12 0 9-5 14-12 13l-2 2z' fill='white'/%3E%3C/svg%3E"
)
_HEAD = f'<link rel="icon" href="data:image/svg+xml,{_ICON}">'
# What a page of this server may load: nothing from anywhere else, and no image at all but its own, whatever a model
# writes.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src data:; font-src 'self' data:; connect-src 'self'; frame-ancestors 'self'; form-action 'self'; "
    "base-uri 'self'"
)


def mount(
    app: FastAPI, service: Service, folder: Path, *, key: str | None, endpoints: bool, watch: bool = False
) -> FastAPI:
    """Put the page at the root of `app`. `folder`: where runs lie; `key`: what it asks people for, None for nothing;
    `endpoints`: whether people may name servers that this one then asks; `watch`: whether it opens at the runs."""
    app.state.gate = None if key is None else Login(key)
    app.add_middleware(
        HeadersMiddleware,
        headers={
            "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        },
    )  # fmt: skip
    theme = gr.themes.Soft(
        primary_hue="emerald", secondary_hue="emerald", neutral_hue="stone",
        font=["ui-sans-serif", "system-ui", "sans-serif"], font_mono=["ui-monospace", "Consolas", "monospace"],
    )  # fmt: skip
    blocks, shell = page(service, folder, endpoints, watch), FastAPI()
    blocks.state_session_capacity = 500  # sessions of which Gradio keeps what they see
    gr.mount_gradio_app(
        shell, blocks, path="/", theme=theme, css_paths=_STYLES, ssr_mode=False, footer_links=[], show_error=False,
        head=_HEAD, run_history=False, mcp_server=False, enable_monitoring=False, pwa=False, max_file_size=0,
    )  # fmt: skip
    app.router.lifespan_context = shell.router.lifespan_context
    (gradio,) = (route.app for route in shell.router.routes if isinstance(route, Mount))
    attach(app, blocks, gradio)
    return app


def page(service: Service, folder: Path, endpoints: bool, watch: bool = False) -> gr.Blocks:
    """The page itself."""
    pool = ModelPool(service, folder)
    with gr.Blocks(title="Longjing", fill_height=True, analytics_enabled=False) as blocks:
        model = next(iter(service.models.values()))
        size = f"{model.parameters / 1e6:,.1f} million parameters"
        subtitle = f"{escape_markdown(model.name)}, {size}, thinks before it answers"
        gr.Markdown(f"# Longjing\n{subtitle}", elem_classes="lj-title")
        with gr.Tabs(selected="runs" if watch else "chat"):
            with gr.Tab("Chat", id="chat"):
                chat_tab(pool)
            with gr.Tab("Compare", id="compare"):
                compare_tab(pool, endpoints)
            with gr.Tab("Runs", id="runs"):
                runs_tab(folder)
        blocks.unload(pool.release_session)
    return blocks
