"""How a person shows the page the server's key: a form, and from then on a cookie."""

import secrets
from html import escape
from urllib.parse import parse_qs

from starlette.requests import Request, cookie_parser
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from longjing.serving.middleware import header

_FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Longjing</title>
<style>
  :root {{ color-scheme: light dark;
    --ink: #292524; --paper: #fafaf9; --line: #d6d3d1; --accent: #059669; --field: #fff; }}
  @media (prefers-color-scheme: dark) {{
    :root {{ --ink: #f5f5f4; --paper: #0c0a09; --line: #44403c; --accent: #10b981; --field: #1c1917; }} }}
  body {{ margin: 0; min-height: 90vh; display: grid; place-items: center; background: var(--paper); color: var(--ink);
    font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; }}
  form {{ width: min(22rem, 88vw); display: grid; gap: .7rem; }}
  h1 {{ font-size: 1.2rem; margin: 0; }} p {{ margin: 0; }}
  input, button {{ font: inherit; padding: .6rem .8rem; border-radius: 8px; border: 1px solid var(--line); }}
  input {{ background: var(--field); color: inherit; }}
  button {{ background: #047857; border-color: #047857; color: #fff; font-weight: 600; cursor: pointer; }}
  :focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
</style>
<form method="post" action="login">
  <h1>Longjing</h1>
  <label for="key">This server asks for its key.</label>
  <input name="username" value="longjing" autocomplete="username" hidden>
  <input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
  <button>Go on</button>
  <p role="alert">{problem}</p>
</form>
</html>
"""
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
        token = cookies.get(_cookie(scope), "")
        return secrets.compare_digest(token.encode(), self._token.encode())

    def serves(self, scope: Scope) -> bool:
        """Whether the form answers this, or takes it."""
        needs_form = scope["path"] == "/" and scope["method"] in ("GET", "HEAD") and not scope["has_key"]
        return needs_form or (scope["path"] == "/login" and scope["method"] == "POST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._answer(scope, receive))(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        if scope["method"] != "POST":
            return _form()
        body = (await Request(scope, receive).body()).decode("ascii", "replace")
        key = parse_qs(body, errors="replace").get("key", [""])[0]
        if not secrets.compare_digest(key.strip().encode(), self._key):
            return _form("That isn't the key.")
        reply = RedirectResponse("./", 303)
        secure = scope["scheme"] == "https"
        reply.set_cookie(_cookie(scope), self._token, httponly=True, samesite="strict", secure=secure)
        return reply


def _form(problem: str = "") -> Response:
    return HTMLResponse(_FORM.format(problem=escape(problem)), 401, _HEADERS)


def _cookie(scope: Scope) -> str:
    """Named by the port, for the servers of one machine share a browser's cookies."""
    return f"longjing-{(scope.get('server') or ('', 0))[1]}"
