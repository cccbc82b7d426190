"""The house stands as drawn: every import is held against the table of rooms in docs/architecture.md."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
HEAVY = {"asyncio", "msgspec", "netaddr", "ovs", "ovsdbapp", "structlog"}

# Outside of northbound/, only what speaks no OVSDB: the protocol of ovn-appctl, and the log levels it sets.
OVS_ELSEWHERE = {
    "ovnreserve/api/appctl.py": {"dirs", "poller", "unixctl", "util", "version", "vlog"},
    "ovnreserve/log.py": {"vlog"},
}


class Import(NamedTuple):
    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"

    @property
    def room(self) -> str:
        """The room the import stands in."""
        return Path(self.file).parts[1].removesuffix(".py")

    @property
    def package(self) -> str:
        return self.module.split(".")[0]

    @property
    def part(self) -> str:
        """What of the package: its first module, or empty for the package itself."""
        return "".join(self.module.split(".")[1:2])


def imports_of(file: Path) -> list[Import]:
    """Every import of a file, wherever it stands; `from a import b` imports `a.b`."""
    name = str(file.relative_to(ROOT))
    package = ".".join(file.relative_to(ROOT).parent.parts)
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [Import(name, node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found += [Import(name, node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def rooms_of_the_table() -> dict[str, set[str]]:
    """Each room of docs/architecture.md and the rooms it may import from."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `ovnreserve/(\w+)(?:/|\.py)` \|.*\| (.*?) \|$", text, re.MULTILINE)
    names = [name for name, _ in rows]
    meaning = {"nothing of ours": set[str](), "all": set(names)}
    rooms = {}
    for at, (name, allowed) in enumerate(rows):
        above = set(names[:at]) if allowed == "all above" else set()
        rooms[name] = meaning.get(allowed, above or set(re.findall(r"\w+", allowed)) & set(names))
    return rooms


FILES = sorted((ROOT / "ovnreserve").rglob("*.py"))
ALL = [found for file in FILES for found in imports_of(file)]
ROOMS = rooms_of_the_table()


def offenders(condition: Callable[[Import], bool]) -> list[str]:
    return [str(found) for found in ALL if condition(found)]


def test_the_table_is_read():
    assert ROOMS["plan"] == {"model"}
    assert ROOMS["model"] == set()
    assert ROOMS["daemon"] >= {"api", "northbound", "sandbox"}


def test_every_module_is_in_a_room_of_the_table():
    rooms = {file.relative_to(ROOT / "ovnreserve").parts[0].removesuffix(".py") for file in FILES}
    assert rooms - {"__init__"} - set(ROOMS) == set()


def test_a_room_imports_only_from_the_rooms_it_may():
    def trespasses(found: Import) -> bool:
        allowed = ROOMS.get(found.room, set()) | {found.room, "", "__version__"}
        return found.package == "ovnreserve" and found.part not in allowed

    assert offenders(trespasses) == []


def test_only_the_northbound_room_imports_ovs_and_ovsdbapp():
    def speaks_ovsdb(found: Import) -> bool:
        allowed = found.package == "ovs" and found.part in OVS_ELSEWHERE.get(found.file, set())
        return found.package in {"ovs", "ovsdbapp"} and not allowed

    assert [text for text in offenders(speaks_ovsdb) if not text.startswith("ovnreserve/northbound/")] == []


def test_only_the_ledger_imports_sqlite3():
    assert offenders(lambda found: found.package == "sqlite3" and found.room != "ledger") == []


def test_what_is_pure_and_what_starts_fast_does_not_log():
    quiet = {"cli", "model", "plan", "sandbox"}
    assert offenders(lambda found: found.package == "structlog" and found.room in quiet) == []


def test_the_sandbox_needs_the_standard_library_only():
    standard = sys.stdlib_module_names
    assert offenders(lambda found: found.room == "sandbox" and found.package not in standard) == []


@pytest.mark.parametrize("module", ["ovnreserve.cli.main", "ovnreserve.sandbox"])
def test_what_starts_fast_imports_nothing_heavy_even_indirectly(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in done.stdout.split()} & HEAVY == set()
