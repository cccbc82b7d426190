"""The daemon as a service: options, connections, what it tells systemd, ovn-appctl."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from functools import partial

import pytest
from support import ovnreserve, wait_until

from ovnreserve import __version__
from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import StatusError, UnreachableError
from ovnreserve.sandbox import Daemon, SandboxError, Servers, clean_environment

MANIFEST = """\
apiVersion: kubeovn.io/v1
kind: IP
metadata: {name: web-0.default}
spec: {subnet: lan, podName: web-0, namespace: default}
"""


def ovnreserved(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the daemon with options that it does not survive."""
    return subprocess.run(
        [sys.executable, "-m", "ovnreserve.daemon", *arguments],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def reserve(servers: Servers, daemon: Daemon) -> str:
    """Make a switch, reserve on it, and return what ovn-nbctl then sees excluded."""
    servers.nbctl("ls-add", "lan", "--", "set", "logical_switch", "lan", "other_config:subnet=10.0.0.0/24")
    done = ovnreserve("apply", "-f", "-", environment=daemon.client_environment, stdin=MANIFEST)
    assert done == (0, "ip.kubeovn.io/web-0.default created\n", "")
    return servers.nbctl("get", "logical_switch", "lan", "other_config:exclude_ips").strip().strip('"')


def appctl(daemon: Daemon, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ovn-appctl", "-t", "ovnreserved", *command],
        env={**os.environ, "OVN_RUNDIR": str(daemon.run_dir)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


# Connections


def test_it_reserves_over_tcp(tmp_path):
    with Servers(extra_remotes=["ptcp:0:127.0.0.1"]) as servers:
        remote = servers.nb_remotes[1]
        with Daemon(servers, tmp_path / "state", "--db", remote) as daemon:
            assert remote.startswith("tcp:127.0.0.1:")
            assert reserve(servers, daemon) == "10.0.0.254"


@pytest.fixture
def tls_servers(pki):
    options = [f"--private-key={pki}/key.pem", f"--certificate={pki}/cert.pem", f"--ca-cert={pki}/ca.pem"]
    with Servers(extra_remotes=["pssl:0:127.0.0.1"], nb_options=options) as servers:
        yield servers


def test_it_reserves_over_tls(tls_servers, pki, tmp_path):
    tls = ["-p", f"{pki}/key.pem", "-c", f"{pki}/cert.pem", "-C", f"{pki}/ca.pem"]
    with Daemon(tls_servers, tmp_path / "state", "--db", tls_servers.nb_remotes[1], *tls) as daemon:
        assert reserve(tls_servers, daemon) == "10.0.0.254"


def test_a_database_whose_certificate_is_signed_by_another_is_not_trusted(tls_servers, pki, tmp_path):
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    other = ["-keyout", f"{tmp_path}/other.key", "-out", f"{tmp_path}/other.pem", "-subj", "/CN=other"]
    subprocess.run(["openssl", "req", "-x509", *ec, *other], check=True, capture_output=True)
    tls = ["-p", f"{pki}/key.pem", "-c", f"{pki}/cert.pem", "-C", f"{tmp_path}/other.pem"]
    daemon = Daemon(tls_servers, tmp_path / "state", "--db", tls_servers.nb_remotes[1], *tls)
    daemon.start(wait=False)
    with daemon:
        status = partial(ovnreserve, "status", environment=daemon.client_environment)
        wait_until(lambda: "not connected" in status().stdout, what="the daemon says that it is not connected")
        wait_until(lambda: "northbound_not_connected" in daemon.log.read_text(), what="it says so in its log")
        assert "READY=1" not in daemon.messages


def test_a_missing_database_is_waited_for_with_one_line_a_change(servers, tmp_path):
    servers.nb_server.stop()
    daemon = Daemon(servers, tmp_path / "state")
    daemon.start(wait=False)
    with daemon:
        log = daemon.log
        wait_until(lambda: "northbound_not_connected" in log.read_text(), what="the first failure is logged")
        before = len(log.read_text().splitlines())
        refused = ovnreserve("create", "-f", "-", environment=daemon.client_environment, stdin=MANIFEST)
        assert refused.code == 1
        assert "(ServiceUnavailable)" in refused.stderr
        assert "database connection failed (No such file or directory)" in refused.stderr
        servers.nb_server.start()
        daemon.wait_ready()
        lines = log.read_text().splitlines()[before:]
        assert [line.split()[2] for line in lines] == ["northbound_connected", "state_changed", "state_changed"]
        assert reserve(servers, daemon) == "10.0.0.254"


# Being a service


def test_systemd_is_told_when_it_is_ready_what_it_does_and_that_it_stops(servers, tmp_path):
    with Daemon(servers, tmp_path / "state") as daemon:
        ready = daemon.messages.index("READY=1")
        assert any(message.startswith("STATUS=active: unix:") for message in daemon.messages[ready - 1 : ready + 2])
        assert daemon.stop() == 0
        assert "STOPPING=1" in daemon.messages[ready:]


def test_systemds_watchdog_hears_of_it_for_as_long_as_its_engine_takes_its_turns(servers, tmp_path):
    watched = {"WATCHDOG_USEC": "1000000"}
    with Daemon(servers, tmp_path / "state", "--watchdog=0", environment=watched) as daemon:
        heard = len(daemon.messages)
        wait_until(lambda: daemon.messages[heard:].count("WATCHDOG=1") >= 5, what="WATCHDOG=1 again and again")
    with Daemon(servers, tmp_path / "state") as daemon:
        assert "WATCHDOG=1" not in daemon.messages


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(servers, tmp_path, number):
    with Daemon(servers, tmp_path / "state") as daemon:
        pid = daemon.pid
        os.kill(pid, number)
        wait_until(lambda: not daemon.alive, what="the daemon ends")
        assert daemon.stop() == 0
        assert not list(daemon.run_dir.glob("ovnreserved*.sock"))
        assert not list(daemon.run_dir.glob(f"ovnreserved.{pid}.ctl"))
        assert not (daemon.run_dir / "ovnreserved.pid").exists()


def test_who_asks_while_it_stops_is_told_that_nothing_was_done(servers, tmp_path):
    """Also who comes when the engine has ended and the API has not."""
    with Daemon(servers, tmp_path / "state") as daemon:
        reserve(servers, daemon)
        codes: list[int] = []

        def ask_again_and_again() -> None:
            while daemon.alive:
                client = Client(daemon.client_environment["OVNRESERVE_SERVER"], lambda _warning: None)
                try:
                    client.request("DELETE", "/apis/kubeovn.io/v1/ips/nobody.default")
                except StatusError as error:
                    codes.append(error.status["code"])
                except UnreachableError:
                    pass  # it is gone
                client.close()

        clients = [threading.Thread(target=ask_again_and_again) for _ in range(4)]
        for client in clients:
            client.start()
        wait_until(lambda: len(codes) > 100, what="they ask")
        os.kill(daemon.pid, signal.SIGTERM)
        for client in clients:
            client.join()
        assert daemon.stop() == 0
        assert set(codes) == {404, 503}


def test_its_files_are_for_its_owner_only(servers, tmp_path):
    with Daemon(servers, tmp_path / "state") as daemon:
        ledger = daemon.state_dir / "ledger.db"
        sockets = [daemon.run_dir / "ovnreserved.sock", daemon.run_dir / f"ovnreserved.{daemon.pid}.ctl"]
        for path in [*sockets, ledger]:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_ovn_appctl_finds_it_by_name(servers, tmp_path):
    with Daemon(servers, tmp_path / "state") as daemon:
        assert appctl(daemon, "version").stdout.startswith(f"ovnreserved {__version__}\n")
        assert appctl(daemon, "status").stdout == "Status: active\n"
        assert appctl(daemon, "nb-connection-status").stdout == "connected\n"
        unknown = appctl(daemon, "reserve")
        assert unknown.returncode == 2
        assert '"reserve" is not a valid command' in unknown.stderr
        assert appctl(daemon, "exit").returncode == 0
        wait_until(lambda: not daemon.alive, what="the daemon ends")
        assert daemon.stop() == 0


def test_a_second_daemon_in_the_same_run_directory_is_refused_with_the_pid(servers, tmp_path):
    with Daemon(servers, tmp_path / "state") as daemon:
        directories = ["--run-dir", str(daemon.run_dir), "--state-dir", str(tmp_path / "other")]
        second = ovnreserved("--db", servers.nb, *directories)
        assert second.returncode == 1
        assert second.stderr.startswith("ovnreserved: ")
        assert str(daemon.pid) in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert appctl(daemon, "status").stdout == "Status: active\n"


# Options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--db", "nowhere"], "--db: 'nowhere' is no remote such as unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT"),
        (["--db", "ssl:127.0.0.1:1"], "ssl: remotes need --private-key, --certificate and --ca-cert"),
        (["-p", "/no/key"], "/no/key: cannot be read"),
        (["--quarantine", "soon"], "--quarantine: 'soon' is no time such as 300s or 5m"),
        (["--journal-keep", "1y"], "--journal-keep: '1y' is no age such as 90d, no number such as 100000, and not all"),
        (["--journal-keep", "1d,2d"], "--journal-keep: '1d,2d' says twice how long"),
        (["--watchdog", "never"], "--watchdog: 'never' is no time such as 300s or 5m"),
        (["--watchdog", "0.5s"], "--watchdog: at least 1s, or 0 for none"),
        (["--config", "/no/file"], "/no/file: No such file or directory"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_1(arguments, message):
    done = ovnreserved("--check-config", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"ovnreserved: {message}\n")


def test_an_option_that_does_not_exist_shows_the_usage_and_exits_1():
    done = ovnreserved("--no-such-option")
    assert done.returncode == 1
    assert done.stderr.endswith("ovnreserved: unrecognized arguments: --no-such-option\n")


def test_the_configuration_file_says_what_the_command_line_does_not(tmp_path):
    config = tmp_path / "ovnreserved.toml"
    known = (
        *('db = "unix:/run/ovn/ovnnb_db.sock"', 'quarantine = "10m"', 'journal_keep = "all"', 'watchdog = "1m"'),
        *('squatters = "block"', "keep_vm_ip = true"),
    )
    config.write_text("\n".join((*known, "leader_only = false\n")))
    assert ovnreserved("--check-config", "--config", str(config)).returncode == 0
    config.write_text('db = "unix:/x"\ndatabase = "unix:/y"\n')
    unknown = ovnreserved("--check-config", "--config", str(config))
    assert unknown.returncode == 1
    assert unknown.stderr.startswith(f"ovnreserved: {config}: unknown key 'database' (known: ca_cert, ")
    config.write_text("db = 5\n")
    assert ovnreserved("--check-config", "--config", str(config)).stderr == (
        f"ovnreserved: {config}: db: must be a string in quotes, not 5\n"
    )
    config.write_text("keep_vm_ip = 1\n")
    assert ovnreserved("--check-config", "--config", str(config)).stderr == (
        f"ovnreserved: {config}: keep_vm_ip: must be true or false, not 1\n"
    )
    config.write_text('squatters = "shoot"\n')
    assert ovnreserved("--check-config", "--config", str(config)).stderr == (
        "ovnreserved: squatters is report or block, not 'shoot'\n"
    )
    config.write_text("db = \n")
    broken = ovnreserved("--check-config", "--config", str(config))
    assert broken.returncode == 1
    assert len(broken.stderr.splitlines()) == 1


def test_the_environment_says_where_the_database_is(servers):
    environment = {"OVN_NB_DB": servers.nb, "OVN_RUNDIR": str(servers.run_dir)}
    assert ovnreserved("--check-config", **environment).returncode == 0
    assert ovnreserved("--check-config", OVN_NB_DB="nonsense").returncode == 1


def test_a_state_directory_that_cannot_be_made_is_one_line(servers, tmp_path):
    (tmp_path / "file").write_text("")
    daemon = Daemon(servers, tmp_path / "fine", "--state-dir", str(tmp_path / "file" / "state"))
    with pytest.raises(SandboxError):
        daemon.start()
    lines = daemon.log.read_text().splitlines()
    assert lines[-1].startswith("ovnreserved: ")
    assert not any("Traceback" in line for line in lines)
