"""Tables in the pages of the documentation, written by the benchmarks."""

from __future__ import annotations

import re
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


def fill_card(parts: Mapping[str, str]) -> None:
    """The parts of docs/model_card.md, and the card that comes with the package."""
    root = Path(__file__).parents[1]
    card = root / "docs/model_card.md"
    fill(card, parts)
    (root / "trajpred/models/default.md").write_text(shipped(card.read_text()))


def shipped(page: str) -> str:
    """A page as it comes with the package: links to other pages of the documentation are left out."""
    return re.sub(r"!?\[([^]]*)\]\((?!http)[^)]*\)", r"\1", page)
