"""Threads that work until the gate is closed, step by step, and stand still while it is."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Sequence

from bench.harness import BenchError, expect

_STANDS_WITHIN = 90.0
"""Seconds in which every step ends: what it asks has its own, shorter deadlines."""


class Gate:
    def __init__(self) -> None:
        self._open = threading.Event()
        self.ended = False

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def open(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def end(self) -> None:
        """Have every worker return."""
        self.ended = True
        self._open.set()

    def wait(self) -> None:
        self._open.wait()


class Worker:
    """`step` again and again, with a moment between; `dice` are its own, so that the seed decides its choices."""

    def __init__(self, name: str, gate: Gate, seed: int, pace: float) -> None:
        """`pace`: seconds between two steps, on average."""
        self.name = name
        self.dice = random.Random(f"{seed} {name}")
        self._gate = gate
        self._pace = pace
        self._standing = threading.Event()
        self._moment = threading.Event()
        self._error = ""
        self._thread = threading.Thread(name=name, target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def step(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        try:
            while not self._gate.ended:
                if not self._gate.is_open:
                    self._standing.set()
                    self._gate.wait()
                    self._standing.clear()
                else:
                    self.step()
                    self._moment.wait(self.dice.uniform(0, 2 * self._pace))
        except Exception:  # noqa: BLE001 - it is told to the main thread, which ends the soak
            self._error = traceback.format_exc()
        self._standing.set()

    def stand(self) -> None:
        """Return once it stands still behind the closed gate. BenchError if it has failed."""
        expect(self._standing.wait(_STANDS_WITHIN), f"{self.name} is still at its step after {_STANDS_WITHIN:g} s")
        if self._error:
            raise BenchError(f"{self.name}: {self._error}")


def stand_still(gate: Gate, workers: Sequence[Worker]) -> None:
    gate.close()
    for worker in workers:
        worker.stand()
