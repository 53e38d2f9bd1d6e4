"""Who is let in: names, origins, the key, sizes; whatever the path, with the page on and off."""

import json
import resource
import socket
import time
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from conftest import serving, small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from longjing.cli import app
from longjing.errors import UserError
from longjing.serving.api import ApiConfig
from longjing.serving.middleware import allowed_hosts
from longjing.serving.request_body import BodyReader
from longjing.serving.server import listen

KEY = "so secret"
BEARER = {"Authorization": f"Bearer {KEY}"}
# What Gradio, FastAPI and we answer or once answered.
PATHS = [
    "/", "/health", "/metrics", "/openapi.json", "/docs", "/login", "/logout", "/v1", "/v1/", "/v1/models",
    "/v1/models/tiny", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings",
    "/v1/../v1/models", "//v1/models", "/config", "/config/", "/info", "/theme.css", "/robots.txt",
    "/manifest.json", "/pwa_icon", "/monitoring", "/monitoring/summary", "/monitoring/x", "/favicon.ico",
    "/assets/x.js", "/assets/../../../routes.py", "/svelte/x", "/static/js/x.js", "/static/../x",
    "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/file=/etc/passwd",
    "/gradio_api/file/etc/passwd", "/gradio_api/proxy=http://127.0.0.1:1/", "/gradio_api/stream/x",
    "/gradio_api/component_server", "/gradio_api/run/predict", "/gradio_api/run/x", "/gradio_api/api/predict",
    "/gradio_api/call/x", "/gradio_api/call/v2/x", "/gradio_api/queue/join", "/gradio_api/queue/join/",
    "/gradio_api/queue/status", "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/info",
    "/gradio_api/openapi.json", "/gradio_api/runs", "/gradio_api/run-history/connect",
    "/gradio_api/run-history/buckets", "/gradio_api/run-history/records", "/gradio_api/user", "/gradio_api/token",
    "/gradio_api/app_id", "/gradio_api/login_check", "/gradio_api/startup-events", "/gradio_api/deep_link",
    "/gradio_api/dev/reload", "/gradio_api/process_recording", "/gradio_api/vibe-edit", "/gradio_api/vibe-code",
    "/gradio_api/mcp/sse", "/gradio_api/custom_component/x/client/a/b", "/gradio_api/profiling/traces",
]  # fmt: skip
NEEDED = {  # of Gradio, by the page
    "/", "/theme.css", "/assets/x.js", "/static/js/x.js", "/gradio_api/run/predict", "/gradio_api/queue/join",
    "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/app_id",
}  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FROB"]


@pytest.fixture(scope="session")
def open_server(with_page):
    with serving(small(), ApiConfig(request_bytes=100_000)) as running:
        yield running


@pytest.fixture(scope="session")
def client():
    """One for all: making one takes longer than what it asks."""
    with httpx.Client(timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def locked_server(with_page):
    with serving(small(), ApiConfig(key=KEY, request_bytes=100_000)) as running:
        yield running


def test_small_answers_are_sent_at_once() -> None:
    """Else the second part of each waits until the first is acknowledged, which takes 40 ms."""
    with listen("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def refused(reply: httpx.Response, status: int) -> bool:
    """In OpenAI's form."""
    fields = reply.json()["error"]
    return reply.status_code == status and set(fields) == {"message", "type", "param", "code"}


def raw(url: str, request: bytes) -> bytes:
    """The first line of what is answered to bytes as they stand."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        return connection.recv(4000).partition(b"\r\n")[0]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_key_nothing_is_told(locked_server, path, client):
    client.cookies.clear()
    for method in METHODS:
        for content in (b"", b"{}", b"x" * 5000):
            url = f"{locked_server.url}{path}"
            reply = client.request(method, url, content=content, headers={"Accept": "text/html"})
            if reply.url.path == "/health" and reply.status_code == 200:
                assert reply.content in (b'{"status":"ok"}', b"")
                continue
            assert reply.status_code in (401, 413) or path == "/health", (method, reply.status_code)
            assert b"tiny" not in reply.content and "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("given_key", [None, "", "wrong", "so  secret", "schlüssel", "\xff", KEY + "x", KEY[:-1]])
def test_wrong_keys(locked_server, given_key, client):
    for value in (f"Bearer {given_key}", f"Basic {given_key}", str(given_key), f"Bearer{KEY}"):
        headers = {"Authorization": value.strip().encode()}
        assert refused(client.get(f"{locked_server.url}/v1/models", headers=headers), 401)
    cookie = f"longjing-{locked_server.url.rpartition(':')[2]}={given_key}".encode()
    assert client.get(f"{locked_server.url}/", headers={"Cookie": cookie}).status_code == 401


def test_the_key_opens_everything(locked_server, client):
    for scheme in ("Bearer ", "bearer ", "BEARER   "):
        headers = {"Authorization": f"{scheme}{KEY}"}
        assert client.get(f"{locked_server.url}/v1/models", headers=headers).status_code == 200
    assert client.get(f"{locked_server.url}/metrics", headers=BEARER).status_code == 200
    assert "models" in client.get(f"{locked_server.url}/health", headers=BEARER).json()


@pytest.mark.parametrize("key", ["", " ", "\n", "\t ", " a", "a ", "a\nb", "a\x00", "\udce9"])
def test_keys_that_are_none(key):
    with pytest.raises(UserError, match="key"):
        ApiConfig(key=key)


@pytest.mark.parametrize("key", ["", "  ", None])
def test_a_server_with_an_empty_key_does_not_start(key, monkeypatch):
    """`None`: an empty LONGJING_API_KEY, which Typer takes for none."""
    monkeypatch.setenv("LONGJING_API_KEY", "" if key is None else "other")
    ran = CliRunner().invoke(app, ["serve", "--port", "0"] + ([] if key is None else ["--api-key", key]))
    assert isinstance(ran.exception, UserError) and "is empty" in str(ran.exception)


def test_a_key_may_hold_any_letters(client):
    with serving(small(), ApiConfig(key="龙井 ключ")) as running:
        headers = {"Authorization": "Bearer 龙井 ключ".encode()}
        assert client.get(f"{running.url}/v1/models", headers=headers).status_code == 200
        assert client.get(f"{running.url}/v1/models", headers=BEARER).status_code == 401


@pytest.mark.parametrize("path", ["/", "/v1/models", "/health", "/metrics", "/gradio_api/app_id", "/nothing"])
def test_names_that_are_not_loopback(open_server, path, client):
    port = open_server.url.rpartition(":")[2]
    for name in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[::2]",
        "0.0.0.0",
        "a@localhost",
    ):
        reply = client.get(f"{open_server.url}{path}", headers={"Host": name})
        assert refused(reply, 403) and "--allow-host" in reply.json()["error"]["message"]
    for name in ("localhost", "LOCALHOST", f"localhost:{port}", "127.0.0.1:1", "[::1]", "[::1]:8000"):
        assert client.get(f"{open_server.url}{path}", headers={"Host": name}).status_code in (200, 404)


def test_names_that_the_user_gives(client):
    for named in (["Box.example"], ["*"]):
        with serving(small(), ApiConfig(hosts=named)) as running:
            assert client.get(f"{running.url}/health", headers={"Host": "box.example:80"}).status_code == 200
            other = client.get(f"{running.url}/health", headers={"Host": "evil.example"})
            assert other.status_code == (200 if named == ["*"] else 403)
    assert allowed_hosts("0.0.0.0", []) is None and "box" in (allowed_hosts("192.168.1.7", ["box:80"]) or ())
    assert "[::1]" in (allowed_hosts("::1", []) or ()) and "127.0.0.2" in (allowed_hosts("127.0.0.2", []) or ())
    for name in ("", " ", "http://box.example"):
        with pytest.raises(UserError, match="allow-host"):
            allowed_hosts("127.0.0.1", [name])


def test_a_websocket_is_refused(open_server):
    lines = (
        "GET /gradio_api/queue/data HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    )  # fmt: skip
    status = raw(open_server.url, "\r\n".join([*lines, "", ""]).encode())
    assert b" 101 " not in status and b" 4" in status


def test_no_page_of_another_site_is_let_in(open_server, with_page, client):
    url, origin = open_server.url, "https://evil.example"
    asks = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    for path in PATHS:
        if path == "/docs" or path.startswith("//"):
            continue
        for reply in (
            client.options(f"{url}{path}", headers=asks),
            client.get(f"{url}{path}", headers={"Origin": origin}),
        ):
            assert not [name for name in reply.headers if name.startswith("access-control")], path
    call = {"data": [], "fn_index": 0, "session_hash": "abc"}
    for headers in (
        {"Origin": origin}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": url},
    ):  # fmt: skip
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/cancel", "/login", "/nothing"):
            assert refused(client.post(f"{url}{path}", json=call, headers=headers), 403), (path, headers)
    for headers in ({}, {"Origin": url}, {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy"}):
        assert client.post(f"{url}/gradio_api/queue/join", json=call, headers=headers).status_code == (
            400 if with_page else 404
        )
    # To the API a form of another site can be sent, but it isn't read.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        reply = client.post(f"{url}/v1/completions", content=b'{"prompt": "ab"}', headers={"Content-Type": kind})
        assert refused(reply, 400)


@pytest.mark.parametrize(
    "path", ["/", "/v1/completions", "/v1/nothing", "/gradio_api/queue/join", "/gradio_api/upload", "/login"]
)
def test_sizes_whatever_the_path(open_server, locked_server, path, client):
    kind = {"Content-Type": "application/json"}
    for url, headers in ((open_server.url, kind), (locked_server.url, kind | BEARER)):
        assert refused(client.post(f"{url}{path}", content=b"1" * 100_001, headers=headers), 413)
        chunks = iter([b"1" * 60_000] * 2)
        assert refused(client.post(f"{url}{path}", content=chunks, headers=headers), 413)
        for length in (b"9" * 19, b"9" * 5000, b"-1", b"x"):
            head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nContent-Length: %b\r\n\r\n"
            assert b" 4" in raw(url, head % (path.encode(), KEY.encode(), length))


def test_large_bodies_that_come_at_once_are_bounded_in_sum(client, monkeypatch):
    readers, make = [], BodyReader.__init__
    monkeypatch.setattr(BodyReader, "__init__", lambda self, *bounds: readers.append(self) or make(self, *bounds))
    with serving(small(), ApiConfig(request_bytes=1 << 20)) as running, ExitStack() as stack:
        where = httpx.URL(running.url)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n"
        slow = [stack.enter_context(socket.create_connection((where.host, where.port))) for _ in range(8)]
        for one in slow:
            one.sendall(head + b" " * ((1 << 20) - 1))
        deadline = time.monotonic() + 60
        # Until all of it is there: one of these would be sent away itself if another came in between.
        while sum(reader._arriving for reader in readers) < 8 * ((1 << 20) - 1) and time.monotonic() < deadline:
            time.sleep(0.05)
        url, kind = f"{running.url}/v1/completions", {"Content-Type": "application/json"}
        large, little = (b'{"prompt": "ab", "max_tokens": 1}' + b" " * n for n in (500_000, 0))

        def status(body: bytes, wanted: int) -> bool:
            """Whether it comes to that, once all has come or gone."""
            return any(
                client.post(url, content=body, headers=kind).status_code == wanted or time.sleep(0.1)
                for _ in range(600)
            )

        assert status(large, 429) and status(little, 200)
        slow.pop().close()
        assert status(large, 200)


def test_too_many_values_are_refused_before_they_are_parsed(open_server, client, monkeypatch):
    monkeypatch.setattr("longjing.serving.request_body.MAX_VALUES", 100)
    for body in (b"[" * 101, b'{"a":[' + b"{}," * 99 + b"1]}", b'{"prompt":"' + b":" * 101 + b'"}'):
        for path in ("/v1/completions", "/gradio_api/queue/join"):
            assert refused(client.post(f"{open_server.url}{path}", content=body), 400)
            assert "more than 100" in client.post(f"{open_server.url}{path}", content=body).text
    body = b'{"prompt": [' + b"5," * 200 + b'5], "max_tokens": 1}'
    kind = {"Content-Type": "application/json"}
    assert client.post(f"{open_server.url}/v1/completions", content=body, headers=kind).status_code == 200


def test_what_is_not_there(open_server, with_page):
    with httpx.Client(base_url=open_server.url) as client:
        for path in ("/v1", "/v1/", "/v1/embeddings", "/v1/chat", "/v1/models/none", "/nothing"):
            assert refused(client.get(path), 404)
        for path, allowed in (("/v1/chat/completions", "POST"), ("/v1/models", "GET"), ("/health", "GET")):
            for method in ("PUT", "DELETE", "GET" if allowed == "POST" else "POST"):
                reply = client.request(method, path)
                assert refused(reply, 405) and allowed in reply.headers["Allow"]
        for path in ("/health", "/v1/models", "/metrics", "/openapi.json"):
            head, whole = client.head(path), client.get(path)
            assert head.status_code == whole.status_code == 200 and head.content == b""
            assert head.headers["content-type"] == whole.headers["content-type"]
        closed = [
            path for path in PATHS if path.startswith(("/gradio_api", "/c", "/m", "/p", "/r", "/s", "/a", "/th", "/f"))
        ]
        for path in closed:
            statuses = {client.request(method, path).status_code for method in ("GET", "POST")}
            if path != "/metrics" and not (with_page and path in NEEDED):
                assert statuses <= {404, 405, 307 if path.endswith("/") else 404}, (path, statuses)
        assert client.get("/").status_code == (200 if with_page else 404)
        for path in ("/static/js/none.js", "/static/js/%2e%2e/%2e%2e/x", "/assets/none.js"):
            reply = client.get(path)
            assert reply.status_code in (403, 404) and reply.json()["error"]["message"]


def test_the_events_of_a_session_that_is_none(open_server, with_page, client, caplog):
    for query in ("", "?session_hash=", "?session_hash=never"):
        reply = client.get(f"{open_server.url}/gradio_api/queue/data{query}")
        assert reply.status_code == (200 if with_page else 404)
        assert not with_page or '"session_not_found": true' in reply.text
    assert not caplog.records


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_no_request_breaks_the_server(open_server, locked_server, data, client):
    draw = data.draw
    path, method = draw(st.sampled_from(PATHS)), draw(st.sampled_from(METHODS))
    words = st.sampled_from(
        ["data", "fn_index", "session_hash", "event_data", "trigger_id", "event_id", "path", "meta", "key"]
    )
    leaves: Any = st.none() | st.booleans() | st.integers(-3, 90) | st.floats() | st.text(max_size=9)
    values = st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=12
    )
    call = st.fixed_dictionaries(
        {
            "data": st.lists(values, max_size=9),
            "fn_index": st.integers(-2, 80),
            "session_hash": st.sampled_from(["abc", "", 5, "\ud800"]),
        }
    )
    body = draw(
        st.binary(max_size=200)
        | st.sampled_from([b"[" * 50_000, b"key=x", b'{"data": "\\ud800"}'])
        | (call | values).map(lambda value: json.dumps(value).encode())
    )
    kind = draw(
        st.sampled_from(
            [
                "application/json",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "text/plain",
                "\xff",
            ]
        )
    )
    names = st.sampled_from(
        [
            "Origin",
            "Cookie",
            "X-Forwarded-Host",
            "X-Forwarded-For",
            "X-Gradio-Server",
            "Range",
            "Accept-Encoding",
            "Expect",
        ]
    )
    headers = draw(
        st.dictionaries(names, st.sampled_from(["", "x", "null", "a=b; c", "bytes=0-", "127.0.0.1"]), max_size=3)
    )
    headers = {name: value.encode("latin-1") for name, value in ({"Content-Type": kind} | headers).items()}
    query = draw(
        st.sampled_from(["", "?", "?session_hash=abc", "?deep_link=../x", "?__theme=dark", "?page=%00&view=api"])
    )
    for url in (open_server.url, locked_server.url):
        with client.stream(method, f"{url}{path}{query}", content=body, headers=headers, timeout=20) as reply:
            assert reply.status_code < 500, (method, path, body)
            if url == locked_server.url:
                assert reply.status_code >= 400 or path == "/health"


def test_memory_stays_bounded(locked_server, open_server, client):
    """Ninety megabytes aren't kept, with the key or without, in one piece or in many."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    piece = b'[{"a": 1}, ' * 90_000
    for url in (locked_server.url, open_server.url):
        for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/v1/completions", "/login"):
            try:
                reply = client.post(f"{url}{path}", content=(piece for _ in range(90)), timeout=60)
                assert reply.status_code in (401, 413)
            except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
                pass  # it closed while we were still sending
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000  # kilobytes
