"""HTML that is escaped as it is built: elements, tables, lists of definitions, choices."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Html(str):
    """Markup. A string that is not of this class is text, and is escaped where it enters a page."""

    __slots__ = ()


def escaped(content: str) -> Html:
    """Markup as it is, text without what would be markup in it."""
    return content if isinstance(content, Html) else Html(html.escape(content))


def element(tag: str, *content: str, **attributes: str | float | bool | None) -> Html:
    """An element; of an attribute's name a last _ is dropped, others are -; True is one without a value."""
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.removesuffix("_").replace("_", "-")
        words.append(name if value is True else f'{name}="{html.escape(str(value))}"')
    return Html(f"<{' '.join(words)}>{''.join(map(escaped, content))}</{tag}>")


def joined(parts: Iterable[str]) -> Html:
    """One part on each line."""
    return Html("\n".join(map(escaped, parts)))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose first column says what a row is; on a narrow page it can be moved sideways."""
    body = (
        element(
            "tr",
            element("th", element("span", first), scope="row"),
            *(element("td", cell) for cell in rest),
        )
        for first, *rest in rows
    )
    whole = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *(element("th", cell, scope="col") for cell in head))),
        element("tbody", *body),
    )
    return element("div", whole, class_="wide", tabindex=0, role="group", aria_label=caption)


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """A list of what is defined, and as what."""
    return element("dl", *(joined([element("dt", what), element("dd", value)]) for what, value in pairs))


def choices(name: str, options: Iterable[tuple[str, str]]) -> Html:
    """A choice of one: value and text of each."""
    return element("select", *(element("option", text, value=value) for value, text in options), id=name)
