"""Long work shows signs of life, often enough."""

from __future__ import annotations

from ovnreserve.model.pace import EVERY, paced
from ovnreserve.model.topology import RowChanges
from ovnreserve.northbound.replica import Replica
from ovnreserve.plan.world import World


def test_there_is_a_beat_before_each_thousand_and_no_item_is_lost():
    items = iter(range(2 * EVERY + 1))
    beats = []
    assert list(paced(items, lambda: beats.append(items.__length_hint__()))) == list(range(2 * EVERY + 1))
    assert beats == [2 * EVERY, EVERY, 0]  # so many were still to come, but for the one in hand


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
