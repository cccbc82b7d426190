"""Who is at the other end of a connection: the actor that the journal names for what it asks.

Of a Unix socket the kernel knows (SO_PEERCRED, unix(7)) as whom it was connected. It is found once a connection, and
goes with the scope of each of its requests.
"""

from __future__ import annotations

import functools
import pwd
import socket
import struct
from typing import Any, Final

_UCRED: Final = struct.Struct("iII")  # pid, uid, gid


def actor_of(connection: Any) -> str:
    """`uid 0 (root)` of whoever connected a Unix socket, without the name where it has none; "" of any other."""
    if connection is None or connection.family != socket.AF_UNIX:
        return ""
    _pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return _named(uid)


@functools.lru_cache(maxsize=1024)
def _named(uid: int) -> str:
    """Only root and who runs the daemon may connect (mode 0600), so nobody waits for a directory service for long."""
    try:
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    except (KeyError, OSError):
        return f"uid {uid}"
