"""The forward process of each schedule: what is left of the image at each t, and how far x_t is from N(0, I)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import Encoding, encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant

AXES = ("schedule", "timesteps")
"""What a forward process is known by."""
MAX_PRIOR_BITS = 1e-3
"""L_T in bits/dim up to which the caption takes x_T for N(0, I): where a plan begins to warn."""


@dataclass(frozen=True)
class Forward:
    """One forward process. label: its axes in words; folder: its artifact, which holds what the stage says."""

    label: str
    folder: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        """forward.json: the split, its number of images, levels, and the t of the pictures."""
        found: dict[str, Any] = json.loads((self.folder / "forward.json").read_text(encoding="utf-8"))
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """forward.csv by t = 1…T."""
        return pd.read_csv(self.folder / "forward.csv", index_col="t")

    def array(self, name: str) -> np.ndarray:
        """One of its arrays."""
        found: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return found

    @property
    def prior(self) -> float:
        """L_T in bits/dim."""
        return float(self.table["kl"].iloc[-1])

    @property
    def half(self) -> int | None:
        """The first t with ᾱ ≤ ½."""
        below = self.table.index[self.table["alpha_bar"] <= 0.5]
        return int(below[0]) if len(below) else None


def processes(view: ResultsView, groups: list[Variant]) -> list[Forward]:
    """The forward processes of the cells that the store still holds, each once, in the order of the suite."""
    found: dict[str, dict[str, str]] = {}
    for cell in (cell for group in groups for cell in group.cells):
        place = cell["artifacts"].get("forward")
        if place and (view.runs / place / "forward.json").is_file():
            found.setdefault(place, {name: str(cell["axes"].get(name, "—")) for name in AXES})
    varied = [name for name in AXES if len({axes[name] for axes in found.values()}) > 1] or AXES
    return [
        Forward(", ".join(words.phrase(name, axes[name]) for name in varied), view.runs / place)
        for place, axes in found.items()
    ]


def encoding_of(found: list[Forward]) -> Encoding:
    """A colour for each forward process, in every figure about them the same."""
    return encode([{"process": item.label} for item in found])


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """ᾱ, log SNR and KL(q(x_t | x_0) ‖ N(0, I)) over t; None without any forward process in the store."""
    found = processes(view, groups)
    if not found:
        return None
    lengths = {len(item.table) for item in found}
    several = len(lengths) > 1
    tables = [item.table.set_axis(item.table.index / len(item.table)) if several else item.table for item in found]
    kl = [table["kl"] for table in tables]
    shown = min(float(line.min()) for line in kl) <= MAX_PRIOR_BITS
    quantities = [
        Quantity(label="ᾱ", lines=[table["alpha_bar"] for table in tables], limits=(-0.02, 1.02)),
        Quantity(label="log SNR", lines=[np.log(table["snr"]) for table in tables]),
        Quantity(label="KL to N(0, I), bits/dim", lines=kl, log=True,
                 levels=[(MAX_PRIOR_BITS, "10⁻³")] if shown else ()),
    ]  # fmt: skip
    looks = encoding_of(found)
    svg, pdf = draw_lines(looks, quantities, "t / T" if several else "t")
    data = {
        f"{name} of {item.label}": item.table[name]
        for item in found
        for name in ("alpha_bar", "snr", "beta", "beta_tilde", "kl", "stderr")
    }
    return Drawing(
        name="forward",
        title="Forward process",
        caption=_caption(found),
        alternative=f"Lines of {words.count(len(found), 'schedule')} in 3 panels; "
        + "; ".join(
            f"{item.label}: KL from {bits(item.table['kl'].iloc[0])} to {bits(item.prior)} bits/dim" for item in found
        )
        + ".",
        data=pd.DataFrame(data).rename_axis("t").reset_index(),
        svg=svg,
        pdf=pdf,
    )


def _caption(found: list[Forward]) -> str:
    first = found[0].info
    errors = [float(item.table["stderr"].max()) for item in found]
    text = (
        "What remains of an image: ᾱ, the log of the signal-to-noise ratio ᾱ/(1 − ᾱ), and KL(q(x_t|x_0) ‖ N(0, I)), "
        f"a closed form, as the mean over {words.count(first['num_images'], 'image')} of the {first['split']} split"
    )
    text += f" (standard error at most {max(errors):.1g} bits/dim). " if np.isfinite(errors).all() else ". "
    half = {item.label: str(item.half) for item in found if item.half is not None}
    never = [item.label for item in found if item.half is None]
    text += f"ᾱ falls to ½ at t = {each(half, len(found) == 1)}" if half else "ᾱ never falls to ½"
    text += f", never with {words.listed(never)}. " if half and never else ". "
    ends = {item.label: bits(item.prior) for item in found}
    text += f"At t = T the KL is L_T: {each(ends, len(found) == 1)} bits/dim"
    above = {item.label: item for item in found if item.prior > MAX_PRIOR_BITS}
    if not above:
        return f"{text}, below {MAX_PRIOR_BITS:g}: what a chain starts from is N(0, I)."
    who = f" of {words.listed(list(above))}" if len(found) > 1 else ""
    return (
        f"{text}. That{who} is above {MAX_PRIOR_BITS:g}: x_T is not N(0, I), so that samples start elsewhere than "
        "training ended, and the bound pays for it whatever the network learns."
    )


def bits(value: float) -> str:
    """Three decimals; near the threshold as many as show two digits, so that no rounding crosses it."""
    near = MAX_PRIOR_BITS / 2 <= value < 10 * MAX_PRIOR_BITS
    return words.number(value, 5 if near else 3)


def each(values: dict[str, str], alone: bool = False) -> str:
    """ "1 (linear) and 2 (cosine)"; of one schedule that is alone, its value alone."""
    if alone:
        return next(iter(values.values()))
    return words.listed([f"{value} ({label})" for label, value in values.items()])
