"""Who may ask: by the Host header, the page that a request comes from, and a token beyond loopback."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

LOOPBACK = ("localhost", "127.0.0.1", "::1")
COOKIE = "brainmri"  # and the port: cookies are a host's, whatever its port
HEADERS = {
    # nothing from elsewhere, nothing inline: a name that slipped through unescaped could still do nothing
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Server": "brainmri",
    "X-Content-Type-Options": "nosniff",
}


def is_loopback(host: str) -> bool:
    """Say whether an address to listen on can be reached from this machine alone.

    Examples
    --------
    >>> is_loopback("127.0.0.2"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::")
    (True, True, False, False)
    """
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def address(host: str, port: int, token: str | None) -> str:
    """Return the page's address, as it is typed into a browser; one to listen on everywhere becomes this machine's.

    Examples
    --------
    >>> address("127.0.0.1", 8765, None), address("::1", 80, "t")
    ('http://127.0.0.1:8765/', 'http://[::1]:80/?token=t')
    """
    everywhere = _is_ip(host) and ipaddress.ip_address(host).is_unspecified
    name = socket.gethostname() if everywhere else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses whoever may not ask, in one line."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        """Guard a page that listens on `host` and `port`; with a token, by that."""
        self.token, self.cookie = token, f"{COOKIE}-{port}"
        self.names = {*LOOPBACK, host.lower()}
        if token:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def middleware(self) -> Middleware:
        """Return what aiohttp calls before each handler."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            if refusal := self._refusal(request):
                raise web.HTTPForbidden(text=refusal)
            if self.token and not self._same(request.cookies.get(self.cookie, "")):
                return self._admitted(request)
            return await handler(request)

        return guarded

    def _refusal(self, request: web.Request) -> str | None:
        """Return why a request may not be answered at all.

        A name that an attacker lets point to loopback (DNS rebinding) stands in the Host header. What another page
        sends without one is told by the headers that browsers add.
        """
        host = request.headers.get("Host", "")
        if not self._known(host):
            return f"this page is not called {host[:100]!r}: open the address that `brainmri serve` printed\n"
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "none")
        if origin not in (None, f"http://{host}") or (site not in ("same-origin", "none") and request.path != "/"):
            return "only the page itself may ask\n"
        return None

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        # an address cannot be rebound, and behind the token nobody is asked for the name of each network
        return name in self.names or (self.token is not None and _is_ip(name))

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), (self.token or "").encode())

    def _admitted(self, request: web.Request) -> web.StreamResponse:
        """Take the token out of the address and into a cookie; refuse a request without it."""
        if request.path != "/" or not self._same(request.query.get("token", "")):
            raise web.HTTPUnauthorized(text="a token is asked for: open the address that `brainmri serve` printed\n")
        response = web.HTTPSeeOther("/")
        # lax: with strict, who comes by a link in a mail would be sent on without it; other pages' requests are refused
        response.set_cookie(self.cookie, self.token or "", httponly=True, samesite="Lax", path="/")
        return response


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Give every answer, a refusal too, the headers that bind a browser."""
    response.headers.update(HEADERS)
