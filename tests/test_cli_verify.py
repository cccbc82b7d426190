"""`ovnreserve verify` against a server with canned answers."""

from __future__ import annotations

import json

import pytest
from test_cli_commands import run, server

__all__ = ["run", "server"]

VERIFY = "/apis/ovnreserve.io/v1/verify"
A = {"what": "IP a.default: its record is missing", "command": "ovn-nbctl find dns x=y", "left": ""}
NOT_BOUND = "IP b.default: not bound: \x1b[31m\nx"
B = {"what": NOT_BOUND, "command": "ovn-nbctl list logical_switch_port u", "left": "theirs"}


def answer(*differences: dict, more: int = 0, **fields: object) -> dict:
    total = len(differences) + more
    return {**fields, "clean": not total, "total": total, "differences": list(differences)}


def test_what_is_clean_prints_nothing(server, run):
    server.on(f"GET {VERIFY}", answer())
    assert run("verify") == (0, "", "")


def test_each_difference_is_a_line_with_its_command_and_the_exit_status_says_so(server, run):
    server.on(f"GET {VERIFY}", answer(A, B, more=5))
    code, out, err = run("verify")
    assert (code, err) == (1, "and 5 more\n")
    assert out == (
        "IP a.default: its record is missing  # ovn-nbctl find dns x=y\n"
        "IP b.default: not bound: \\x1b[31m\\nx  # ovn-nbctl list logical_switch_port u\n"
    )
    code, out, _err = run("verify", "-o", "json")
    assert (code, json.loads(out)) == (1, answer(A, B, more=5))


def test_a_repair_says_what_was_repaired_and_what_is_left_and_why(server, run):
    server.on(f"POST {VERIFY}?timeout=30", answer(A, B, repaired=["IP c.default: its record is missing"]))
    code, out, err = run("verify", "--repair")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "repaired: IP c.default: its record is missing",
        "left: IP a.default: its record is missing (not repaired in time)  # ovn-nbctl find dns x=y",
        "left: IP b.default: not bound: \\x1b[31m\\nx (theirs)  # ovn-nbctl list logical_switch_port u",
    ]
    server.on(f"POST {VERIFY}?timeout=90", answer(repaired=["x"]))
    assert run("verify", "--repair", "--timeout=1m30s") == (0, "repaired: x\n", "")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["x"], "Unexpected args: [x]"),
        (["-o", "yaml"], "unable to match a printer suitable for the output format"),
        (["--timeout=5s"], "--timeout says how long a repair may take; it goes with --repair"),
        (["--repair", "--timeout=0"], "--timeout must be greater than 0 and at most 600s"),
        (["--repair", "--timeout=1h"], "--timeout must be greater than 0 and at most 600s"),
    ],
)
def test_what_means_nothing_is_refused_and_nothing_is_asked(server, run, argv, message):
    code, out, err = run("verify", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert server.asked == []
