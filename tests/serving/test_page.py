"""The page in a browser (Chromium, driven by Playwright): ask, think, stop, retry, compare; nothing from elsewhere."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
import tiny
from conftest import CACHE, Running, serving, small
from test_runs_page import completion, metrics, rollout, stage_of

from longjing.serving.api import ApiConfig, build
from longjing.serving.page import mount
from longjing.serving.page.chat import chat_messages, reply_messages
from longjing.serving.page.reply_stream import PageReply
from longjing.serving.served_model import ServedModel
from longjing.serving.service import EngineLimits, Service

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
if CHROMIUM is None and os.environ.get("LONGJING_REQUIRE_CHROMIUM"):
    raise RuntimeError("LONGJING_REQUIRE_CHROMIUM is set, and there is no Chromium")
browser_tests = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
QUESTION = "Use 3, 5 and 7 to make 22. Use each number once."
MERMAID = 'graph TD\n  a@{ img: "/health", label: "x", w: 60, h: 60 }\n  b["![i](/metrics)"]\n'
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> [click](javascript:window.hacked=3) "
    "![spy](http://203.0.113.7/spy.png) <iframe srcdoc='<script>parent.hacked=4</script>'></iframe> "
    "\\boxed{<svg onload=window.hacked=5>} $$\\href{javascript:window.hacked=6}{x}$$ `<b onmouseover=hacked=7>`\n"
    "$$\\includegraphics[width=1em]{/health} \\htmlData{x=1}{y} \\url{javascript:window.hacked=8}$$\n\n"
    "![a][ref] [![b][ref]](x) !\\[c](/health) ![d]( /health )\n\n[ref]: /health\n\n"
    f"```mermaid\n{MERMAID}```\n\n> ```mermaid\n> graph TD\n> ```\n\n- ```mermaid\n  graph TD\n  ```\n\n"
    f"````mermaid\n{MERMAID}````\n\n~~~mermaid\n{MERMAID}~~~\n\n``` mermaid\n{MERMAID}```\n\n```MERMAID\n{MERMAID}```"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A page that serves r1, with one run, which has finished."""
    service = Service("cpu", limits=EngineLimits(cache_bytes=CACHE))
    service.load("r1")
    app = build(service)
    folder = tmp_path_factory.mktemp("runs")
    tiny.save_base(folder / "base", "llama")
    stage = stage_of(folder / "learned", model=str(folder / "base"))
    right = completion("2+2=4\n</think>\n\n4", "correct", advantage=0.5, reward=2.0)
    right["logprobs"] = [-0.5 * index for index in range(len(right["tokens"]))]
    for step in range(10):
        stage.metrics.append(metrics(step))
        stage.rollouts.append(rollout(step, "p", "And 2+2?", completion("2+2=5\n</think>\n\n5"), right))
    stage.finish({})
    mount(app, service, folder, key=None, endpoints=True)
    with pytest.MonkeyPatch.context() as patch, serving(service, app=app) as running:
        patch.setenv("GRADIO_HEARTBEAT_INTERVAL", "0.3")  # how soon it is noticed that a browser has left
        yield running


@pytest.fixture(scope="module")
def where(server: Running) -> str:
    return server.url


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a key, whose model and run have hostile names."""
    service, folder = small(), tmp_path_factory.mktemp("runs")
    name = "![i](/health) <img src=x onerror='window.hacked=1'> [l](javascript:window.hacked=2) | `x` **b** $$x$$"
    served = service.models["tiny"]
    service.models = {name: replace(served, name=name)}
    stage_of(folder / "<" / "script><script>window.hacked = 3; '![i](health)").finish({})
    app = build(service, ApiConfig(key="so secret"))
    mount(app, service, folder, key="so secret", endpoints=True)
    with serving(service, app=app) as running:
        yield running


@browser_tests
def test_the_key_is_asked_for_and_names_do_nothing(browser, locked):
    context = browser.new_context()
    page, dialogs = context.new_page(), []
    page.on("request", lambda request: dialogs.append(request.url))
    page.goto(locked.url)
    field = page.get_by_label("This server asks for its key.")
    field.fill("wrong")
    field.press("Enter")
    page.get_by_text("That isn't the key.").wait_for()
    assert not context.cookies()
    dialogs.clear()
    field.fill("so secret")
    page.get_by_role("button").click()
    page.get_by_placeholder("Ask, then Enter").wait_for()
    (cookie,) = context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and "so secret" not in str(cookie)
    assert not [url for url in dialogs if "secret" in url] and page.url == f"{locked.url}/"
    name = next(iter(locked.service.models))
    page.get_by_text(name.partition(" <")[0]).first.wait_for()  # letter by letter
    page.get_by_role("tab", name="Runs").click()
    page.get_by_text("finished", exact=True).wait_for()
    page.get_by_label("Run", exact=True).click()
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Model A").click()
    dialogs = [
        url
        for url in dialogs
        if not url.endswith(("/", "/login")) and "/theme.css" not in url and "/static/" not in url
    ]
    nothing_happened(page, dialogs)
    page.reload()
    page.get_by_placeholder("Ask, then Enter").wait_for()
    assert context.request.get(f"{locked.url}/v1/models").status == 401  # the cookie is the page's alone
    context.close()


@pytest.fixture
def page(browser, where, monkeypatch):
    """A fresh visitor; at the end nothing may have been asked of another host, and no script may have failed.

    The model draws the same each time: what is tried is the page.
    """
    monkeypatch.setattr(ServedModel, "_seeds", lambda self, request, prompt=0: list(range(7, 7 + (request.n or 1))))
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    elsewhere, failed = [], []
    page.on(
        "request", lambda sent: None if sent.url.startswith((where, "data:", "blob:")) else elsewhere.append(sent.url)
    )
    page.on("pageerror", lambda error: failed.append(error))
    page.set_default_timeout(30_000)
    page.goto(where)
    page.get_by_placeholder("Ask, then Enter").wait_for()
    yield page
    context.close()
    assert not elsewhere and not failed


def ask(page, question: str) -> None:
    box = page.get_by_placeholder("Ask, then Enter")
    box.fill(question)
    box.press("Enter")


def settled(page) -> None:
    """Wait for the line that says what a reply took."""
    page.get_by_text(re.compile(r"tokens/s")).last.wait_for()


@browser_tests
def test_ask_and_read_the_thought(page):
    ask(page, "What is 34+57?")
    settled(page)
    page.locator(".katex .fbox, .katex .boxed, .katex").first.wait_for()
    thought = page.get_by_text("Thought", exact=True)
    assert thought.count() == 1
    words = page.get_by_text(re.compile(r"\d=\d")).first  # a step; the question has none
    page.wait_for_timeout(300)
    was_open = words.is_visible()
    thought.click()
    words.wait_for(state="hidden" if was_open else "visible")
    # Again: another reply in its place, and still one question.
    page.get_by_label("Retry").last.click()
    page.wait_for_timeout(300)
    settled(page)
    assert page.get_by_text("What is 34+57?", exact=True).count() == 2  # the bubble and the list of chats


@browser_tests
def test_chats_are_kept_in_the_browser(page):
    ask(page, "What is 2 + 3?")
    settled(page)
    page.get_by_text("What is 2 + 3?", exact=True).nth(1).wait_for()  # beside the bubble, in the list of chats
    page.wait_for_timeout(300)
    page.reload()
    page.get_by_text("What is 2 + 3?").first.click()
    settled(page)


@browser_tests
def test_stop(page, monkeypatch):
    async def endless(*_):
        import asyncio

        reply = PageReply()
        while True:
            reply = PageReply(reasoning=reply.reasoning + "and on ")
            yield reply
            await asyncio.sleep(0.05)

    monkeypatch.setattr("longjing.serving.page.chat.stream_reply", endless)
    ask(page, QUESTION)
    page.get_by_text("Thinking", exact=True).wait_for()
    page.locator("button.stop-button").click()
    page.locator("button.submit-button").wait_for()
    page.get_by_placeholder("Ask, then Enter").wait_for()


def nothing_happened(page, dialogs: list[str]) -> None:
    """No script has run, and nothing was asked for that the page doesn't ask itself."""
    page.wait_for_timeout(700)
    assert page.evaluate("window.hacked") is None
    assert page.locator("iframe, img[src='x'], img[src*='health'], image, .mermaid, .mermaid svg").count() == 0
    own = re.compile(r"/(gradio_api/(queue|run|heartbeat|cancel|reset)|assets/)")
    assert not [url for url in dialogs if not own.search(url) and not url.startswith(("data:", "blob:"))]
    assert not [url for url in dialogs if "mermaid" in url]


@browser_tests
@pytest.mark.parametrize("tab", ["chat", "compare"])
def test_what_a_model_writes_is_shown_and_does_nothing(page, monkeypatch, tab):
    async def hostile(*_):
        yield PageReply(HOSTILE, HOSTILE, notices=(HOSTILE,), problem=HOSTILE, done=True, tokens=1)

    monkeypatch.setattr(f"longjing.serving.page.{tab}.stream_reply", hostile)
    dialogs: list[str] = []
    page.on("request", lambda request: dialogs.append(request.url))
    if tab == "chat":
        ask(page, QUESTION)
        settled(page)
    else:
        page.get_by_role("tab", name="Compare").click()
        page.get_by_placeholder("Ask both").fill(QUESTION)
        page.get_by_placeholder("Ask both").press("Enter")
    page.get_by_text("Thought", exact=True).first.click()
    page.get_by_text("graph TD").last.wait_for()
    nothing_happened(page, dialogs)
    for link in page.locator("a[href^='javascript']").all():
        link.click()
    nothing_happened(page, dialogs)


@browser_tests
def test_compare_blind_and_vote(page):
    page.get_by_role("tab", name="Compare").click()
    box = page.get_by_placeholder("Ask both")
    box.fill("What is 34 + 57?")
    box.press("Enter")
    better = page.get_by_role("button", name="Left is better")
    better.wait_for()
    page.wait_for_function(
        "() => ![...document.querySelectorAll('button')].find(b => b.innerText.includes('Left is better')).disabled"
    )
    assert page.get_by_text("Left was").count() == 0
    better.click()
    page.get_by_text(re.compile("Left was")).wait_for()
    page.get_by_text(re.compile(r"\d+% \(\d+% to \d+%\)")).wait_for()


@browser_tests
def test_a_browser_that_leaves_frees_what_was_loaded_for_it(page, server):
    page.get_by_role("tab", name="Compare").click()
    page.get_by_placeholder("Ask both").fill("What is 34 + 57?")
    page.get_by_placeholder("Ask both").press("Enter")
    page.wait_for_timeout(300)
    page.get_by_text("Thought", exact=True).nth(1).wait_for()  # of longjing-base, which isn't served
    assert len(server.service._private) == 1 and list(server.service.models) == ["longjing-r1"]
    page.goto("about:blank")
    deadline = time.monotonic() + 20
    while server.service._private and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert not server.service._private


@browser_tests
def test_look_at_a_finished_run(page):
    page.get_by_role("tab", name="Runs").click()
    page.get_by_text("finished", exact=True).wait_for()
    reward = page.locator("figure", has_text="Reward").first
    drawn = re.findall(r"[\d.]+ [\d.]+", reward.locator("g path").last.get_attribute("d"))
    assert len(drawn) == 10  # a point for each step
    reward.locator("svg").hover()
    reward.locator(".tip").get_by_text(re.compile(r"^step \d+")).wait_for()
    card = page.locator("article.correct")
    card.wait_for()
    assert "And 2+2?" in page.locator(".prompt").inner_text() and "2+2=4" in card.inner_text()

    def colours() -> set[str]:
        return set(card.evaluate("card => [...card.querySelectorAll('[data-facts]')].map("
                                 "token => getComputedStyle(token).backgroundColor)"))  # fmt: skip

    by_logprob = colours()
    assert len(by_logprob) > 2
    page.get_by_label("advantage").click()
    page.locator("article.correct .up").first.wait_for()
    assert colours() != by_logprob
    card.locator("[data-facts]").first.hover()
    page.locator("#token-tip", has_text="log-probability").wait_for()


@browser_tests
def test_the_box_says_what_it_is_for_after_an_answer_too(page):
    for question in ("What is 2 + 3?", "What is 3 + 4?"):
        ask(page, question)
        page.get_by_text(re.compile(r"tokens/s")).last.wait_for()
        page.get_by_placeholder("Ask, then Enter").wait_for()
    page.get_by_label("Retry").last.click()
    page.wait_for_timeout(300)
    settled(page)
    page.get_by_placeholder("Ask, then Enter").wait_for()


FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
NAMING = [
    FILE, FILE | {"path": "http://203.0.113.7/x"}, {"component": "image", "value": "/etc/passwd"},
    [{"role": "user", "content": [{"type": "file", "file": FILE}]}],
]  # fmt: skip


def test_no_call_of_a_function_names_a_file(server):
    with httpx.Client(base_url=server.url, timeout=20) as client:
        config = re.search(r"window.gradio_config = (.*?);</script>", client.get("/").text)
        assert config is not None
        functions = [one for one in json.loads(config[1])["dependencies"] if one["inputs"]]
        for function in functions[:12]:
            for sent in NAMING:
                call = {"fn_index": function["id"], "session_hash": "fuzz", "data": [sent] * len(function["inputs"])}
                for path in ("run/predict", "queue/join"):
                    reply = client.post(f"/gradio_api/{path}", json=call)
                    assert reply.status_code == 400 and "takes no files" in reply.text


def test_the_model_hears_questions_and_answers_only():
    history = [
        {"role": "user", "content": "3*5?"},
        *reply_messages(
            PageReply("Well, 3*5 is <b>15</b>", "It is \\boxed{15}, and 3*5<16.", tokens=9, done=True), "$"
        ),
        {"role": "user", "content": [{"type": "text", "text": "and 4*4?"}]},
    ]
    assert chat_messages(history) == [
        {"role": "user", "content": "3*5?"},
        {"role": "assistant", "content": "It is \\boxed{15}, and 3*5<16."},
        {"role": "user", "content": "and 4*4?"},
    ]
