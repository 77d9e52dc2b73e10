"""Tables in the pages of the documentation, written by the benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def fill(page: Path, parts: Mapping[str, str]) -> None:
    """Put each part between its `<!-- NAME -->` and the next `<!-- end -->`, where the page has these."""
    text = page.read_text()
    for name, part in parts.items():
        begin = f"<!-- {name} -->"
        if begin in text:
            before, behind = text.split(begin)
            text = f"{before}{begin}\n{part}\n<!-- end -->" + behind.split("<!-- end -->", 1)[1]
    page.write_text(text)
