"""The limit: what it costs to write one address durably into a ledger and into exclude_ips, and nothing else.

SQLite as our ledger has it (WAL, synchronous=FULL) with one row of a name and an address, and a bare JSON-RPC
transaction with a durable commit. No decision, no record of the owner, no HTTP; the addresses are consecutive and
written as one range.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from bench.harness import Clock, Sample, expect, percentile
from bench.rpc import DURABLE, set_exclude_ips
from bench.site import SWITCH, TOP, Theirs, addresses_in, dotted, from_top

_AHEAD = 16
"""How many batches may wait for their reply."""


def _ledger(theirs: Theirs) -> sqlite3.Connection:
    path = theirs.servers.run_dir / "limit.db"
    for stale in (path, path.with_name("limit.db-wal"), path.with_name("limit.db-shm")):
        stale.unlink(missing_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE reservation (name TEXT PRIMARY KEY, v4 INTEGER UNIQUE) WITHOUT ROWID")
    db.execute("INSERT INTO reservation VALUES ('', 0)")
    return db


def _text(base: str, count: int) -> str:
    ours = f"{dotted(TOP - count + 1)}..{dotted(TOP)}"
    return f"{base} {ours}" if base else ours


def batches(theirs: Theirs, count: int, size: int) -> Sample:
    """`rate` a second of `count` reservations in batches of `size`, transactions pipelined."""
    with closing(_ledger(theirs)) as db:
        waiting = 0
        with Clock() as clock:
            for at in range(0, count, size):
                upto = min(at + size, count)
                rows = [(f"pod-{i}.bench", TOP - i) for i in range(at, upto)]
                db.execute("BEGIN IMMEDIATE")
                db.executemany("INSERT INTO reservation VALUES (?, ?)", rows)
                db.execute("COMMIT")
                theirs.rpc.send(set_exclude_ips(SWITCH, _text(theirs.base, upto)), DURABLE)
                waiting += 1
                if waiting == _AHEAD:
                    theirs.rpc.receive()
                    waiting -= 1
            for _ in range(waiting):
                theirs.rpc.receive()
        written = db.execute("SELECT count(*) FROM reservation WHERE v4").fetchone()[0]
    _check(theirs, count, written)
    return {"rate": count / clock.seconds}


def one_by_one(theirs: Theirs, count: int) -> Sample:
    """In ms: `ledger` and `database` (medians), and `p50` and `p99` of both one after the other."""
    ledger, database, both = [], [], []
    with closing(_ledger(theirs)) as db:
        for i in range(count):
            operation = set_exclude_ips(SWITCH, _text(theirs.base, i + 1))
            begun = time.perf_counter()
            db.execute("INSERT INTO reservation VALUES (?, ?)", (f"pod-{i}.bench", TOP - i))
            between = time.perf_counter()
            theirs.rpc.transact(operation, DURABLE)
            end = time.perf_counter()
            ledger.append((between - begun) * 1000)
            database.append((end - between) * 1000)
            both.append((end - begun) * 1000)
        written = db.execute("SELECT count(*) FROM reservation WHERE v4").fetchone()[0]
    _check(theirs, count, written)
    return {
        "p50": percentile(both, 50), "p99": percentile(both, 99),
        "ledger": percentile(ledger, 50), "database": percentile(database, 50),
    }  # fmt: skip


def _check(theirs: Theirs, count: int, written: int) -> None:
    expect(written == count, "the limit's ledger is not complete")
    expect(addresses_in(" ".join(theirs.appended())) == set(from_top(count)), "the limit's addresses are not there")
    theirs.reset()
