"""HTML as a tree: whatever text a name or an address holds, the serializer escapes it."""

from __future__ import annotations

from typing import TypeAlias
from xml.etree.ElementTree import Element, SubElement, tostring

Child: TypeAlias = "Element | str"


def node(tag: str, *children: Child, **attributes: object) -> Element:
    """An element. `class_` is written as class and `aria_label` as aria-label; None leaves one out."""
    made = Element(
        tag, {_name(name): _text(value) for name, value in attributes.items() if value is not None}
    )
    add(made, *children)
    return made


def add(parent: Element, *children: Child) -> None:
    """Put `children` behind those that `parent` has."""
    for child in children:
        if not isinstance(child, str):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + child
        else:
            parent.text = (parent.text or "") + child


def text_of(tree: Element) -> str:
    """The document around `tree`, an html element."""
    return f"<!doctype html>\n{tostring(tree, encoding='unicode', method='html')}\n"


def table(heading: list[str], rows: list[list[str]], caption: str, numbers_from: int = 1) -> Element:
    """A table; columns from `numbers_from` on are aligned right. It scrolls where it is too wide."""

    def cells(tag: str, texts: list[str]) -> Element:
        row = node("tr")
        for column, text in enumerate(texts):
            kind = "number" if column >= numbers_from else None
            first = tag == "td" and column == 0
            scope = "row" if first else "col" if tag == "th" else None
            SubElement(row, "th" if first else tag, _given(scope=scope, class_=kind)).text = text
        return row

    body = node("tbody", *(cells("td", row) for row in rows))
    made = node("table", node("caption", caption), node("thead", cells("th", heading)), body)
    return node("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _given(**attributes: str | None) -> dict[str, str]:
    return {_name(name): value for name, value in attributes.items() if value is not None}


def _name(keyword: str) -> str:
    return keyword.rstrip("_").replace("_", "-")


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
