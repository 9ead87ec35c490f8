"""On which line of a TOML text each key stands; tomllib keeps no line numbers."""

from __future__ import annotations

import re
import tomllib

_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_STRINGS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (r'"""(?:\\.|[^\\])*?"""(?:"{0,2})', r"'''.*?'''(?:'{0,2})", r'"(?:\\.|[^"\\])*"', r"'[^']*'")
)


def lines(text: str) -> dict[str, int]:
    """{dotted path: line} of every key, header and list element of a text that tomllib accepts.

    Elements are counted from 0: `claim[1].better`, `matrix.prediction[0]`. A path that stands in several places (a
    table with two sub-headers, say) has the first one.
    """
    return _Scanner(text).scan()


def join(path: str, key: str) -> str:
    """The path of a key below a path."""
    return f"{path}.{key}" if path else key


class _Scanner:
    """One walk over the text, which is known to be valid: nothing is checked."""

    def __init__(self, text: str):
        self.text = text
        self.at = 0
        self.found: dict[str, int] = {}
        self.elements: dict[str, int] = {}  # path of an array of tables: how many of its [[headers]] were seen

    def scan(self) -> dict[str, int]:
        """The whole text: headers and the keys below them."""
        table = ""
        self.space()
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self.header(2, element=True)
            elif self.text[self.at] == "[":
                table = self.header(1, element=False)
            else:
                self.pair(table)
            self.space()
        return self.found

    def space(self) -> None:
        """Skip white space, newlines and comments."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def record(self, path: str, at: int) -> None:
        """The path stands where `at` is."""
        self.found.setdefault(path, self.text.count("\n", 0, at) + 1)

    def key(self) -> list[str]:
        """A dotted key; `at` is left at what follows it."""
        parts = []
        while True:
            self.space()
            quoted = self.string()
            if quoted is None:
                bare = _BARE_KEY.match(self.text, self.at)
                assert bare is not None
                self.at = bare.end()
                parts.append(bare.group())
            else:
                parts.append(tomllib.loads(f"x = {quoted}")["x"])
            self.space()
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def header(self, brackets: int, element: bool) -> str:
        """[a.b] or [[a.b]]: the path of the table that it opens."""
        start = self.at
        self.at += brackets
        parts = self.key()
        self.at += brackets
        path = ""
        for index, part in enumerate(parts):
            path = join(path, part)
            self.record(path, start)
            last = index == len(parts) - 1
            if last and element:
                self.elements[path] = self.elements.get(path, 0) + 1
            if path in self.elements:
                path = f"{path}[{self.elements[path] - 1}]"
                self.record(path, start)
        return path

    def pair(self, table: str) -> None:
        """key = value."""
        start = self.at
        path = table
        for part in self.key():
            path = join(path, part)
            self.record(path, start)
        self.at += 1
        self.space()
        self.value(path)

    def value(self, path: str) -> None:
        """A value; what is inside it is recorded below its path."""
        if self.text[self.at] == "[":
            self.sequence("]", path, element=True)
        elif self.text[self.at] == "{":
            self.sequence("}", path, element=False)
        elif self.string() is None:
            scalar = _SCALAR.match(self.text, self.at)
            assert scalar is not None
            self.at = scalar.end()

    def sequence(self, end: str, path: str, element: bool) -> None:
        """The inside of [ ] or { }."""
        self.at += 1
        count = 0
        while True:
            self.space()
            if self.text[self.at] == ",":
                self.at += 1
            elif self.text[self.at] == end:
                self.at += 1
                return
            elif element:
                self.record(f"{path}[{count}]", self.at)
                self.value(f"{path}[{count}]")
                count += 1
            else:
                self.pair(path)

    def string(self) -> str | None:
        """The string that starts here, with its quotes, or None."""
        for pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
                return match.group()
        return None
