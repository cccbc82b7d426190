"""In random schedules of commits, kills, failovers and restores nothing that was acknowledged is lost.

`python tests/test_simulation.py 50000` runs more of them than the suite does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest
from simulation import Simulation

from ovnreserve.plan.revision import Standing

SCHEDULES = 1500
LENGTH = 40


def plain_counter(database: Mapping[str, int], ledger: Mapping[str, int], _own: str, _attempted: int) -> Standing:
    """What the version vector was chosen over: one number on each side."""
    return Standing({"": sum(database.values())}, {"": sum(ledger.values())})


def counted_in_advance(database: Mapping[str, int], ledger: Mapping[str, int], own: str, attempted: int) -> Standing:
    """A vector into which a ledger counts what it is about to do, not knowing whether it will have been done."""
    return Standing(database, {**ledger, own: attempted} if attempted else ledger)


def wrong(simulation: Simulation) -> dict[str, list[str]]:
    """What never may be, whatever happened."""
    found = {
        "lost": simulation.lost(),
        "held twice": simulation.doubled(),
        "ledgers that say something else": simulation.disagreeing(),
    }
    return {what: which for what, which in found.items() if which}


@pytest.mark.parametrize("part", range(4))
def test_killed_and_failed_over_at_any_moment_nothing_is_lost_and_nothing_comes_back(part: int) -> None:
    for seed in range(part * SCHEDULES, (part + 1) * SCHEDULES):
        simulation = Simulation(seed, restores=False)
        simulation.run(LENGTH)
        assert wrong(simulation) == {}, f"seed {seed}"
        assert (simulation.undead(), simulation.driven()) == ([], []), f"seed {seed}"


@pytest.mark.parametrize("part", range(4))
def test_whatever_is_restored_wiped_or_lost_nothing_is_lost_that_some_store_still_had(part: int) -> None:
    for seed in range(part * SCHEDULES, (part + 1) * SCHEDULES):
        simulation = Simulation(seed, restores=True)
        simulation.run(LENGTH)
        assert wrong(simulation) == {}, f"seed {seed}"


def test_the_simulation_finds_what_a_plain_counter_loses() -> None:
    found = 0
    for seed in range(SCHEDULES):
        simulation = Simulation(seed, restores=True, compare=plain_counter)
        simulation.run(LENGTH)
        found += bool(simulation.lost())
    assert found


def test_the_simulation_finds_what_is_driven_wrongly_if_attempts_count_as_done() -> None:
    found = 0
    for seed in range(SCHEDULES):
        simulation = Simulation(seed, restores=False, compare=counted_in_advance)
        simulation.run(LENGTH)
        found += bool(simulation.driven())
    assert found


if __name__ == "__main__":
    schedules = int(sys.argv[1])
    told = deaths = lost = undead = 0
    for seed in range(schedules):
        simulation = Simulation(seed, restores=bool(seed % 2))
        simulation.run(LENGTH)
        told += len(simulation.told)
        deaths += simulation.deaths
        lost += len(simulation.lost())
        undead += 0 if simulation.restores else len(simulation.undead())
    print(f"{schedules} schedules, {deaths} kills, {told} acknowledged, {lost} lost, {undead} came back")
