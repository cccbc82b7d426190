"""`python -m fuzz TARGET CORPUS [OPTION OF LIBFUZZER...]`: one target, until its time is over or something is found.

CORPUS is a directory, which is made and learns what covers new code, or one file, which is tried once.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris

_, name, corpus, *options = sys.argv
with atheris.instrument_imports(include=["ovnreserve"]):
    target = importlib.import_module(f"fuzz.{name}")

place = Path(corpus)
if not place.is_file():
    place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.SEEDS):
        (place / f"seed-{number:03}").write_bytes(seed)
atheris.Setup([f"fuzz {name}", corpus, *options], target.check)
atheris.Fuzz()
