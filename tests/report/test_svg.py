"""What a figure's SVG loses on its way into a page, and what it must not lose."""

from __future__ import annotations

import io
import re

import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ddpm_bench.report.figures import style
from ddpm_bench.report.figures.svg import DECIMALS, compact, inline, path

RAW = (
    '<?xml version="1.0"?><!DOCTYPE svg "x"><svg width="1pt" xmlns="n" xmlns:xlink="m"><metadata>m\n</metadata>'
    '<defs>\n<style type="text/css">*{stroke-linejoin: round}</style>\n</defs><!-- c -->\n<g id="unused">\n'
    '<g id="text_1"><defs><path id="DejaVuSans-Oblique-4c" d="M 1 0 L 2 3"/><path id="a" d="M 1.26 -0.04 L 2.5 3"/>'
    '</defs><use xlink:href="#a" x="7.123456" transform="scale(0.015625)"/>'
    '<use xlink:href="#DejaVuSans-Oblique-4c" transform="translate(63.6251 0)"/></g></g>'
    '<g clip-path="url(#a)" style="fill: none; stroke: #222222"/></svg>'
)


def absolute(text: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """A path of relative commands as absolute points, by the rules of SVG 2 § 9.3, in code of its own."""
    tokens = re.findall(r"[a-z]|-?(?:\d+\.\d+|\.\d+|\d+)", text)
    x = y = x0 = y0 = 0.0
    found, letter, index = [], "", 0
    while index < len(tokens):
        if tokens[index].isalpha():
            letter, index = tokens[index], index + 1
        if letter == "z":
            x, y = x0, y0
            found.append(("Z", []))
            continue
        count = {"m": 2, "l": 2, "q": 4, "c": 6}[letter]
        numbers = list(map(float, tokens[index : index + count]))
        index += count
        points = [(x + dx, y + dy) for dx, dy in zip(numbers[::2], numbers[1::2], strict=True)]
        x, y = points[-1]
        if letter == "m":
            x0, y0 = x, y
        found.append((letter.upper(), points))
    return found


def test_svg_is_clean_and_keeps_the_scale_of_its_letters():
    clean = compact(RAW)
    assert 'id="a" d="m1.3 0l1.2 3"' in clean
    assert "scale(0.015625)" in clean
    assert 'x="7.1"' in clean
    assert '<use xlink:href="#DejaVuSans-Oblique-4c" x="63.6"/>' in clean
    assert 'style="fill:none;stroke:#222222"' in clean
    assert not any(word in clean for word in ("metadata", "<!--", "<?xml", "DOCTYPE", "<style", "unused", "<g>"))


def test_ids_of_a_page_are_those_of_the_figure_and_a_character_is_drawn_once():
    defined: set[str] = set()
    first = inline(compact(RAW), "name", "what is seen", defined)
    assert 'id="name-0"' in first
    assert 'href="#name-0"' in first
    assert "url(#name-0)" in first
    assert "xmlns" not in first
    assert 'aria-label="what is seen"' in first
    assert defined == {"gO-4c"}
    second = inline(compact(RAW), "other", "what is seen", defined)
    assert first.count('<path id="gO-4c"') == 1
    assert second.count('<path id="gO-4c"') == 0
    assert second.count('href="#gO-4c"') == 1
    assert second.count('<path id="other-0"') == 1


def test_paths_keep_their_points():
    """To half a unit of the last decimal: each point is rounded by itself, so that errors of a long path do not add.
    Sums of that many differences are exact to 1e-9."""
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    axes.plot([0.001 * n * n for n in range(500)], [(-1) ** n / (n + 1) for n in range(500)])
    axes.set_title("Straight and curved: Qq gg 0.08, $\\sigma$")
    axes.scatter([0.1, 0.7], [0.3, 0.1])
    with style():
        raw = io.StringIO()
        FigureCanvasSVG(figure).print_svg(raw)
    paths = re.findall(r'\bd="([^"]*)"', raw.getvalue())
    assert {letter for text in paths for letter in re.findall("[A-Za-z]", text)} >= set("MLQCz")
    for text in paths:
        short = absolute(path(text))
        commands = re.findall(r"([MLQCz])([^A-Za-z]*)", text)
        assert [command.upper() for command, _ in commands] == [command for command, _ in short]
        for (_, arguments), (_, points) in zip(commands, short, strict=True):
            numbers = [float(number) for number in arguments.split()]
            assert [value for point in points for value in point] == pytest.approx(
                numbers, abs=0.5 * 10**-DECIMALS + 1e-9, rel=0
            )


def test_an_unknown_command_of_a_path_is_an_error():
    with pytest.raises(ValueError, match="'A' of a path"):
        path("M 0 0 A 1 1 0 0 0 2 2")
