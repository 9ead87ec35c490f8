"""How often a variant's samples are nearer to the training images than unseen images are, over its seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ddpm_bench.report import words
from ddpm_bench.report.variants import Variant
from ddpm_bench.statistics import t_half_width

KINDS = ("nearer", "below_median")
NORMAL_95 = 1.96
"""Standard errors in half a 95 % interval where one training has an error over images alone."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The mean over seeds. error: half width of the 95 % t interval, or of one seed the standard error over images."""

    mean: float
    error: float | None
    num_seeds: int

    @property
    def text(self) -> str:
        """In per cent."""
        if self.error is None:
            return f"{100 * self.mean:.0f} %"
        decimals = 0 if 100 * self.error >= 1 else 1
        return f"{100 * self.mean:.{decimals}f} % ± {100 * self.error:.{decimals}f} %"

    @property
    def side(self) -> int:
        """1 above ½, −1 below it, by more than its 95 % interval; else 0, as it is without an error."""
        if self.error is None:
            return 0
        half = self.error * (1 if self.num_seeds > 1 else NORMAL_95)
        return 0 if abs(self.mean - 0.5) <= half else int(math.copysign(1, self.mean - 0.5))


@dataclass(frozen=True, kw_only=True)
class Shares:
    """rows: variant and its shares by (space, kind); sentences: what they say."""

    spaces: list[str]
    rows: list[tuple[Variant, dict[tuple[str, str], Share]]]
    sentences: list[str]


def make_shares(groups: list[Variant]) -> Shares | None:
    """The shares of all variants that have them; None where none has."""
    rows, spaces, counts = [], dict[str, None](), dict[str, None]()
    for group in groups:
        values: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for cell in group.cells:
            for space, found in ((cell.get("gallery") or {}).get("nearest") or {}).items():
                spaces[space] = None
                counts[
                    f"{words.count(found['nearer']['num_samples'], 'sample')} of a cell, {found['num_held_out']} test "
                    f"images and {found['num_train']} training images"
                ] = None
                for kind in KINDS:
                    values.setdefault((space, kind), []).append(found[kind])
        if values:
            rows.append((group, {place: _share(records) for place, records in values.items()}))
    if not rows:
        return None
    sentences = [_sentence(space, rows) for space in spaces]
    return Shares(spaces=list(spaces), rows=rows, sentences=[f"Compared are {'; '.join(counts)}.", *sentences])


def _share(records: list[dict[str, Any]]) -> Share:
    values = [float(record["value"]) for record in records]
    error = t_half_width(values) if len(values) > 1 else records[0]["stderr"]
    return Share(mean=math.fsum(values) / len(values), error=error, num_seeds=len(values))


def _sentence(space: str, rows: list[tuple[Variant, dict[tuple[str, str], Share]]]) -> str:
    """The range over variants, and how many differ from ½."""
    found = [(group.label, shares[space, "nearer"]) for group, shares in rows if (space, "nearer") in shares]
    place = "In pixels" if space == "pixels" else f"In features of {space}"
    low, high = min(found, key=lambda item: item[1].mean), max(found, key=lambda item: item[1].mean)
    text = f"{place}, a sample is nearer to a training image than a test image is in {high[1].text} of all pairs"
    if len(found) == 1:
        return f"{text}."
    text = f"{place}, samples are nearer to a training image than test images are in {low[1].text} ({low[0]}) to "
    text += f"{high[1].text} ({high[0]}) of all pairs; "
    above, below = (sum(share.side == side for _, share in found) or "none" for side in (1, -1))
    return text + f"of {len(found)} variants, {above} are above 50 % by more than the 95 % interval and {below} below."
