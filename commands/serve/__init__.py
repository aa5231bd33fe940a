"""`brainmri serve`: a page, on this machine alone, to ask the study's network of images, series and volumes.

The page listens on loopback, loads nothing from elsewhere, sends nothing elsewhere and keeps nothing on disk. Its
answers are those of `brainmri predict`, to the bit. With another `--host` it can be reached from other machines, and
then asks for a token, which stands in the address that is printed.

Not a medical device: nothing here may be used to treat anyone.
"""

from __future__ import annotations

import argparse
import secrets
import socket
from importlib.util import find_spec
from typing import Any

from commands.predict import add_network, network
from stages.shell.errors import InputError

PORT = 8765


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "serve",
        help="a page on this machine to ask the study's network",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_network(parser)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; beyond loopback a token is asked for")
    parser.add_argument("--port", type=int, default=PORT, help=f"port, 0 for any that is free; by default {PORT}")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if find_spec("aiohttp") is None:
        raise InputError("serve: aiohttp is not installed: run `make env`, in the clone")
    listening = _listen(args.host, args.port)
    # torch takes seconds to load: not before it is known that the page can be served
    from aiohttp import web

    from commands.serve import app, guard

    with listening:
        port = listening.getsockname()[1]
        token = None if guard.is_loopback(args.host) else secrets.token_urlsafe(24)
        model = network(args)
        print(f"brainmri: {guard.address(args.host, port, token)} (Ctrl-C ends it)", flush=True)
        web.run_app(
            app.application(model, guard.Guard(args.host, port, token)),
            sock=listening,
            print=None,
            access_log=None,
            handler_cancellation=True,  # whoever leaves is not computed for
            shutdown_timeout=2,
        )
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; InputError where the address cannot be had."""
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: expected a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # a name that is no name of a host
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"serve: cannot listen on {host}, port {port} ({why}): choose another --port or --host"
        ) from None
