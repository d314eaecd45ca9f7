"""Who may come in: the middleware around every page, and the headers that every response gets."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import inspect
import ipaddress
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from procrastinate_deps.dashboard.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from procrastinate_deps.dashboard.settings import Settings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
SESSION_COOKIE = "procrastinate_deps_session"
CSRF_COOKIE = "procrastinate_deps_csrf"
CSRF_FIELD = "csrf_token"
SESSION_S = 12 * 3600

WRONG_PASSWORDS = 10
"""So many wrong ones may come from one address; then none is looked at before one more is allowed."""

ALLOWED_AGAIN_S = 6.0
ADDRESSES_KEPT = 10_000

MAX_BODY = 1_000_000
"""Bytes of a form: 10,000 ids are 200,000."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# Of a proxy, behind which everybody seems to be on this machine.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Lets in who may see the dashboard, and adds the headers."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._sessions = None if settings.password is None else Sessions(settings.password)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        request = Request(scope, receive)
        scope.setdefault("state", {})["sessions"] = self._sessions
        response = await self._refusal(request)
        await (self._app if response is None else response)(scope, _limited(receive), send_with_headers)

    async def _refusal(self, request: Request) -> Response | None:
        """What to answer instead of the page; None: nothing stands against it."""
        try:
            self._check_host(request)
            if request.method not in _SAFE_METHODS:
                _check_origin(request)
            if path_within(request).startswith("/static/"):
                return None
            return await self._authenticate(request)
        except Problem as problem:
            return await _as_response(request, problem)

    def _check_host(self, request: Request) -> None:
        """A name that an attacker lets point to this machine is not one of those that it is known by."""
        allowed = self._settings.allowed_hosts
        if self._settings.auth is None and self._settings.password is None:
            client = request.client
            if (client is not None and not _is_loopback(client.host)) or any(
                name in request.headers for name in _FORWARDED
            ):
                raise Problem(
                    403,
                    "Only from this machine",
                    "Give the dashboard a password, or auth=, to reach it from another one or through a proxy.",
                )
            allowed = LOOPBACK_NAMES if allowed is None else allowed
        elif allowed is None:
            return
        if host_name(request.headers.get("host", "")) not in allowed:
            raise Problem(
                400,
                "Not a name of this dashboard",
                "The address has another host than those that the dashboard is allowed to be reached by: add it to "
                "allowed_hosts (--allowed-host), or give the dashboard a password.",
            )

    async def _authenticate(self, request: Request) -> Response | None:
        if self._settings.auth is not None:
            answer = self._settings.auth(request)
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, Response):
                return answer
            if answer is not True:
                raise Problem(403, "Not for you", "You may not see this dashboard.")
            return None
        if self._sessions is None or path_within(request) == "/login":
            return None
        if self._sessions.is_valid(request.cookies.get(SESSION_COOKIE, "")):
            return None
        if "authorization" in request.headers:
            if self._sessions.check(_basic_password(request.headers["authorization"]), request):
                return None
            return _unauthorized()
        if request.method == "GET" and not path_within(request).startswith("/api/"):
            wanted = path_within(request) + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{root_path(request)}/login?next={quote(wanted)}", 303)
        return _unauthorized()


class Sessions:
    """Passwords and the cookies of those who gave the right one. The key is made of the password: so the cookies hold
    in all processes that have it, and for no longer than it does."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._key = hashlib.scrypt(self._password, salt=b"procrastinate_deps.dashboard", n=2**14, r=8, p=1)
        self._tries = Tries()

    def check(self, password: str | None, request: Request) -> bool:
        """Whether it is the password. Raises Problem where too many wrong ones came from the request's address: not
        even the right one is known by its answer then, however many are tried at the same time."""
        address = _address(request)
        wait_s = self._tries.wait_s(address)
        if wait_s > 0:
            raise Problem(429, "Too many wrong passwords", f"Try again in {wait_s:.0f} seconds.")
        if password is not None and hmac.compare_digest(password.encode(errors="replace"), self._password):
            return True
        self._tries.wrong(address)
        return False

    def new(self) -> str:
        """The value of a new cookie."""
        ends_at = str(int(time.time()) + SESSION_S)
        return f"{ends_at}.{self._sign(ends_at)}"

    def is_valid(self, cookie: str) -> bool:
        ends_at, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(ends_at).encode()):
            return False
        return int(ends_at) > time.time()

    def _sign(self, ends_at: str) -> str:
        return hmac.new(self._key, ends_at.encode(), hashlib.sha256).hexdigest()


class Tries:
    """Counts wrong passwords by address; each is forgotten after a while."""

    def __init__(self) -> None:
        # The time at which all that came from there is forgotten, least lately wrong ones first.
        self._forgotten_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """Seconds until one more may be tried; 0: now."""
        ahead = self._forgotten_at.get(address, 0.0) - time.monotonic()
        return max(0.0, ahead - (WRONG_PASSWORDS - 1) * ALLOWED_AGAIN_S)

    def wrong(self, address: str) -> None:
        now = time.monotonic()
        self._forgotten_at[address] = max(now, self._forgotten_at.get(address, now)) + ALLOWED_AGAIN_S
        self._forgotten_at.move_to_end(address)
        while len(self._forgotten_at) > ADDRESSES_KEPT:
            self._forgotten_at.popitem(last=False)


def csrf_token(request: Request) -> str:
    """What a form of this request's page must send back: the value of a cookie that no other site can read or set."""
    state = request.scope.setdefault("state", {})
    if "csrf" not in state:
        state["csrf"] = request.cookies.get(CSRF_COOKIE) or secrets.token_urlsafe(24)
    token: str = state["csrf"]
    return token


def set_csrf_cookie(request: Request, response: Response) -> None:
    """Let the response of a page with forms carry the cookie."""
    if CSRF_COOKIE not in request.cookies:
        set_cookie(request, response, CSRF_COOKIE, csrf_token(request), samesite="strict")


def check_csrf(request: Request, token: object) -> None:
    """Refuse a form that no page of ours has sent."""
    cookie = request.cookies.get(CSRF_COOKIE, "")
    if not cookie or not isinstance(token, str) or not hmac.compare_digest(cookie.encode(), token.encode()):
        raise Problem(403, "This form is stale", "Go back, reload the page and try again.")


def set_cookie(request: Request, response: Response, name: str, value: str, *, samesite: str = "lax") -> None:
    response.set_cookie(
        name,
        value,
        path=root_path(request) or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict" if samesite == "strict" else "lax",
        max_age=SESSION_S,
    )


def root_path(request: Request) -> str:
    """What stands before the dashboard's own paths where it is mounted."""
    path: str = request.scope.get("root_path", "")
    return path.rstrip("/")


def path_within(request: Request) -> str:
    """The dashboard's own path of the request."""
    return request.scope["path"].removeprefix(root_path(request)) or "/"


def host_name(host: str) -> str:
    """Of a Host header, without the port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _check_origin(request: Request) -> None:
    origin = request.headers.get("origin")
    try:
        netloc = urlsplit(origin or "").netloc
    except ValueError:
        netloc = ""
    if origin is None:
        # Browsers send one of both with every form.
        if request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none"):
            return
    elif netloc and netloc.lower() == request.headers.get("host", "").lower():
        return
    raise Problem(403, "From another site", "Only a page of the dashboard itself can do this.")


def _limited(receive: Receive) -> Receive:
    """Refuse a body without end: a form is read into memory, that of the login from anybody."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise Problem(413, "That is too much", f"A form has no more than {MAX_BODY} bytes.")
        return message

    return limited


def _address(request: Request) -> str:
    """Who tries passwords: of IPv6 the network that one customer gets."""
    host = "" if request.client is None else request.client.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address.packed[:8] + bytes(8), 64)))
    return host


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
        mapped = address.ipv4_mapped if address.version == 6 else None
        return (mapped or address).is_loopback
    except ValueError:  # a test client, or a socket in the file system
        return True


def _basic_password(header: str) -> str | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def _unauthorized() -> Response:
    return Response(
        "A password is needed.\n", 401, {"www-authenticate": 'Basic realm="dashboard", charset="UTF-8"'}, "text/plain"
    )


async def _as_response(request: Request, problem: Problem) -> Response:
    return Response(f"{problem.title}. {problem.text}\n", problem.status, media_type="text/plain")
