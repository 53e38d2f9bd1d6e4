"""How a person shows the page the server's key: a form, and from then on a cookie."""

import secrets
from html import escape
from pathlib import Path
from urllib.parse import parse_qs

from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import Receive, Scope, Send

from longjing.serving.middleware import header

_FORM = Path(__file__).with_name("login.html").read_text("utf-8")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
}


class Login:
    """The gate of the page: the form at the root for who hasn't shown the key, and `POST /login`. The cookie holds for
    as long as browser and server run; it can't be read by scripts, and other sites can't have it sent."""

    def __init__(self, key: str) -> None:
        self._key, self._token = key.encode(), secrets.token_urlsafe(32)

    def knows(self, scope: Scope) -> bool:
        """Whether the browser has the cookie."""
        cookies = cookie_parser(header(scope, b"cookie").decode("latin-1"))
        return secrets.compare_digest(cookies.get(_cookie(scope), "").encode(), self._token.encode())

    def serves(self, scope: Scope) -> bool:
        """Whether the form answers this, or takes it."""
        needs_form = scope["path"] == "/" and scope["method"] in ("GET", "HEAD") and not scope["has_key"]
        return needs_form or (scope["path"] == "/login" and scope["method"] == "POST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = ""
        if scope["method"] == "POST":
            body = (await Request(scope, receive).body()).decode("ascii", "replace")
            key = parse_qs(body, errors="replace").get("key", [""])[0]
            if secrets.compare_digest(key.strip().encode(), self._key):
                reply, secure = RedirectResponse("./", 303), scope["scheme"] == "https"
                reply.set_cookie(_cookie(scope), self._token, httponly=True, samesite="strict", secure=secure)
                return await reply(scope, receive, send)
            problem = "That isn't the key."
        await HTMLResponse(_FORM.replace("{problem}", escape(problem)), 401, _HEADERS)(scope, receive, send)


def _cookie(scope: Scope) -> str:
    """Named by the port, for the servers of one machine share a browser's cookies."""
    return f"longjing-{(scope.get('server') or ('', 0))[1]}"
