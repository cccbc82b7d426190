"""The control socket, asked by the distribution's own tool."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import ovnreserve

APPCTL = shutil.which("ovn-appctl") or shutil.which("ovs-appctl")
pytestmark = pytest.mark.skipif(APPCTL is None, reason="needs ovn-appctl or ovs-appctl")

SERVER = """
import os
import sys
from pathlib import Path

import ovs.poller
from ovnreserve import log
from ovnreserve.api.appctl import Appctl
from ovnreserve.service import Pidfile

import structlog

log.configure("json")
os.umask(0)
run_dir = Path(sys.argv[1])
asked_to_leave = []

def leave(arguments):
    asked_to_leave.append(arguments)
    return ""

def miscount(arguments):
    return 7

def refuse(arguments):
    raise ValueError(f"no such switch: {' '.join(arguments)}")

def fail(arguments):
    raise KeyError("a bug")

def say(arguments):
    structlog.get_logger().debug("said", words=arguments)
    return ""

commands = {
    "status": lambda arguments: "Status: active",
    "nb-connection-status": lambda arguments: "connected",
    "echo": lambda arguments: "|".join(arguments),
    "exit": leave,
    "refuse": refuse,
    "fail": fail,
    "say": say,
    "miscount": miscount,
}
with Pidfile(run_dir):
    appctl = Appctl(run_dir / f"ovnreserved.{os.getpid()}.ctl", commands)
    print("ready", flush=True)
    poller = ovs.poller.Poller()
    while not asked_to_leave:
        appctl.wait(poller)
        poller.block()
        appctl.run()
    appctl.close()
"""


class Daemon:
    """A process that serves the control socket, and what the tool says to it."""

    def __init__(self, run_dir: Path, log: Path) -> None:
        self.run_dir = run_dir
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, run_dir],
                env={**os.environ, "PYTHONPATH": str(Path(ovnreserve.__file__).parents[1])},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout.readline() == "ready\n", log.read_text()

    @property
    def socket(self) -> Path:
        return self.run_dir / f"ovnreserved.{self.process.pid}.ctl"

    def ask(self, *words, target=None):
        return subprocess.run(
            [APPCTL, "-T", "10", "-t", target or self.socket, *words],
            env={**os.environ, "OVN_RUNDIR": str(self.run_dir), "OVS_RUNDIR": str(self.run_dir)},
            capture_output=True,
            text=True,
            check=False,
        )

    def answer(self, *words, target=None):
        reply = self.ask(*words, target=target)
        assert (reply.returncode, reply.stderr) == (0, "")
        return reply.stdout


@pytest.fixture
def daemon(tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    daemon = Daemon(run_dir, tmp_path / "log")
    yield daemon
    daemon.process.kill()
    daemon.process.communicate()


def test_the_tool_finds_the_daemon_by_its_name(daemon):
    assert daemon.answer("status", target="ovnreserved") == "Status: active\n"


def test_version_is_ours_and_names_the_library(daemon):
    ours, library = daemon.answer("version").splitlines()
    assert ours == f"ovnreserved {ovnreserve.__version__}"
    assert library.startswith("Python Open vSwitch Library ")


def test_commands_answer_with_what_their_functions_return(daemon):
    assert daemon.answer("nb-connection-status") == "connected\n"
    assert daemon.answer("echo", "a", "b c", "é") == "a|b c|é\n"


def test_list_commands_names_them_all(daemon):
    listed = daemon.answer("list-commands").splitlines()
    assert listed[0] == "The available commands are:"
    names = {line.split()[0] for line in listed[1:]}
    assert names >= {
        *("version", "exit", "status", "nb-connection-status", "list-commands"),
        *("vlog/set", "vlog/list", "vlog/reopen", "memory/show", "coverage/show"),
    }


def test_exit_is_answered_before_the_daemon_leaves_and_leaves_nothing(daemon):
    assert daemon.answer("exit", target="ovnreserved") == ""
    assert daemon.process.wait(timeout=10) == 0
    assert not list(daemon.run_dir.iterdir())


def test_an_unknown_command_is_an_error(daemon):
    reply = daemon.ask("frobnicate")
    assert reply.returncode != 0
    assert '"frobnicate" is not a valid command' in reply.stderr


def test_a_refusal_is_told_and_logged_without_a_traceback(daemon):
    reply = daemon.ask("refuse", "ls0")
    assert reply.returncode != 0
    assert reply.stderr.startswith("no such switch: ls0\n")
    assert "Traceback" not in daemon.log.read_text()


def test_a_command_that_breaks_is_an_error_and_the_daemon_goes_on(daemon):
    reply = daemon.ask("fail")
    assert reply.returncode != 0
    assert "a bug" in reply.stderr
    assert daemon.ask("miscount").returncode != 0
    assert "Traceback" in daemon.log.read_text()
    assert daemon.answer("status") == "Status: active\n"


def test_only_the_owner_may_connect(daemon):
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xfe\xfd",
        b"{" * 5000,
        b"{" * 60000,
        b"\xc3",
        b'{"id":1,"method":["version"],"params":[]}',
        b'{"id":1,"method":{},"params":[]}',
        b'{"id":[],"method":"version","params":[]}',
        b'{"id":false,"method":"version","params":[]}',
        b'{"id":0,"method":"version","params":[]}' * 30,
        b"[]",
        b'{"id":1,"method":"version","params":{}}',
        b'{"id":1,"result":1,"error":null}',
    ],
)
def test_a_client_that_does_not_speak_the_protocol_harms_nobody(daemon, nonsense):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(daemon.socket))
        client.sendall(nonsense)
        assert daemon.answer("status") == "Status: active\n"
    assert daemon.answer("status") == "Status: active\n"


def test_a_wrong_option_of_the_tool_does_not_end_the_daemon(daemon):
    assert daemon.ask("set-options", "--format", "yaml").returncode != 0
    assert daemon.answer("status") == "Status: active\n"


def test_a_level_that_is_set_is_listed_and_counts_for_our_own_events(daemon):
    daemon.answer("say", "one")
    assert daemon.answer("vlog/set", "ovnreserve:dbg") == ""
    daemon.answer("say", "two")
    assert daemon.answer("vlog/set", "info") == ""
    daemon.answer("say", "three")
    levels = {line.split()[0]: line.split()[1:] for line in daemon.answer("vlog/list").splitlines()[2:]}
    assert levels["ovnreserve"] == ["info", "off", "off"]
    assert levels["reconnect"] == ["info", "off", "off"]
    said = [line for line in daemon.log.read_text().splitlines() if '"said"' in line]
    assert len(said) == 1
    assert '"two"' in said[0]


def test_a_level_that_does_not_exist_is_an_error(daemon):
    reply = daemon.ask("vlog/set", "loud")
    assert reply.returncode != 0
    assert 'no destination, level, or module "loud"' in reply.stderr
    assert daemon.ask("vlog/set").returncode != 0


def test_what_logrotate_and_monitoring_send_is_answered(daemon):
    assert daemon.answer("vlog/reopen") == "Logging to file not configured\n"
    assert daemon.answer("memory/show").startswith("rss-kB:")
    assert daemon.answer("coverage/show") == "ovnreserved keeps no coverage counters\n"


def test_a_run_directory_deeper_than_a_socket_s_name_may_be_long_works(tmp_path):
    run_dir = tmp_path / ("d" * 120)
    run_dir.mkdir()
    daemon = Daemon(run_dir, tmp_path / "log")
    try:
        assert daemon.answer("status", target="ovnreserved") == "Status: active\n"
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    finally:
        daemon.ask("exit")
        daemon.process.communicate(timeout=30)
    assert not list(run_dir.iterdir())


def test_a_socket_that_cannot_be_made_is_an_error_with_its_path(tmp_path):
    log = tmp_path / "log"
    script = SERVER.replace('run_dir / f"', 'run_dir / "absent" / f"')
    with log.open("wb") as stderr:
        code = subprocess.call(
            [sys.executable, "-c", script, tmp_path],
            env={**os.environ, "PYTHONPATH": str(Path(ovnreserve.__file__).parents[1])},
            stderr=stderr,
        )
    assert code == 1
    assert "FileNotFoundError" in log.read_text()
    assert f"{tmp_path}/absent/ovnreserved" in log.read_text()
