"""One line a record, from whatever source; nothing in a value can make it two."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import logging
import os
import re
import subprocess
import sys
import uuid
import warnings
from pathlib import Path

import ovs.reconnect
import ovs.vlog
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

import ovnreserve
from ovnreserve import log

TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def as_it_was():
    """Logging belongs to the process: what a test configures must not reach those of other files."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    vlog = {name: getattr(ovs.vlog.Vlog, name) for name in ("emer", "err", "warn", "info", "dbg")}
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
    for name, method in vlog.items():
        setattr(ovs.vlog.Vlog, name, method)
    logging.captureWarnings(capture=False)


def configured(log_format, level="info", stream=None):
    stream = stream or io.StringIO()
    log.configure(log_format, level, stream)
    return stream


def records(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_record_begins_with_time_level_and_event():
    stream = configured("json")
    structlog.get_logger().info("switch_compared", switch="ls0", ports=3)
    (line,) = stream.getvalue().splitlines()
    rest = '"level": "info", "event": "switch_compared", "switch": "ls0", "ports": 3'
    assert re.fullmatch(rf'{{"timestamp": "{TIMESTAMP}", {rest}}}', line)


def test_a_console_record_quotes_its_values():
    stream = configured("console")
    structlog.get_logger().warning(
        "conflict", name="web-0", ip=ipaddress.ip_address("10.0.0.1"), at=Path("/x"), n=2, since=None
    )
    expected = rf"{TIMESTAMP} warning  conflict name='web-0' ip='10\.0\.0\.1' at='/x' n=2 since=None\n"
    assert re.fullmatch(expected, stream.getvalue())


def test_values_json_has_no_type_for_are_text():
    stream = configured("json")
    uid = uuid.uuid4()
    structlog.get_logger().info("made", uid=uid, ip=ipaddress.ip_address("::1"))
    (record,) = records(stream)
    assert (record["uid"], record["ip"]) == (str(uid), "::1")


class Treacherous:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


@given(st.text(), st.text(), st.text(), st.sampled_from(["console", "json"]))
def test_no_text_can_inject_a_line_or_a_control_character(event, key, value, log_format):
    stream = configured(log_format)
    fields = {"k" + key: value, "list": [value], "object": Treacherous(value), "within": [Treacherous(value)]}
    structlog.get_logger().info(event, **fields)
    logging.getLogger("somebody").error("%s", value)
    text = stream.getvalue()
    assert text.count("\n") == 2
    # splitlines knows more line ends than \n: U+2028, form feed, ...
    assert len(text.splitlines()) == 2
    assert all(line.isprintable() for line in text.splitlines())


def test_a_traceback_stays_within_its_line():
    for log_format in ("console", "json"):
        stream = configured(log_format)
        try:
            Path("disk\nfull").read_text()
        except OSError:
            structlog.get_logger().exception("ledger_failed")
            logging.getLogger("somebody").exception("oh")
        ours, theirs = stream.getvalue().splitlines()
        for line in (ours, theirs):
            assert r"Traceback (most recent call last):\n" in line
            assert "FileNotFoundError" in line


def test_the_console_has_no_colours_unless_it_is_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, terminal, json_terminal = io.StringIO(), Terminal(), Terminal()
    for log_format, stream in (("console", plain), ("console", terminal), ("json", json_terminal)):
        configured(log_format, stream=stream)
        structlog.get_logger().error("failed")
    assert "\033[" not in plain.getvalue() + json_terminal.getvalue()
    assert "\033[31merror   \033[0m failed" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    unwanted = configured("console", stream=Terminal())
    structlog.get_logger().error("failed")
    assert "\033[" not in unwanted.getvalue()


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warn", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("emer", ["critical"]),
    ],
)
def test_events_below_the_level_are_dropped(level, heard):
    stream = configured("json", level)
    for name in log.LEVELS:
        getattr(structlog.get_logger(), name)("event")
    assert [record["level"] for record in records(stream)] == heard


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match='"loud" is not known: choose one of debug, info'):
        log.configure("json", "loud")


def test_the_level_may_change_under_loggers_that_are_in_use():
    stream = configured("json")
    logger = structlog.get_logger().bind(switch="ls0")
    logger.debug("one")
    ovs.vlog.Vlog.set_levels_from_string("ovnreserve:dbg")
    logger.debug("two")
    assert [record["event"] for record in records(stream)] == ["two"]


def test_python_ovs_is_heard_from_error_up_and_silent_below():
    stream = configured("json", "debug")
    for name in ("dbg", "info", "warn", "err", "emer"):
        getattr(ovs.reconnect.vlog, name)("unix:/x.sock: 100%s of attempts failed")
    message = "unix:/x.sock: 100%s of attempts failed"
    assert [(record["level"], record["logger"], record["message"]) for record in records(stream)] == [
        ("error", "ovs.reconnect", message),
        ("critical", "ovs.reconnect", message),
    ]


def test_a_reconnecting_python_ovs_does_not_flood_the_log():
    stream = configured("json")

    def reconnect():
        session = ovs.reconnect.Reconnect(0)
        session.enable(0)
        for now in range(0, 100_000, 1000):
            session.run(now)
            session.connecting(now)
            session.connect_failed(now, 111)

    reconnect()
    assert stream.getvalue() == ""
    ovs.vlog.Vlog.set_levels_from_string("reconnect:info")
    reconnect()
    assert len(records(stream)) > 10  # it would have


def test_python_ovs_modules_imported_later_obey_too():
    configured("json")
    late = ovs.vlog.Vlog(f"late-{uuid.uuid4()}")
    assert not late.warn_is_enabled()
    assert late.err_is_enabled()


def test_libraries_are_heard_from_warning_up_and_their_chatter_is_off(capfd):
    stream = configured("json", "debug")
    logging.getLogger("uvicorn.error").info("Started server process")
    logging.getLogger("uvicorn.access").error("GET /")
    logging.getLogger("ovsdbapp.backend.ovs_idl.idlutils").error("Unable to open stream")
    logging.getLogger("asyncio").debug("Using selector")
    logging.getLogger("ovsdbapp.event").warning("Event not matched: %s", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert stream.getvalue().count("\n") == 2
    first, second = records(stream)
    assert (first["event"], first["logger"], first["message"]) == (
        "library_log",
        "ovsdbapp.event",
        "Event not matched: x",
    )
    assert second["logger"] == "py.warnings"
    assert capfd.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_stops_nobody():
    full = Path("/dev/full").open("w")  # noqa: SIM115  its closing fails too
    configured("json", stream=full)
    structlog.get_logger().info("lost")
    logging.getLogger("somebody").error("lost")
    with contextlib.suppress(OSError):
        full.close()
    structlog.get_logger().info("closed")


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(ovnreserve.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_it_goes_to_stderr():
    process = run("from ovnreserve import log; log.configure('json'); log.structlog.get_logger().info('x')")
    assert process.stdout == ""
    assert json.loads(process.stderr)["event"] == "x"


def test_rich_is_not_imported_even_where_it_is_installed(tmp_path):
    for name in ("__init__", "console", "traceback"):
        file = tmp_path / "rich" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text("print('imported')\nConsole = Traceback = None\n")
    path = os.pathsep.join([str(tmp_path), str(Path(ovnreserve.__file__).parents[1])])
    assert run("import rich", PYTHONPATH=path).stdout == "imported\n"
    code = "import sys; from ovnreserve import log; log.configure('console'); print('rich' in sys.modules)"
    assert run(code, PYTHONPATH=path).stdout == "False\n"
    # It is hidden from structlog, not from whoever wants it.
    assert run(f"{code}; import rich", PYTHONPATH=path).stdout == "False\nimported\n"


def test_threads_do_not_mix_their_lines():
    code = """
import threading
import structlog
from ovnreserve import log

log.configure("json")
logger = structlog.get_logger()
threads = [threading.Thread(target=lambda: [logger.info("x" * 500) for _ in range(200)]) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    lines = run(code).stderr.splitlines()
    assert len(lines) == 800
    assert {json.loads(line)["event"] for line in lines} == {"x" * 500}
