"""Memory and files over the time, and whether they are flat.

Memory is judged in the calm part of the soak, in which nobody ends a daemon, so that both processes are the same from
its beginning to its end, while tenants, foreigners and all other faults go on. Its samples are cut in three: the
median of the last third may exceed that of the second by `TOLERANCE` and no more. The first third is warming up: the
interpreter's heap grows to what the live set needs, which the tenants keep bounded.

The files that grow are logs: the northbound database's until ovsdb-server compacts it, and the ledger's journal,
which keeps everything that ever happened. So the first is compared compacted, and the second without the journal.
"""

from __future__ import annotations

import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from bench.soak.ground import Ground, ledger_of, name_of
from ovnreserve.sandbox import find_program

TOLERANCE: Final = 0.03
_EVERY: Final = 0.5
_KIB: Final = 1024


def rss(pid: int) -> int:
    """Resident memory of a process in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


class Memory:
    """Samples of the daemons' memory from now on until `stop`: they must not be ended meanwhile."""

    def __init__(self, ground: Ground) -> None:
        self.samples: dict[str, list[int]] = {name_of(daemon): [] for daemon in ground.daemons}
        self._pids = {name_of(daemon): daemon.pid for daemon in ground.daemons}
        self._ending = threading.Event()
        self._thread = threading.Thread(name="memory", target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._ending.wait(_EVERY):
            for name, pid in self._pids.items():
                self.samples[name].append(rss(pid))

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


class Growth(NamedTuple):
    """Medians of a daemon's memory in the three thirds of the calm part, in KiB, and its highest."""

    thirds: tuple[float, ...]
    highest: int

    @property
    def flat(self) -> bool:
        return self.thirds[2] <= self.thirds[1] * (1 + TOLERANCE)

    def __str__(self) -> str:
        told = ", ".join(f"{third / _KIB:.1f}" for third in self.thirds)
        return f"{told} MiB by thirds, highest {self.highest / _KIB:.1f}: {'flat' if self.flat else 'GROWS'}"


def growth(samples: list[int]) -> Growth | None:
    """None where there are too few to tell."""
    third = len(samples) // 3
    if third < 2:
        return None
    thirds = (samples[:third], samples[third : 2 * third], samples[2 * third :])
    return Growth(tuple(statistics.median(part) for part in thirds), max(samples))


class Files(NamedTuple):
    """Bytes: of the northbound database, as it is and compacted; of each ledger with its log, and without journal."""

    nb: int
    nb_compacted: int
    ledgers: dict[str, tuple[int, int, int, int]]
    """ledger.db, ledger.db-wal, lines of the journal, ledger.db without the journal."""

    def __str__(self) -> str:
        told = [f"NB {_kib(self.nb)}, compacted {_kib(self.nb_compacted)}"]
        for name, (db, wal, lines, bare) in self.ledgers.items():
            told.append(f"ledger of {name} {_kib(db)} + wal {_kib(wal)}, {lines:,} journal lines, without {_kib(bare)}")
        return "; ".join(told)


def _kib(size: int) -> str:
    return f"{size / _KIB:,.0f} KiB"


def files(ground: Ground) -> Files:
    """As they are now. What is compacted is a copy."""
    nb = ground.servers.run_dir / "ovnnb_db.db"
    size = nb.stat().st_size
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "nb.db")
        shutil.copy(nb, copy)
        subprocess.run([find_program("ovsdb-tool"), "compact", str(copy)], check=True, capture_output=True)
        compacted = copy.stat().st_size
        ledgers = {name_of(d): _ledger(ledger_of(d), Path(directory, name_of(d))) for d in ground.daemons}
    return Files(size, compacted, ledgers)


def _ledger(path: Path, copy: Path) -> tuple[int, int, int, int]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db, closing(sqlite3.connect(copy)) as bare:
        db.backup(bare)
        [lines] = bare.execute("SELECT count(*) FROM journal").fetchone()
        bare.execute("DELETE FROM journal")
        bare.commit()
        bare.execute("VACUUM")
    return path.stat().st_size, path.with_name(f"{path.name}-wal").stat().st_size, lines, copy.stat().st_size
