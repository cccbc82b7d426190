"""The engine's own tasks: what others did to the database becomes work of ours.

    a reservation's port came or changed        bind it
    a squatter came, changed or left            block or unblock it
    exclude_ips of a switch changed             repair our part
    a port left an address that was withheld    the same
    a record is gone or is another one          write it again
    a switch came                               write the records of its resources that are not there
    a switch came in the place of another       move the reservations and pools of that one to it
    ovn-northd has seen a release               finish it
    a port came, an owner came or changed       retain the port's IP
    nobody retains an IP any more               let it go
    an owner is gone, and nothing of it left    forget it
    the ledger row is not what it should be     write it again

Each is planned anew when its turn comes, so it does not matter how often it was asked for; while one waits, another
for the same is not added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from ovnreserve.engine.work import Work
from ovnreserve.model.pace import paced, taken
from ovnreserve.model.record import resource_of
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Resource, State
from ovnreserve.model.steps import PublishRevision
from ovnreserve.northbound.replica import Replica
from ovnreserve.plan.adopt import plan_retain, wants_retaining
from ovnreserve.plan.bind import judge, plan_bind
from ovnreserve.plan.born import Born
from ovnreserve.plan.outcome import Context, Event, Plan
from ovnreserve.plan.reconcile import Verdicts
from ovnreserve.plan.rehome import new_home, plan_rehome
from ovnreserve.plan.release import plan_await, plan_delete_port, plan_drop, plan_finish, plan_release
from ovnreserve.plan.repair import is_written, plan_repair, plan_resume
from ovnreserve.plan.squatters import blocked_from_now, plan_squatters, squatters
from ovnreserve.plan.world import Touched, World

_NOTHING = Plan("unchanged")
_REVISION: Final = "(revision)"
"""In place of a reservation's name, for the one task that is for none."""
_BIRTHS_AT_ONCE: Final = 2000
"""After a comparison they are all ports there are: others have their turns meanwhile. About 10 ms."""
_CATCHING_UP: Final = frozenset({"resume", "rehome", "release", "remove"})



class Patience:
    """How soon a switch may be repaired again: at once, but ever later while somebody undoes what we repair."""

    _FIRST: Final = 0.01
    _LONGEST: Final = 5.0

    def __init__(self) -> None:
        self._until: dict[str, tuple[float, float]] = {}

    def until(self, switch: str) -> float:
        return self._until.get(switch, (0.0, 0.0))[0]

    def may(self, switch: str, now: float) -> bool:
        until, delay = self._until.get(switch, (0.0, 0.0))
        if now < until:
            return False
        delay = self._FIRST if now > until + self._LONGEST else min(2 * delay, self._LONGEST)
        self._until[switch] = now + delay, delay
        return True

    def end(self, switch: str, now: float) -> None:
        """Somebody waits for it."""
        until, delay = self._until.get(switch, (0.0, 0.0))
        self._until[switch] = min(until, now), delay


class Tasks:
    """`block` the ports that have what is reserved."""

    def __init__(self, world: World, replica: Replica, *, block: bool = False) -> None:
        self._world = world
        self._replica = replica
        self._block = block
        self._binds: set[str] = set()
        self._suspects: set[str] = set()
        self._patience = Patience()
        self._records: set[str] = set()
        self._homeless: set[str] = set()
        self._births: set[str] = set()
        """IPs that somebody may have come to retain, or does not any more."""
        self._not_retained: dict[str, tuple[Event, ...]] = {}
        """Why not, for those of which that was said."""
        self._ready: dict[tuple[str, str], Work] = {}
        self._under_way: set[tuple[str, str]] = set()
        """What is to be done, and for whom: a bind does not stand in for writing the record again."""
        self.caught_up = False
        """Has something been done, since the stores were compared, that the comparison had found missing?"""

    # ---- what happened ---------------------------------------------------------------------------------------------

    def look_at(self, touched: Touched, records: Iterable[str]) -> None:
        """Take note of changes in the database."""
        world = self._world
        self._suspects |= touched.excludes
        self._records.update(records)
        for switch in touched.came:
            self._records.update(world.segments[switch].kept)
        if touched.came:
            self._homeless |= world.homeless()
        self._births |= touched.names
        for name in touched.names:
            r = world.resource(name)
            if r is None:
                continue
            if r.home and r.home not in world.segments:
                self._homeless.add(name)
            if isinstance(r, Reservation):
                self._binds.add(name)
                segment = world.segments.get(r.switch)
                if segment is not None and r.v4 in segment.withheld:
                    self._suspects.add(r.switch)

    def told(self, names: Iterable[str]) -> None:
        """What is known of these has changed; of owners, what follows for their IPs."""
        for name in names:
            self._births |= self._world.coverage.of(name)
            self._births.add(name)  # also of what was released: a port of that name may have come before it was

    def freed(self, r: Resource) -> None:
        """It is gone: ports that have what it had could not be retained until now."""
        if isinstance(r, Reservation):
            self._births.update(port.name for port in squatters(self._world, r))

    def release_seen(self, releasing: Iterable[Resource]) -> None:
        """ovn-northd has seen the first transaction of these releases."""
        for r in releasing:
            self._add("finish", r.uid, partial(self._finish, r), name=r.name)

    def follow(self, verdicts: Verdicts) -> None:
        """Everything was compared: start anew with what that came to."""
        self._ready.clear()
        self._under_way.clear()
        self.caught_up = False
        self._records.clear()
        for name in verdicts.resume:
            if self._can_be_written(name):
                self._add("resume", name, partial(self._resume, name))
        for name in verdicts.release:
            self._add("release", name, partial(self._release_again, name))
        for name in verdicts.finish:
            self._add("await", name, partial(self._await, name))
        for r in verdicts.remove:
            self._add("remove", r.uid, partial(self._remove, r))
        self._homeless |= self._world.homeless()
        self._suspects |= self._world.segments.keys()
        self._binds |= self._world.reservations.keys()
        self._births |= self._world.port_names.keys() | self._world.reservations.keys()

    def publish_revision(self) -> None:
        """The database's vector does not say what has become of the comparison."""
        self._add("revision", "", lambda _context: Plan("published", None, (PublishRevision(),)), name=_REVISION)

    @property
    def unrepaired(self) -> set[str]:
        """The switches whose repair is put off because somebody undoes what we repair."""
        segments = self._world.segments
        return {switch for switch in self._suspects & segments.keys() if not is_written(segments[switch])}

    def hurry(self, switches: Iterable[str]) -> None:
        """Put off the repair of these no longer: somebody waits for it."""
        for switch in switches:
            self._patience.end(switch, time.monotonic())

    @property
    def is_catching_up(self) -> bool:
        """Is something on its way that a comparison has found missing?"""
        return any(what in _CATCHING_UP for what, _key in (*self._ready, *self._under_way))

    def look_after(self, names: Iterable[str], switches: Iterable[str]) -> None:
        """We have written these: somebody may have changed them since, in the same moment, and ports that wait for
        them may have come before.
        """
        names = list(names)
        self._records.update(names)
        self._suspects.update(switches)
        self._binds.update(name for name in names if name in self._world.reservations)

    def done(self, work: Work) -> None:
        """The work is over, or will be asked for anew."""
        self._under_way.discard(work.task)
        self.caught_up |= work.task[0] in _CATCHING_UP
        if not self._under_way:
            self._under_way.clear()  # it is gone through again and again, and may have been large: see `taken`

    # ---- what is to be done ----------------------------------------------------------------------------------------

    def take(self) -> Iterator[Work]:
        """The work that all of it comes to."""
        self._check_records()
        self._check_homes()
        self._check_ports()
        self._check_births()
        self._check_excludes()
        ready, self._ready = self._ready, {}
        self._under_way |= ready.keys()
        return iter(ready.values())

    @property
    def due(self) -> float:
        """When there is something to take (monotonic)."""
        if self._ready or self._binds or self._births or self._records or self._homeless:
            return 0.0
        return min((self._patience.until(switch) for switch in self._suspects), default=float("inf"))

    def _add(
        self, what: str, key: str, plan: Callable[[Context], Plan], *, name: str = "", repairs: str | None = None
    ) -> None:
        task = what, key
        if task not in self._ready and task not in self._under_way:
            self._ready[task] = Work(name or key, plan, repairs=repairs, task=task)

    def _can_be_written(self, name: str) -> bool:
        """What is held waits for its switch to be back."""
        r = self._world.resource(name)
        return r is None or r.state is not State.HELD or not r.home or r.home in self._world.segments

    def _check_records(self) -> None:
        for name in self._records:
            r = self._world.resource(name)
            if r is None or r.state not in (State.HELD, State.FAILED):
                continue
            record = self._replica.record(name, r.uid)
            if record is None or resource_of(record[1]) != r:
                self._add("resume", name, partial(self._resume, name))
        self._records.clear()

    def _check_homes(self) -> None:
        for name in self._homeless:
            r = self._held(name, State.HELD)
            if r is not None and new_home(self._world, r) is not None:
                self._add("rehome", name, partial(self._rehome, name))
        self._homeless.clear()

    def _check_ports(self) -> None:
        for name in paced(self._binds, self._world.beat):
            r = self._world.reservations.get(name)
            if r is None:
                continue
            if r.state is State.HELD and judge(self._world, r).addresses is not None:
                self._add("bind", name, partial(self._bind, name))
            if blocked_from_now(self._world, r, block=self._block) != r.blocked:
                self._add("squatters", name, partial(self._settle_squatters, name))
        self._binds.clear()

    def _check_births(self) -> None:
        world = self._world
        for name in taken(self._births, _BIRTHS_AT_ONCE):
            if wants_retaining(world, name):
                self._add("retain", name, partial(self._retain, name))
            else:
                self._not_retained.pop(name, None)
        for owner in world.coverage.take_emptied():
            r = world.owners.get(owner)
            if r is not None and r.state is State.RELEASING:
                self._add("finish", r.uid, partial(self._finish, r), name=owner)

    def _check_excludes(self) -> None:
        now = time.monotonic()
        suspects, self._suspects = self._suspects, set()
        for switch in suspects:
            segment = self._world.segments.get(switch)
            if segment is None or (is_written(segment) and not segment.withheld):
                continue
            if self._patience.may(switch, now):
                self._add("repair", switch, partial(self._repair, switch), repairs=switch)
            else:
                self._suspects.add(switch)

    # ---- the plans, made when the turn comes -----------------------------------------------------------------------

    def release(self, name: str, context: Context, shown: Born | None = None) -> Plan:
        """Delete a resource; `shown` if it is an IP that was born with a port. Raises NotFound, Conflict."""
        r = self._world.resource(name)
        if r is None:
            return plan_delete_port(self._world, name, context, shown)
        return plan_release(self._world, r, context)

    def _release_again(self, name: str, context: Context) -> Plan:
        r = self._held(name, State.RELEASING)
        return plan_release(self._world, r, context, again=True) if r is not None else _NOTHING

    def _await(self, name: str, _context: Context) -> Plan:
        """Whether ovn-northd has seen the first transaction is not known: ask it."""
        r = self._held(name, State.RELEASING)
        return plan_await(r) if r is not None else _NOTHING

    def _held(self, name: str, *states: State) -> Resource | None:
        r = self._world.resource(name)
        return r if r is not None and r.state in states else None

    def _finish(self, releasing: Resource, _context: Context) -> Plan:
        r = self._held(releasing.name, State.RELEASING)
        return plan_finish(self._world, r) if r is not None and r.uid == releasing.uid else _NOTHING

    def _remove(self, r: Resource, _context: Context) -> Plan:
        return plan_drop(self._world, r)

    def _resume(self, name: str, context: Context) -> Plan:
        r = self._held(name, State.INTENDED, State.HELD, State.FAILED)
        if r is None:
            return _NOTHING
        self._binds.add(name)  # afterwards, what is noted of squatters may be another thing
        record = self._replica.record(name, r.uid)
        was = {} if record is None else {"was": "what it had there was another"}
        return plan_resume(self._world, r, context, **was)

    def _rehome(self, name: str, context: Context) -> Plan:
        r = self._held(name, State.HELD)
        return plan_rehome(self._world, r, context) if r is not None else _NOTHING

    def _bind(self, name: str, _context: Context) -> Plan:
        r = self._held(name, State.HELD)
        return plan_bind(self._world, r) if isinstance(r, Reservation) else _NOTHING

    def _retain(self, name: str, context: Context) -> Plan:
        plan = plan_retain(self._world, name, context)
        if plan.result != "unchanged":
            self._not_retained.pop(name, None)
        elif self._not_retained.get(name) == plan.events:
            return _NOTHING
        elif plan.events:
            self._not_retained[name] = plan.events
        return plan

    def _settle_squatters(self, name: str, context: Context) -> Plan:
        """What is noted of ports stands in the record; where that is lost it is written again first."""
        r = self._held(name, State.HELD, State.FAILED)
        if not isinstance(r, Reservation) or (r.blocked and self._replica.record(name, r.uid) is None):
            return _NOTHING
        for uuid in r.blocked:  # what it had noted kept others whom the port squats on from looking at that themselves
            port = self._world.ports.get(uuid)
            if port is not None:
                self._binds.update(self._world.rivals(port))
        return plan_squatters(self._world, r, context, block=self._block)

    def _repair(self, switch: str, context: Context) -> Plan:
        segment = self._world.segments.get(switch)
        return plan_repair(self._world, self._world.settled(segment), context) if segment is not None else _NOTHING
