"""What the daemon is: the states, when the stores are compared, and what the comparison comes to.

    disconnected --connected--> syncing --stores compared--> active    (holds the lock, writes)
         ^                         │                   └──> standby   (another daemon holds it)
         │                         └──> foreign   (it seems to be another cloud's database)
         └──────────── connection lost ──────────────────────┘

They are compared as a whole on each full dump of the database, on winning the lock, on a timer, when an outcome was
unknown, and when somebody else has written the ledger row; a standby compares what changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

import structlog

from ovnreserve.engine.commits import Commits
from ovnreserve.engine.compare import compare_stores, standing_of
from ovnreserve.engine.published import Published
from ovnreserve.engine.publisher import Publisher
from ovnreserve.engine.settlement import Settlement
from ovnreserve.engine.tasks import Tasks
from ovnreserve.ledger.ledger import Ledger
from ovnreserve.northbound.connection import Northbound
from ovnreserve.plan import revision
from ovnreserve.plan.reconcile import Verdicts, is_foreign
from ovnreserve.plan.world import World

_log = structlog.get_logger(__name__)

COMPARE_EVERY: Final = 600.0
"""Seconds after which the stores are compared as a whole though nothing seems to have happened."""
_FOREIGN: Final = (
    "{} has none of the logical switches of the {} IPs in the ledger, and no ovnreserved that the ledger knows has "
    "ever worked there: it seems to be another cloud's database; if it is not, start once with --adopt-database"
)


class States:
    """`compare_at` is when the stores are compared though nothing happens (monotonic)."""

    def __init__(
        self,
        world: World,
        ledger: Ledger,
        northbound: Northbound,
        *,
        tasks: Tasks,
        settlement: Settlement,
        commits: Commits,
        publisher: Publisher,
        published: Published,
        quarantine: float,
        adopt_database: bool,
        on_state: Callable[[str], None],
    ) -> None:
        self.compare_at = float("inf")
        self.has_compared = False
        """Is the world known, as it is now or was when the database was last seen?"""
        self._world = world
        self._ledger = ledger
        self._northbound = northbound
        self._tasks = tasks
        self._settlement = settlement
        self._commits = commits
        self._publisher = publisher
        self._published = published
        self._quarantine = quarantine
        self._adopt_database = adopt_database
        self._on_state = on_state
        self._compared = 0
        self._intents: set[str] = set()
        """Names for which the ledger has what the database was not seen to have, since the stores were compared."""
        self._agreed: str | None = None
        """The text of the ledger row that ledger and database have agreed on."""

    def follow(self) -> None:
        """What is it now? Compare the stores where that is due."""
        northbound = self._northbound
        if not northbound.complete:
            self._set_state("disconnected")
            return
        if self._commits.batch is not None:
            return  # its outcome comes first
        if self._published.state == "foreign" and self._compared == northbound.dumps:
            return
        won = northbound.has_lock and self._published.state == "standby"
        timer = time.monotonic() >= self.compare_at
        news = self._compared != northbound.dumps
        unfinished = not self._ledger.is_complete and self._tasks.caught_up and not self._tasks.is_catching_up
        if news or won or timer or unfinished or self._commits.must_compare or self._somebody_worked():
            if (news or won) and self._published.state != "foreign":
                self._set_state("syncing")
            if news and self._is_foreign():
                return
            dumps = northbound.dumps
            if not self._settlement.write() or not self._compare():
                self._set_state("syncing")  # and nothing is decided
                return
            self._compared = dumps
            self.has_compared = True
            self._commits.must_compare = False
            self.compare_at = time.monotonic() + COMPARE_EVERY
            self._publisher.publish()  # who is told that it is active finds everything
        self._set_state("active" if northbound.has_lock else "standby")

    def _is_foreign(self) -> bool:
        """Is it another cloud's database, to which nothing may be written? Then leave the lock to those whose it is."""
        northbound = self._northbound
        kept, switches = list(self._world.resources()), northbound.replica.tables["Logical_Switch"]
        standing = standing_of(self._ledger, northbound.replica)
        foreign = not self._adopt_database and is_foreign(kept, switches, standing)
        northbound.contend(not foreign)
        if foreign:
            self._compared = northbound.dumps
            self._set_state("foreign", _FOREIGN.format(northbound.remote, len(self._world.reservations)))
        return foreign

    def _somebody_worked(self) -> bool:
        """As the active daemon: has the ledger row been written by somebody else? A transaction that was given up may
        be committed after all.
        """
        text = self._northbound.replica.revision
        if text == self._agreed or self._published.state != "active":
            return False
        if revision.decode(text) != self._ledger.published:
            return True
        self._agreed = text
        return False

    def _compare(self) -> bool:
        replica = self._northbound.replica
        self._agreed = replica.revision
        compared = compare_stores(self._ledger, self._northbound.replica, self._world, self._quarantine)
        if compared is None:
            return False
        verdicts, names = compared
        self._note_intents(verdicts)
        self._tasks.follow(verdicts)
        if self._ledger.is_complete and self._ledger.published != self._ledger.vector:
            self._tasks.publish_revision()
        self._publisher.changed(names | self._world.homeless())
        self._publisher.subnets_changed(self._world.quarantines)
        self._publisher.compared()
        self._settlement.soon()
        self._published.revision = dict(self._ledger.vector)
        return True

    @property
    def problem(self) -> str:
        """Why the database is not seen, or not worked with; "" where nothing is known of that."""
        return self._published.problem or self._northbound.last_error

    def look_at(self, tables: Collection[str], records: set[str]) -> None:
        """Rows of these tables have changed, and the records of these names."""
        if self._published.state == "standby" and "DNS" in tables:
            self._follow(records)
        if self._published.state == "foreign" and ("Logical_Switch" in tables or "DNS" in tables):
            self._compared = 0  # look again

    def _follow(self, names: set[str]) -> None:
        """As standby: take what the active daemon did to the records of that name. Once it has worked, what we had not
        committed ourselves is given up, whatever it is for: afterwards nothing would tell that somebody had.
        """
        names = names | self._intents
        compared = compare_stores(self._ledger, self._northbound.replica, self._world, self._quarantine, names)
        if compared is None:
            self._commits.must_compare = True
            return
        self._note_intents(compared[0])
        self._settlement.soon()
        self._publisher.changed(compared[1])
        self._published.revision = dict(self._ledger.vector)

    def _note_intents(self, verdicts: Verdicts) -> None:
        """Of what is left to do, what the database was never seen to have."""
        vector = self._ledger.vector
        self._intents = {
            name
            for name in (*verdicts.resume, *verdicts.release)
            if (r := self._world.resource(name)) is not None and not revision.covers(vector, r.written)
        }

    def _set_state(self, state: str, problem: str = "") -> None:
        published = self._published
        published.problem = problem or self._northbound.last_error
        if state == published.state:
            return
        if problem:
            _log.error("state_changed", state=state, before=published.state, problem=problem)
        else:
            _log.info("state_changed", state=state, before=published.state)
        published.state = state
        published.since = time.time()
        published.schema = self._northbound.schema_version
        self._on_state(state)
