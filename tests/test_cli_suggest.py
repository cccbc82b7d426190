"""`ovnreserve suggest` against a server with canned answers."""

from __future__ import annotations

import json

import pytest
from test_cli_commands import run, server

__all__ = ["run", "server"]

SUGGEST = "/apis/ovnreserve.io/v1/suggest"


def answer(*addresses: str | tuple[str, str], count: int) -> dict:
    found = [
        {"address": each} if isinstance(each, str) else {"address": each[0], "quarantinedUntil": each[1]}
        for each in addresses
    ]
    return {"subnet": "lan", "family": 4, "count": count, "addresses": found}


def test_each_address_has_its_line(server, run):
    server.on(f"GET {SUGGEST}?subnet=lan", answer("10.0.0.9", count=1))
    assert run("suggest", "--subnet", "lan") == (0, "10.0.0.9\n", "")
    server.on(f"GET {SUGGEST}?subnet=lan&count=2&contiguous=true&family=4", answer("10.0.0.9", "10.0.0.8", count=2))
    assert run("suggest", "--subnet=lan", "-n2", "--contiguous", "--family=4") == (0, "10.0.0.9\n10.0.0.8\n", "")


def test_as_json_it_is_what_the_server_said(server, run):
    said = answer("10.0.0.9", count=2)
    server.on(f"GET {SUGGEST}?subnet=l%2F%C3%A4&count=2", said)
    code, out, err = run("suggest", "--subnet", "l/ä", "-n", "2", "-o", "json")
    assert (code, json.loads(out)) == (1, said)
    assert err == "error: only 1 of 2 IPv4 addresses is free on subnet l/ä\n"


def test_what_is_in_quarantine_is_a_warning_that_does_not_name_thousands(server, run):
    resting = [(f"10.0.0.{number}", "2026-01-01T00:00:00Z") for number in range(9, 4, -1)]
    server.on(f"GET {SUGGEST}?subnet=lan&count=5", answer(*resting, count=5))
    code, out, err = run("suggest", "--subnet", "lan", "-n", "5")
    assert (code, out.count("\n")) == (0, 5)
    assert err.startswith("Warning: in quarantine, since nothing else is free: 10.0.0.9 until 2026-01-01T00:00:00Z, ")
    assert err.endswith(" and 2 more\n")


@pytest.mark.parametrize("free", [True, False])
def test_an_address_is_explained_and_the_exit_status_says_whether_it_is_free(server, run, free):
    reasons = [] if free else ["held by IP x (Bound)"]
    refusal = "" if free else "held by IP x"
    said = {"address": "fd00::9", "free": free, "reasons": reasons, "mayBeGiven": free, "refusal": refusal}
    server.on(f"GET {SUGGEST}?subnet=lan&explain=FD00%3A%3A9", said)
    why = "fd00::9 is held by IP x (Bound)\nfd00::9 may not be given (spec.v6IpAddress)\n"
    lines = "fd00::9 is free\n" if free else why
    assert run("suggest", "--subnet", "lan", "--explain", "FD00::9") == (int(not free), lines, "")
    code, out, err = run("suggest", "--subnet", "lan", "--explain", "FD00::9", "-o", "json")
    assert (code, json.loads(out), err) == (int(not free), said, "")


def test_an_address_that_is_empty_is_not_explained_as_if_it_were_free(run):
    """As from a variable that is not set: the exit status 0 means that the address is free."""
    refused = (1, "", "error: --explain is of one address, and may not be empty\n")
    assert run("suggest", "--subnet", "lan", "--explain=") == refused


def test_a_port_whose_name_has_a_line_break_makes_no_line(server, run):
    reasons = ["held by logical switch port x\ny\tz"]
    said = {"address": "10.0.0.9", "free": False, "reasons": reasons, "mayBeGiven": True, "refusal": ""}
    server.on(f"GET {SUGGEST}?subnet=lan&explain=10.0.0.9", said)
    _code, out, _err = run("suggest", "--subnet=lan", "--explain=10.0.0.9")
    assert out.splitlines() == [
        "10.0.0.9 is held by logical switch port x\\ny\\tz", "10.0.0.9 may be given (spec.v4IpAddress)",
    ]  # fmt: skip


def test_a_refusal_that_no_reason_has_said_is_said_too(server, run):
    refusal = "of IPPool pool-1, which is for namespace prod"
    reasons = ["in IPPool pool-1, for namespace prod"]
    said = {"address": "10.0.0.9", "free": False, "reasons": reasons, "mayBeGiven": False, "refusal": refusal}
    server.on(f"GET {SUGGEST}?subnet=lan&explain=10.0.0.9", said)
    assert run("suggest", "--subnet", "lan", "--explain", "10.0.0.9")[:2] == (
        1,
        f"10.0.0.9 is {reasons[0]}\n10.0.0.9 may not be given (spec.v4IpAddress): {refusal}\n",
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["x", "--subnet=lan"], "Unexpected args: [x]"),
        ([], 'required flag(s) "subnet" not set'),
        (["--subnet=lan", "-n", "x"], 'invalid argument "x" for "-n, --count" flag: strconv.ParseInt: parsing "x"'),
        (["--subnet=lan", "--family=5"], 'invalid argument "5" for "--family" flag: must be 4 or 6'),
        (["--subnet=lan", "-o", "yaml"], "unable to match a printer suitable for the output format"),
        (["--subnet=lan", "--explain=10.0.0.9", "-n2"], "--explain is about one address"),
        (["--subnet=lan", "--explain=10.0.0.9", "--contiguous"], "--explain is about one address"),
    ],
)
def test_what_means_nothing_is_refused_and_nothing_is_asked(server, run, argv, message):
    code, out, err = run("suggest", *argv)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert server.asked == []
