"""Rehome: what is reserved moves to the switch that has taken the place of its own, and nobody is renumbered by it."""

from __future__ import annotations

import pytest
from builders import MAC, Cloud, context, uuid_of

from ovnreserve.model.addresses import parse_v4
from ovnreserve.model.steps import MembersUnchanged, PutRecord, WriteAddresses, WriteExcludes
from ovnreserve.plan.outcome import Defer
from ovnreserve.plan.rehome import plan_rehome

OURS = "02:6f:76:00:00:09"
NINE = frozenset({parse_v4("10.0.0.9")})


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def test_what_moves_is_written_only_while_no_port_has_come_that_may_run_on_it(cloud: Cloud) -> None:
    r = cloud.reserve(uuid_of(99))
    switch = cloud.switch()
    moved = r.with_(switch=switch, resource_version=77)
    assert plan_rehome(cloud.world, r, context()).steps == (PutRecord(moved), MembersUnchanged(switch))
    assert plan_rehome(cloud.world, r, context(patient=False)).steps == (PutRecord(moved),)


def test_a_port_that_runs_on_it_there_keeps_it_and_our_own_is_pinned(cloud: Cloud) -> None:
    r = cloud.reserve(uuid_of(99))
    switch = cloud.switch()
    moved = PutRecord(r.with_(switch=switch, resource_version=77))
    thief = cloud.port(switch, "thief", "dynamic", assigned=f"{MAC} 10.0.0.9")
    withheld = WriteExcludes(switch, NINE)
    assert plan_rehome(cloud.world, r, context()).steps == (moved, withheld, MembersUnchanged(switch))
    cloud.delete_port(thief)
    port = cloud.port(switch, r.name, "dynamic", assigned=f"{OURS} 10.0.0.9")
    seen = frozenset({"dynamic"}), f"{OURS} 10.0.0.9", ""
    pin = WriteAddresses(port, seen, frozenset({r.port_addresses}), r.name)
    assert plan_rehome(cloud.world, r, context()).steps == (moved, pin, MembersUnchanged(switch))


def test_it_waits_while_ovn_northd_is_about_to_choose_there(cloud: Cloud) -> None:
    r = cloud.reserve(uuid_of(99))
    cloud.port(cloud.switch(), "pending", "dynamic")
    with pytest.raises(Defer):
        plan_rehome(cloud.world, r, context())
    assert plan_rehome(cloud.world, r, context(patient=False)).result == "rehomed"
