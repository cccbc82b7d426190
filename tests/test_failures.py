"""docs/failures.md: each row names the tests that show it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = [
    line
    for line in (ROOT / "docs" / "failures.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| what happened |")
]
NAMED = re.compile(r"`((?:tests|functional)/\w+\.py)::(\w+)`")


def defined_in(file: str) -> set[str]:
    path = ROOT / file
    found = ast.walk(ast.parse(path.read_text())) if path.exists() else ()
    return {node.name for node in found if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_a_row_of_the_fault_matrix_names_tests_that_exist(row: str) -> None:
    cells = row.strip("|").split(" | ")
    assert len(cells) == 3
    named = NAMED.findall(cells[2])
    assert named
    assert re.sub(r"[,\s]", "", NAMED.sub("", cells[2])) == ""
    assert [f"{file}::{name}" for file, name in named if name not in defined_in(file)] == []


def test_the_matrix_is_there() -> None:
    assert len(ROWS) > 40
