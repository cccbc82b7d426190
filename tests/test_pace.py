"""Long work shows signs of life, often enough."""

from __future__ import annotations

import sys

from ovnreserve.model.pace import EVERY, paced, taken
from ovnreserve.model.topology import RowChanges
from ovnreserve.northbound.replica import Replica
from ovnreserve.plan.world import World


def test_there_is_a_beat_before_each_thousand_and_no_item_is_lost():
    items = iter(range(2 * EVERY + 1))
    beats = []
    assert list(paced(items, lambda: beats.append(items.__length_hint__()))) == list(range(2 * EVERY + 1))
    assert beats == [2 * EVERY, EVERY, 0]  # so many were still to come, but for the one in hand


def test_no_more_are_taken_than_is_asked_for_and_what_is_taken_is_gone():
    items = set(range(10))
    first = set(taken(items, 4))
    assert len(first) == 4
    assert first | items == set(range(10))
    assert not first & items
    assert set(taken(items, 100)) == set(range(10)) - first
    assert not items


def test_a_set_that_was_large_is_small_when_it_is_empty():
    items = set(range(100_000))
    for _ in range(100):
        assert len(list(taken(items, 1_000))) == 1_000
    assert sys.getsizeof(items) == sys.getsizeof(set())


def test_a_dump_of_many_ports_beats_while_it_is_received_and_while_it_is_taken():
    beats = []
    replica = Replica(lambda: beats.append("received"))
    ports = {f"uuid-{n}": {"initial": {"name": f"port-{n}"}} for n in range(5 * EVERY)}
    replica.replace({"Logical_Switch_Port": ports})
    assert beats == ["received"] * 5
    changes = replica.take_changes()
    assert isinstance(changes, RowChanges)
    world = World(lambda: beats.append("taken"))
    world.apply(replica.tables, changes)
    assert len(world.ports) == 5 * EVERY
    assert beats[5:] == ["taken"] * 5
