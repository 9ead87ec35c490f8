"""How things are called in print: axes, their values, metrics and numbers, in text, HTML, mathtext and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from markupsafe import Markup, escape

from ddpm_bench.errors import count as count

AXES = {
    "prediction": "prediction",
    "variance": "reverse variance",
    "schedule": "schedule",
    "loss": "loss",
    "sampler": "sampler",
    "sampling_steps": "sampling steps",
    "timesteps": "T",
    "training.steps": "training steps",
}

_symbols: ContextVar[dict[str, dict[str, str]]] = ContextVar("symbols")


@contextmanager
def symbols(found: dict[str, dict[str, str]]) -> Iterator[None]:
    """Within it, values are written as results.json says the field writes them: axis → name → symbol."""
    token = _symbols.set(found)
    try:
        yield
    finally:
        _symbols.reset(token)


METRICS = {
    "bits_per_dim": "bits/dim",
    "fid": "FID",
    "kid": "KID",
    "inception_score": "Inception score",
    "fd": "Fréchet distance",
    "kd": "kernel distance",
    "cs": "classifier score",
    "precision": "precision",
    "recall": "recall",
    "ch": "class histogram distance",
}

SUFFIXES = {"infinity": "n → ∞", "confidence": "mean confidence", "subset_std": "standard deviation over subsets"}
"""How endings of names are written that are not clear by themselves."""

PARTS = {
    "bits_per_dim_l_0": "L_0",
    "bits_per_dim_mean_cost": "mean cost",
    "bits_per_dim_variance_cost": "variance cost",
    "bits_per_dim_l_T": "L_T",
}
"""The terms that add up to bits/dim, in the order of the stack."""

NETWORK = "bits_per_dim_network"
"""Bits/dim minus that of a perfect network with the same σ²."""

_SUFFIX = re.compile(r"_(train|validation|test|subset_std|std|infinity|confidence|n\d+)$")


def axis(name: str) -> str:
    """The heading of an axis; of a key that is not known here its last part."""
    return AXES.get(name, name.rpartition(".")[2].replace("_", " "))


def value(axis_name: str, label: Any) -> str:
    """The value of an axis as the field writes it; parameters that a label carries stay: cosine (s=0.01)."""
    text = str(label)
    name, bracket, parameters = text.partition("(")
    word = _symbols.get({}).get(axis_name, {}).get(name, name)
    return f"{word} ({parameters}" if bracket else word


def phrase(axis_name: str, label: Any) -> str:
    """The value of an axis where its heading does not stand above it: 5 steps, T=100, learning rate 0.001, cosine."""
    text = value(axis_name, label)
    if axis_name in _PHRASES:
        return _PHRASES[axis_name].format(text)
    bare = re.match(r"[-\d.]|(true|false|none|default|all)$", text)
    return f"{axis(axis_name.rpartition('.')[2])} {text}" if bare else text


_PHRASES = {"sampling_steps": "{} steps", "timesteps": "T={}", "training.steps": "{} training steps"}


def base_metric(name: str) -> str:
    """The name without the suffixes of its companions: kd_x_test_n360 → kd_x."""
    while match := _SUFFIX.search(name):
        name = name[: match.start()]
    return name


def is_companion(name: str, names: Iterable[str]) -> bool:
    """Whether a metric stands beside another one of `names` (another split, another n) or is a part of bits/dim.

    Where a suite has no unsuffixed name of a metric (reference_split = "test"), the first of its names leads.
    """
    base = base_metric(name)
    leading = [other for other in names if base_metric(other) == base]
    return is_part(name) or name != (base if base in leading else leading[0])


def is_part(name: str) -> bool:
    """Whether it is a part of bits/dim, of any split."""
    return base_metric(name) in (*PARTS, NETWORK)


def metric(name: str) -> str:
    """The title of a metric: kd_efficientnet_lite0_test → kernel distance (efficientnet_lite0), test."""
    base, rest = base_metric(name), name
    suffixes: list[str] = []
    while match := _SUFFIX.search(rest):
        rest, ending = rest[: match.start()], match[1]
        suffixes.insert(0, f"n = {ending[1:]}" if re.fullmatch(r"n\d+", ending) else SUFFIXES.get(ending, ending))
    if base in METRICS:
        title = METRICS[base]
    elif is_part(base):
        title = f"bits/dim: {PARTS.get(base, 'network part')}"
    else:
        prefix, _, extractor = base.partition("_")
        title = f"{METRICS[prefix]} ({extractor})" if prefix in METRICS and extractor else base.replace("_", " ")
    return ", ".join([title, *suffixes])


def listed(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def digits(errors: list[float], values: list[float]) -> int:
    """Decimals of a column: two significant digits of the median error; without errors four of the median value."""
    errors = sorted(error for error in errors if error > 0 and math.isfinite(error))
    if errors:
        return max(0, min(6, 1 - math.floor(math.log10(errors[len(errors) // 2]))))
    magnitudes = sorted(abs(item) for item in values if item and math.isfinite(item))
    if not magnitudes:
        return 3
    return max(0, min(6, 3 - math.floor(math.log10(magnitudes[len(magnitudes) // 2]))))


def number(item: float, decimals: int) -> str:
    """A number with fixed decimals and a real minus; one that would vanish or overflow is written as 1.2e5."""
    if item != 0 and (abs(item) >= 1e5 or round(abs(item), decimals) == 0):
        return f"{item:.1e}".replace("-", "−").replace("e+0", "e").replace("e−0", "e−")
    return f"{item:.{decimals}f}".replace("-", "−")


_SUBSCRIPT = re.compile(r"(?<!\w)([A-Za-zᾱ])_(?:\{([^}]+)\}|(\w+))")


def html(text: str) -> Markup:
    """Escaped text in which L_simple, x_0 and p_{t−1} get a real subscript, as x₀ does, and β̃ a tilde that is clear of
    the letter: fonts without a mark for it draw a combining tilde through the top of β."""

    def subscript(found: re.Match[str]) -> str:
        below = found[2] or found[3]
        below = re.sub(r"(?<!\w)([^\W\d])(?!\w)", r"<i>\1</i>", below)  # t−1: a lone letter is a variable
        return f"<i>{found[1]}</i><sub>{below}</sub>"

    marked = _SUBSCRIPT.sub(subscript, str(escape(text)).replace("x₀", "x_0"))
    return Markup(marked.replace("β̃", '<span class="tilde">β<span>˜</span></span>'))


_MATHTEXT = {
    "β̃": r"$\tilde{\beta}$",
    "x₀": "$x_0$",
    "σ²": r"$\sigma^2$",
    "ε": r"$\varepsilon$",
    "β": r"$\beta$",
    "ᾱ": r"$\bar{\alpha}$",
    "μ": r"$\mu$",
}


def mathtext(text: str) -> str:
    """The text for a figure, symbols set as mathematics."""
    text = text.replace("$", r"\$")
    for symbol, formula in _MATHTEXT.items():
        text = text.replace(symbol, formula)
    return re.sub(r"\bL_(\w+)", lambda found: rf"$L_{{\mathrm{{{found[1]}}}}}$", text)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}
_LATEX |= {"ε": r"$\varepsilon$", "β": r"$\beta$", "μ": r"$\mu$", "σ": r"$\sigma$", "²": "$^2$", "₀": "$_0$"}
_LATEX |= {"−": "$-$", "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "é": r"\'e", "–": "--", "—": "---"}
_LATEX |= {"†": r"$^\dagger$", "×": r"$\times$", "∞": r"$\infty$", "→": r"$\to$", "ü": r"\"u", "ø": r"{\o}"}


def latex(text: str) -> str:
    """The text with every special character escaped and symbols set as mathematics."""
    marked = re.sub(r"\bL_(\w+)", "\x01\\1\x02", text).replace("β̃", "\x03").replace("x₀", "\x04")
    escaped = "".join(_LATEX.get(character, character) for character in marked)
    escaped = re.sub("\x01(.*?)\x02", lambda found: rf"$L_{{\mathrm{{{found[1]}}}}}$", escaped)
    escaped = escaped.replace("\x03", r"$\tilde{\beta}$").replace("\x04", "$x_0$")
    return re.sub(r"(?<!\\)\$(=?)\$", r"\1", escaped)  # neighbours are one formula


def plain(item: Any) -> str:
    """A value of the configuration on one line: lists in brackets, tables as name(parameter=value)."""
    if isinstance(item, dict):
        rest = ", ".join(f"{key}={plain(entry)}" for key, entry in item.items() if key != "name")
        if "name" in item:
            return f"{item['name']}({rest})" if rest else str(item["name"])
        return f"({rest})"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(plain(entry) for entry in item) + "]"
    if isinstance(item, bool):
        return "true" if item else "false"
    return "none" if item is None else str(item)
