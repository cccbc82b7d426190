"""Who is at the other end of a connection."""

from __future__ import annotations

import os
import pwd
import socket

from ovnreserve.api import peer


def test_of_a_unix_socket_the_kernel_says_as_whom_it_was_connected() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer.actor_of(ours) == f"uid {os.getuid()} ({pwd.getpwuid(os.getuid()).pw_name})"


def test_a_uid_without_a_name_is_a_number() -> None:
    assert peer._named(4_000_000_000) == "uid 4000000000"


def test_of_another_socket_nothing_is_known() -> None:
    with socket.socket(socket.AF_INET) as other:
        assert peer.actor_of(other) == ""
    assert peer.actor_of(None) == ""
