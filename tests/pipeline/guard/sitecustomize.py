"""In every Python process of a test's pipeline: connections beyond this machine are refused and written down."""

import os
import socket
from typing import Any

_ALLOWED = ("127.", "::1", "localhost", "0.0.0.0", "")  # names of this machine; nothing is bound here
_LOG = os.environ.get("TEST_CONNECTIONS_LOG", "")
_connect, _connect_ex, _getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _check(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and not any(name == own or (own and name.startswith(own)) for own in _ALLOWED):
        with open(_LOG, "a") as log:  # noqa: PTH123  as few imports as can be
            log.write(f"{name}\n")
        raise OSError(f"a test allows no connection to {name}")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if isinstance(address, tuple):
        _check(address[0])
    _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    if isinstance(address, tuple):
        _check(address[0])
    return _connect_ex(self, address)


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    if host is not None:
        _check(host)
    return _getaddrinfo(host, *args, **kwargs)


if _LOG:
    socket.socket.connect = _guarded_connect  # type: ignore[method-assign, assignment]
    socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = _guarded_getaddrinfo
