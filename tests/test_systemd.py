"""The unit as systemd reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from ovnreserve.daemon import WATCHDOG

SYSTEMD = Path(__file__).parents[1] / "systemd"
UNIT = SYSTEMD / "ovnreserved.service"
NORTHBOUND = ("ovn-ovsdb-server-nb.service", "ovn-nb-ovsdb.service")


@pytest.fixture(scope="module")
def unit():
    """Section -> key -> values, with keys that may occur several times, as systemd.syntax(7) has them."""
    sections = defaultdict(lambda: defaultdict(list))
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[section][key].append(value)
    return sections


@pytest.fixture
def installed(tmp_path):
    """Verify the unit as if it were installed next to its programs; `(exit status, output)`."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    program = tmp_path / "ovnreserved"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NORTHBOUND:
        (tmp_path / name).write_text("[Service]\nExecStart=/bin/sh\n")

    def verify(text):
        assert "ExecStart=/usr/bin/ovnreserved " in text
        file = tmp_path / UNIT.name
        file.write_text(text.replace("/usr/bin/ovnreserved", str(program)))
        # Relative to the process' directory a name would be looked for among the installed units.
        result = subprocess.run(
            ["systemd-analyze", "verify", file],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return result.returncode, [line for line in result.stdout.splitlines() if "ovnreserved" in line]

    return verify


def test_systemd_finds_nothing_to_complain_about(installed):
    assert installed(UNIT.read_text()) == (0, [])


def test_systemd_would_complain_about_a_setting_it_does_not_know(installed):
    _, complaints = installed(UNIT.read_text().replace("UMask=", "Umask="))
    assert len(complaints) == 1
    assert "Umask" in complaints[0]


def test_start_up_is_finished_when_the_daemon_says_so_however_long_it_takes(unit):
    service = unit["Service"]
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    assert service["TimeoutStartSec"] == ["infinity"]
    assert service["TimeoutStopSec"] == ["30"]
    assert service["Restart"] == ["on-failure"]
    assert service["LimitNOFILE"] == ["65536"]


def test_a_daemon_that_hangs_is_killed_after_its_own_watchdog_had_its_chance_and_started_again(unit):
    service = unit["Service"]
    assert service["WatchdogSec"] == ["60"]
    assert float(service["WatchdogSec"][0]) > WATCHDOG
    assert service["WatchdogSignal"] == ["SIGKILL"]
    # Of its two processes only the daemon itself is listened to, and both are stopped together.
    assert service["NotifyAccess"] == ["main"]
    assert "KillMode" not in service


def test_the_northbound_database_is_wanted_and_waited_for_but_not_required(unit):
    for key in ("Wants", "After"):
        assert set(" ".join(unit["Unit"][key]).split()) == {*NORTHBOUND, "network.target"}
    assert not unit["Unit"].keys() & {"Requires", "BindsTo", "PartOf", "Requisite"}


def test_the_ledger_is_private_and_ovn_s_run_directory_outlives_the_daemon(unit):
    service = unit["Service"]
    assert service["UMask"] == ["0077"]
    assert service["StateDirectory"] == ["ovnreserve"]
    assert service["StateDirectoryMode"] == ["0700"]
    assert service["RuntimeDirectory"] == ["ovn"]
    assert service["RuntimeDirectoryMode"] == ["0755"]
    assert service["RuntimeDirectoryPreserve"] == ["yes"]


def test_options_come_from_the_defaults_file_where_there_is_one(unit):
    assert unit["Service"]["ExecStart"] == ["/usr/bin/ovnreserved $OVNRESERVED_OPTS"]
    assert unit["Service"]["EnvironmentFile"] == ["-/etc/default/ovnreserved"]
    settings = [line for line in (SYSTEMD / "ovnreserved.default").read_text().splitlines() if line and line[0] != "#"]
    assert settings == ['OVNRESERVED_OPTS=""']
