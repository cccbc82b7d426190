"""The queue: what the database did not accept comes again, later and later, and holds up nobody else."""

from __future__ import annotations

import time

from builders import Cloud, wanted
from lifecycle import Site
from ovsdb_model import PORTS, SWITCHES

from ovnreserve.engine.inbox import Inbox
from ovnreserve.engine.queue import Queue
from ovnreserve.engine.tasks import Tasks
from ovnreserve.engine.work import Apply, Work
from ovnreserve.plan.outcome import Context, Plan


def nothing(_context: Context) -> Plan:
    return Plan("unchanged")


def test_a_task_that_the_database_did_not_accept_comes_again_later_and_later() -> None:
    cloud = Cloud()
    queue = Queue(Inbox(), Tasks(cloud.world, cloud.replica))
    work = Work("vm-1.default", nothing)
    delays = []
    for _ in range(8):
        before = time.monotonic()
        queue.retry(work)
        queue.gather(before)
        assert not queue.waiting, "it holds up nobody before its time"
        delays.append(round(queue.due - before, 1))
        assert queue.take_all() == [work]
    assert delays == sorted(delays)
    assert 1.9 < delays[0] < 3
    assert delays[-1] < 31


def test_nobody_writes_exclude_ips_of_a_switch_whose_repair_waits_for_others_to_be_done() -> None:
    cloud = Cloud()
    queue = Queue(Inbox(), Tasks(cloud.world, cloud.replica))
    repair = Work("switch", nothing, repairs="switch")
    repair.not_before = time.monotonic() + 60
    queue.deferred.append(repair)
    queue.gather(time.monotonic())
    assert list(queue.unrepaired) == ["switch"]
    repair.not_before = 0.0
    queue.gather(time.monotonic())
    assert list(queue.unrepaired) == []
    assert list(queue.waiting) == [repair]


def test_what_would_write_to_a_switch_whose_repair_is_put_off_has_it_repaired_first() -> None:
    site = Site()
    switch = site.database.switch(subnet="10.0.0.0/28")
    site.ask(Apply(wanted(v4="10.0.0.2")))
    site.settle()
    row = site.tables[SWITCHES][switch]
    for _ in range(2):  # at once after the first time, a moment later after the second
        row["other_config"] = {"subnet": "10.0.0.0/28"}
        site.turn()
        site.serve()
        site.turn()
        row = site.tables[SWITCHES][switch]
    assert "exclude_ips" not in row["other_config"]
    port = site.database.port(switch, "lsp", "dynamic", up=True)
    site.northd_runs()
    site.ask(Apply(wanted("vm-2.default")))
    for _ in range(3):
        site.turn()
        site.serve()
    assert ("vm-2.default" in site.world.reservations, site.asked) == (True, [])
    site.settle()
    assert site.tables[PORTS][port]["dynamic_addresses"].split()[1] == "10.0.0.2"
    assert site.tables[SWITCHES][switch]["other_config"]["exclude_ips"] == "10.0.0.14"
    site.close()
