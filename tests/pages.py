"""A page of the report, taken apart."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """Every element with its attributes and its own text; fails when tags are not balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.ends: dict[int, int] = {}
        self.feed(text)
        self.close()
        assert not self.open, [self.elements[index][0] for index in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.elements[self.open[-1]][0] == tag, (tag, self.elements[self.open[-1]])
        self.ends[self.open.pop()] = len(self.elements)

    def handle_data(self, text):
        for index in self.open:
            self.elements[index][2].append(text)

    def values_of_cells(self) -> list[tuple[str, str, str]]:
        """(cell, metric, value) of the table with every value, as they are written; "null" for a value that is none."""
        start, end = self.within("values")
        table = self.elements[start:end]
        metrics = [found["data-metric"] for tag, found, _ in table if tag == "th" and "data-metric" in found]
        rows = [index for index, (tag, found, _) in enumerate(table) if tag == "tr" and "data-cell" in found]
        values = []
        for row, following in zip(rows, [*rows[1:], len(table)], strict=True):
            fields = [found for tag, found, _ in table[row:following] if tag == "td"]
            for metric, field in zip(metrics, fields, strict=True):
                if field:
                    values.append((table[row][1]["data-cell"], metric, field.get("data-value", "null")))
        return values

    def within(self, name: str) -> tuple[int, int]:
        """The elements (first, after the last) of the one with this id."""
        return next((index, end) for index, (_, found, _) in enumerate(self.elements)
                    if found.get("id") == name for end in [self.ends[index]])  # fmt: skip

    def having(self, *names: str) -> list[tuple[dict[str, str], str]]:
        """(attributes, text) of the elements that have all these attributes."""
        return [(found, "".join(text)) for _, found, text in self.elements if all(name in found for name in names)]
