"""`python -m fuzz TARGET CORPUS [OPTION OF LIBFUZZER...]`: one target, until its time is over or something is found."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris

_, name, corpus, *options = sys.argv
with atheris.instrument_imports(include=["ovnreserve"]):
    target = importlib.import_module(f"fuzz.{name}")

directory = Path(corpus)
directory.mkdir(parents=True, exist_ok=True)
for number, seed in enumerate(target.SEEDS):
    (directory / f"seed-{number:03}").write_bytes(seed)
atheris.Setup([f"fuzz {name}", corpus, *options], target.check)
atheris.Fuzz()
