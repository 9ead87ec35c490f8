"""Figures as small SVG: what Matplotlib writes, without what nothing refers to and with short paths."""

from __future__ import annotations

import re
from collections.abc import Iterator

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
GLYPH = re.compile(r"DejaVuSans(?:-([A-Z][A-Za-z]*))?-([0-9a-f]+)")
DECIMALS = 1
"""Of a coordinate in points: half a unit is 0.02 mm on paper."""


def compact(text: str) -> str:
    """SVG without prologue, metadata, comments, ids that nothing refers to and the rule for `*`, which would reach the
    page that the figure is placed in. Coordinates to a tenth of a point, paths with relative commands."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = text.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
    text = re.sub(r'\bd="([^"]*)"', lambda found: f'd="{path(found[1])}"', text)
    text = re.sub(r'<use [^>]*?transform="translate\([^()]*\)"/>', _placed, text)
    text = re.sub(r'\b(?:x|y|width|height|transform)="[^"]*"', _rounded, text)
    text = re.sub(r'style="[^"]*"', lambda found: re.sub(r"([:;]) ", r"\1", found[0]), text)
    used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', text))
    names = {name for pair in used for name in pair if name}
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in names else "", text)
    return _without_bare_groups(re.sub(r">\s+<", "><", text)).replace("><", ">\n<")


def inline(text: str, name: str, label: str, defined: set[str]) -> str:
    """The SVG for a page: ids begin with the figure's name, no namespace declarations, labelled as an image.

    label: escaped alternative text. defined: the characters that the page has drawn; those of this figure are added to
    it, since a page draws each once and refers to it from then on.
    """
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    names: dict[str, str] = {}
    glyphs: set[str] = set()
    for old in re.findall(r'\bid="([^"]*)"', text):
        glyph = GLYPH.fullmatch(old)
        names[old] = glyph_id(glyph) if glyph else f"{name}-{len(names) - len(glyphs)}"
        glyphs |= {names[old]} if glyph else set()
    text = re.sub(r'(\bid="|href="#|url\(#)([^")]*)', lambda found: found[1] + names[found[2]], text)
    for known in glyphs & defined:
        text = re.sub(rf'<path id="{known}"[^>]*/>\n?', "", text)
    defined |= glyphs
    text = re.sub(r"<defs>\s*</defs>\n?", "", text).replace("\n", "")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def glyph_id(found: re.Match[str]) -> str:
    """A short id for a character of a face: g-13, gO-4c (oblique)."""
    return f"g{''.join(filter(str.isupper, found[1] or ''))}-{found[2]}"


def path(text: str) -> str:
    """The same path with relative commands, coordinates rounded before the differences are taken: errors do not add."""
    result: list[str] = []
    here = start = (0.0, 0.0)
    last = ""
    for command, points in _commands(text):
        letter = command.lower()
        rounded = [(round(x, DECIMALS), round(y, DECIMALS)) for x, y in points]
        numbers = [_short(shift) for x, y in rounded for shift in (x - here[0], y - here[1])]
        # a line after a line needs no letter, a number no space before its sign
        result.append((" " if letter == last == "l" else letter) + " ".join(numbers))
        here, last = rounded[-1] if rounded else start, letter
        if letter == "m":
            start = here
    return "".join(result).replace(" -", "-")


def _commands(text: str) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """(command, its points); Matplotlib writes absolute commands only."""
    for command, arguments in re.findall(r"([A-Za-z])([^A-Za-z]*(?:e-?\d+[^A-Za-z]*)*)", text):
        if command not in "MLQCzZ":
            raise ValueError(f"the command {command!r} of a path is not one that Matplotlib writes: {text[:80]!r}")
        numbers = [float(number) for number in NUMBER.findall(arguments)]
        yield command, list(zip(numbers[::2], numbers[1::2], strict=True))


def _short(number: float) -> str:
    """A number without what it does not need: 3, -.5, 0."""
    text = f"{number:.{DECIMALS}f}".rstrip("0").rstrip(".").replace("0.", ".", 1 if abs(number) < 1 else 0)
    return "0" if text in ("", "-", "-0") else text


def _rounded(found: re.Match[str]) -> str:
    """An attribute with rounded coordinates; the factor of a scale keeps its decimals."""
    pattern = r"translate\([^)]*\)" if found[0].startswith("transform") else r".*"
    return re.sub(pattern, lambda part: NUMBER.sub(lambda number: _short(float(number[0])), part[0]), found[0])


def _placed(found: re.Match[str]) -> str:
    """<use transform="translate(x y)"/> as <use x="…" y="…"/>."""
    x, y = NUMBER.findall(re.search(r"translate\(([^()]*)\)", found[0])[1])  # type: ignore[index]
    place = "".join(f' {name}="{value}"' for name, value in (("x", x), ("y", y)) if float(value))
    return re.sub(r' transform="[^"]*"', place, found[0])


def _without_bare_groups(text: str) -> str:
    """Groups without an attribute, and empty ones, are left out; what is in them stays."""
    result: list[str] = []
    bare: list[bool] = []
    for part in re.split(r"(</?g\b[^>]*>)", text):
        if part.startswith("<g") and not part.endswith("/>"):
            bare.append(part == "<g>")
            if bare[-1]:
                continue
        elif part == "<g/>" or (part == "</g>" and bare.pop()):
            continue
        result.append(part)
    return "".join(result)
