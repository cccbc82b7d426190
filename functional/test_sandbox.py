"""The sandbox: what it starts, how it stops, and what a test may do to its parts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import ovnreserve, wait_until

from ovnreserve.sandbox import Daemon, SandboxError, Servers, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

SANDBOX = [sys.executable, "-m", "ovnreserve.cli.main", "sandbox"]


@contextlib.contextmanager
def sandbox(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """`ovnreserve sandbox` and the environment it printed."""
    with subprocess.Popen([*SANDBOX, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            environment = {}
            for line in process.stdout:
                if line.startswith("#"):
                    break
                name, _, value = line.removeprefix("export ").strip().partition("=")
                environment[name] = value
            yield process, environment
        finally:
            process.terminate()


def processes_of(directory: str) -> list[str]:
    """The command lines of living processes that name a directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if directory in command:
                found.append(command)
    return found


def nbctl(environment: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        ["ovn-nbctl", *arguments],
        env=clean_environment(environment),
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout


def test_the_printed_environment_leads_ovn_nbctl_and_ovnreserve_to_the_private_servers():
    with sandbox() as (_, environment):
        nbctl(environment, "--wait=sb", "ls-add", "s1")
        assert "(s1)" in nbctl(environment, "show")
        assert ovnreserve("get", "ip", environment=environment).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_process_and_no_directory(number):
    with sandbox() as (process, environment):
        directory = environment["OVN_RUNDIR"]
        assert len(processes_of(directory)) == 5  # with the daemon's watchdog
        process.send_signal(number)
        assert process.wait(30) == 0
    assert processes_of(directory) == []
    assert not Path(directory).exists()


def test_killed_it_leaves_no_process():
    with sandbox() as (process, environment):
        directory = environment["OVN_RUNDIR"]
        process.kill()
    wait_until(lambda: not processes_of(directory), what="the servers to follow the sandbox")
    shutil.rmtree(directory)


def test_a_given_directory_stays_with_its_databases(tmp_path_factory):
    directory = tmp_path_factory.mktemp("d")
    for command in (["ovn-nbctl", "ls-add", "kept"], ["ovn-nbctl", "get", "logical_switch", "kept", "name"]):
        result = ovnreserve("sandbox", "--dir", str(directory), "--", *command)
        assert result.code == 0, result.stderr
    assert result.stdout.strip() == "kept"


def test_a_command_runs_in_the_environment_and_its_status_is_the_sandbox_s():
    result = ovnreserve("sandbox", "--", "sh", "-c", "ovn-nbctl ls-add s1 && ovn-nbctl ls-list && exit 7")
    assert (result.code, result.stderr) == (7, "")
    assert "(s1)" in result.stdout


def test_a_command_that_a_signal_ended_gives_what_a_shell_would_give():
    assert ovnreserve("sandbox", "--", "sh", "-c", "kill -TERM $$").code == 128 + signal.SIGTERM


def test_ctrl_c_is_left_to_the_command_that_the_terminal_sends_it_to():
    command = "trap 'exit 3' INT; echo up; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [*SANDBOX, "--", "sh", "-c", command], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 3


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 3), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_in_the_first_moment_of_a_command_reaches_the_command(number, status, when, tmp_path):
    # A sandbox that sends itself the signal right before, or right after, its command is started: Ctrl-C, which the
    # terminal sends to the command too, is the command's to answer; the others are passed on to it.
    ready = tmp_path / "ready"
    command = f"trap 'exit 3' INT; touch {ready}; while :; do sleep 0.1; done"
    program = f"""
import os, signal, subprocess, sys, time
from pathlib import Path
from ovnreserve import sandbox

start = subprocess.Popen

def popen(*arguments, **options):
    if {when!r} == "before":
        signal.raise_signal({int(number)})
    child = start(*arguments, **options)
    while not Path({str(ready)!r}).exists():
        time.sleep(0.01)
    if {when!r} == "after":
        signal.raise_signal({int(number)})
    if {int(number)} == signal.SIGINT:
        child.send_signal(signal.SIGINT)
    return child

subprocess.Popen = popen
sys.exit(sandbox._run_command(["sh", "-c", {command!r}], os.environ))
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == status


def test_a_command_that_is_not_there_is_one_line():
    result = ovnreserve("sandbox", "--", "no-such-command")
    assert (result.code, result.stderr) == (127, "ovnreserve: no-such-command: No such file or directory\n")


@pytest.mark.parametrize("missing", ["ovsdb-server", "ovsdb-tool", "ovn-northd", "ovn-nbctl"])
def test_a_program_that_is_not_installed_is_one_line(missing, monkeypatch):
    def without(name: str, **_: object) -> str | None:
        return None if name == missing else f"/usr/bin/{name}"

    monkeypatch.setattr("shutil.which", without)
    with pytest.raises(SandboxError, match=rf"^{missing}: not found \(install ovn-central\)$"):
        Servers()


def test_wrong_options_are_told_without_a_traceback():
    result = ovnreserve("sandbox", "--no-such-option")
    assert result.code == 1
    assert result.stderr.splitlines()[-1] == "ovnreserve: unrecognized arguments: --no-such-option"


def test_a_directory_too_deep_for_unix_sockets_is_refused_with_the_limit(tmp_path):
    result = ovnreserve("sandbox", "--dir", str(tmp_path / ("d" * 100)))
    assert result.code == 1
    assert result.stderr.startswith("ovnreserve: ")
    assert "path too long" in result.stderr
    assert "107" in result.stderr


def test_a_directory_that_cannot_be_made_is_one_line():
    result = ovnreserve("sandbox", "--dir", "/dev/null/d")
    assert (result.code, result.stderr) == (1, "ovnreserve: /dev/null/d: Not a directory\n")


def test_a_second_sandbox_in_the_same_directory_is_refused_and_disturbs_nobody(servers):
    with pytest.raises(SandboxError, match="already running"):
        Servers(servers.run_dir).start()
    assert servers.nbctl("--wait=sb", "ls-add", "s1") == ""


def test_environment_variables_of_a_real_cloud_do_not_divert_commands(monkeypatch, servers):
    monkeypatch.setenv("OVN_NB_DAEMON", "/nowhere.ctl")
    monkeypatch.setenv("OVN_NBCTL_OPTIONS", "--db=unix:/nowhere.sock")
    assert servers.nbctl("ls-add", "s1") == ""


def test_a_killed_database_server_comes_back_with_what_it_had(servers):
    servers.nbctl("ls-add", "s1")
    servers.nb_server.kill()
    assert not servers.nb_server.alive
    with pytest.raises(SandboxError, match="database connection failed"):
        servers.nbctl("--timeout=1", "show")
    servers.nb_server.start()
    assert "(s1)" in servers.nbctl("show")


def test_a_paused_northd_answers_nobody_until_it_is_resumed(servers):
    servers.northd.pause()
    with pytest.raises(SandboxError):
        servers.nbctl("--wait=sb", "ls-add", "s1", timeout=1)
    servers.northd.resume()
    servers.nbctl("--wait=sb", "sync")


def test_a_paused_server_can_be_stopped(servers):
    servers.northd.pause()
    servers.northd.stop()
    assert not servers.northd.alive


def test_a_tcp_remote_gets_a_free_port_and_keeps_it_through_a_restart():
    with Servers(extra_remotes=["ptcp:0:127.0.0.1"]) as servers:
        [_, tcp] = servers.nb_remotes
        servers.nb_server.kill()
        servers.nb_server.start()
        assert nbctl({"OVN_NB_DB": tcp}, "show") == ""


def test_a_child_that_ends_before_it_is_ready_is_reported_with_its_log(servers, tmp_path):
    daemon = Daemon(servers, tmp_path / "state", "--no-such-option")
    with pytest.raises(SandboxError, match="before it was ready") as caught:
        daemon.start()
    assert "no-such-option" in str(caught.value)


def test_the_daemon_says_ready_and_stopping_and_can_be_started_again(daemon):
    assert "READY=1" in daemon.messages
    assert daemon.stop() == 0
    assert "STOPPING=1" in daemon.messages
    daemon.start()
    assert "READY=1" in daemon.messages


def test_a_daemon_that_has_no_database_yet_gets_ready_once_it_is_there(servers, tmp_path):
    servers.nb_server.stop()
    assert not Path(servers.nb.removeprefix("unix:")).exists()
    daemon = Daemon(servers, tmp_path / "state")
    daemon.start(wait=False)
    with daemon:
        wait_until((daemon.run_dir / "ovnreserved.pid").exists, what="the daemon's pidfile")
        assert "READY=1" not in daemon.messages
        servers.nb_server.start()
        daemon.wait_ready()
