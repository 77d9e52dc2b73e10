"""docs/reliability.md: every test and every fault that it names exists, and every fault is named."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from benchmarks.faults import FAULTS

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/reliability.md").read_text()
TABLES = re.findall(r"^\| fault \|.*\n\|[-| ]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
ROWS = [row for table in TABLES for row in table.splitlines()]
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def functions(file: str) -> set[str]:
    """Of a module, without importing it."""
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists():
    named = TEST.findall(PAGE)
    assert len(named) > 50
    assert [f"{file}::{name}" for file, name in named if name not in functions(file)] == []


def test_every_row_names_a_test():
    assert len(ROWS) > 30
    assert [row for row in ROWS if not TEST.search(row)] == []


def test_every_fault_of_the_soak_is_in_a_row():
    live = [name for row in ROWS if "*live*" in row for name in re.findall(r'"([^"]+)"', row)]
    assert sorted(live) == sorted(FAULTS)
