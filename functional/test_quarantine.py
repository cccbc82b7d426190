"""Quarantine: what was released rests for a while, and whoever asks is told which addresses do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faulty_clock import DaemonWithClock
from sites import NETWORK, PREFIX, Site
from support import wait_until

from ovnreserve.sandbox import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ovnreserve.sandbox import Servers

HOUR = 3600.0


@pytest.fixture
def clocked(servers: Servers, tmp_path: Path) -> Iterator[tuple[Site, DaemonWithClock]]:
    """A site whose daemon keeps addresses in quarantine for an hour, by a clock that can be set."""
    with DaemonWithClock(servers, tmp_path / "state", "--quarantine", "1h") as daemon:
        yield Site(servers, daemon), daemon
        print(daemon.log.read_text())


def quarantined(site: Site, switch: str) -> tuple[int, int]:
    status = site.subnet(switch)["status"]
    return status["v4quarantinedIPs"], status["v6quarantinedIPs"]


def test_what_was_released_is_shown_rests_over_a_restart_and_is_free_when_its_time_is_over(clocked):
    site, daemon = clocked
    switch = site.switch("10.16.0.0/29", PREFIX)
    answers = [site.reserve(switch) for _ in range(4)]
    assert quarantined(site, switch) == (0, 0)
    available = site.subnet(switch)["status"]["v4availableIPs"]
    site.release(answers[0].name)
    assert quarantined(site, switch) == (1, 1)
    assert site.subnet(switch)["status"]["v4availableIPs"] == available + 1, "it is available"

    site.restart()
    wait_until(lambda: quarantined(site, switch) == (1, 1), what="it is known after the restart")
    other = site.reserve(switch)
    assert other.v4 not in ("", answers[0].v4), "another one was free"
    last = site.reserve(switch)
    assert last.v4 == answers[0].v4, "nothing else was left"
    assert quarantined(site, switch) == (0, 1)

    site.release(last.name)
    assert quarantined(site, switch) == (1, 2)
    daemon.jump(2 * HOUR)
    assert quarantined(site, switch) == (0, 0)
    assert site.reserve(switch).v6 == answers[0].v6, "the highest again"


def is_subnet(site: Site, switch: str) -> bool:
    items = site.client.get("/apis/kubeovn.io/v1/subnets")["items"]
    return switch in {item["metadata"]["name"] for item in items}


def taken_and_left(site: Site, switch: str, address: str) -> None:
    port = site.port(switch, f"0a:00:00:00:00:01 {address}")
    wait_until(lambda: site.ip(port) is not None, what="the port has it")
    site.nb("lsp-del", port)
    wait_until(lambda: site.ip(port) is None, what="it has left")


def excluded_for_a_moment(site: Site, switch: str, address: str) -> None:
    before = site.subnet(switch)["status"]["v4availableIPs"]
    site.nb("set", "logical_switch", switch, f"other_config:exclude_ips={address}")
    wait_until(lambda: site.subnet(switch)["status"]["v4availableIPs"] == before - 1, what="excluded")
    site.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")


def without_network_for_a_moment(site: Site, switch: str, _address: str) -> None:
    site.nb("remove", "logical_switch", switch, "other_config", "subnet")
    wait_until(lambda: not is_subnet(site, switch), what="it is no subnet")
    site.nb("set", "logical_switch", switch, f"other_config:subnet={NETWORK}")
    wait_until(lambda: is_subnet(site, switch), what="it is one again")


@pytest.mark.parametrize("meanwhile", [taken_and_left, excluded_for_a_moment, without_network_for_a_moment])
def test_whatever_happens_to_the_address_meanwhile_it_rests_for_the_whole_time(site: Site, meanwhile) -> None:
    switch = site.switch(NETWORK)
    answer = site.reserve(switch)
    site.release(answer.name)
    meanwhile(site, switch, answer.v4)
    wait_until(lambda: quarantined(site, switch) == (1, 0), what="it rests")
    assert site.reserve(switch).v4 != answer.v4


def test_what_a_squatter_leaves_after_the_release_rests(site: Site) -> None:
    switch = site.switch(NETWORK)
    answer = site.reserve(switch)
    site.port(switch, f"0a:00:00:00:00:01 {answer.v4}", name="squatter")
    site.release(answer.name)
    assert quarantined(site, switch) == (0, 0)
    site.nb("lsp-del", "squatter")
    wait_until(lambda: quarantined(site, switch) == (1, 0), what="it rests")
    assert site.reserve(switch).v4 != answer.v4


def test_the_wide_table_and_the_description_of_a_subnet_show_how_many_rest(site: Site) -> None:
    switch = site.switch(NETWORK, PREFIX)
    for answer in [site.reserve(switch), site.reserve(switch)]:
        site.release(answer.name)
    head, row = site.command("get", "subnet", switch, "-o", "wide").stdout.splitlines()
    shown = dict(zip(head.split(), row.split(), strict=True))
    assert (shown["V4QUARANTINED"], shown["V6QUARANTINED"]) == ("2", "2")
    assert "QUARANTINED" not in site.command("get", "subnet", switch).stdout
    described = site.command("describe", "subnet", switch).stdout
    assert "V4 Quarantined IPs:" in described
    assert "V6 Quarantined IPs:" in described


def test_a_standby_shows_what_the_active_daemon_has_released(servers: Servers, tmp_path: Path) -> None:
    def run(name: str) -> Daemon:
        return Daemon(servers, tmp_path / name, run_dir=servers.run_dir / name)

    with run("active") as one, run("standby") as two:
        active, standby = Site(servers, one), Site(servers, two)
        switch = active.switch(NETWORK, PREFIX)
        answer = active.reserve(switch)
        wait_until(lambda: standby.ip(answer.name) is not None, what="it follows")
        active.release(answer.name)
        wait_until(lambda: standby.ip(answer.name) is None, what="it follows")
        wait_until(lambda: quarantined(standby, switch) == (1, 1), what="it shows the same")
