"""σ² over t: where learned and fitted variances lie between β̃ and β."""

from __future__ import annotations

import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.figures.timestep_kl import NOISE_AXES
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.timesteps import fixed_cells, log_sigma2_range, over
from ddpm_bench.report.variants import Variant

LIMITS = (-0.6, 1.8)
"""What the axis shows at most, in widths of the range: near its end the range closes and positions may run off."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """One line for each variant whose σ² is neither β nor β̃ throughout."""
    ranges = log_sigma2_range(view, view.timestep_kl)
    fixed = fixed_cells(ranges) if len(ranges) else set()
    free = [group for group in groups if group.done and group.done[0]["id"] not in fixed]
    tables = over(ranges, free, "t")
    shown = [group for group in free if group.key in tables]
    if not shown:
        return None
    encoding = encode([group.axes for group in shown], NOISE_AXES, every=[group.axes for group in groups])
    lines = [tables[group.key]["position"] for group in shown]
    every = pd.concat(lines)
    low, high = min(-0.05, float(every.min()) - 0.02), max(1.05, float(every.max()) + 0.02)
    limits = (max(low, LIMITS[0]), min(high, LIMITS[1]))
    quantity = Quantity(
        label="position of ln σ²", lines=lines, height=2.2, limits=limits, levels=[(0.0, "σ²=β̃"), (1.0, "σ²=β")]
    )
    svg, pdf = draw_lines(encoding, [quantity], "t", log_x=True)
    means = {group.label: float(line.mean()) for group, line in zip(shown, lines, strict=True)}
    least, most = min(means, key=lambda label: means[label]), max(means, key=lambda label: means[label])
    caption = (
        "Where ln σ² lies between ln β̃ (0) and ln β (1), at t ≥ 2. Where a head decides, that is (v + 1)/2 of its "
        "output v, a mean over images and dimensions; a fitted σ² is one number for each t. β and β̃ are the chain's. "
    )
    caption += (
        f"Mean over t: from {means[least]:.2f} ({least}) to {means[most]:.2f} ({most})."
        if len(means) > 1
        else f"Mean over t: {means[least]:.2f}."
    )
    cut = int(((every < limits[0]) | (every > limits[1])).sum())
    if cut:
        caption += f" {words.count(cut, 'value')} outside the axis {'is' if cut == 1 else 'are'} in the data alone."
    return Drawing(
        name="variance_range",
        title="σ² between β̃ and β",
        caption=caption,
        alternative=f"Lines of {words.count(len(shown), 'variant')} over t; on average they lie between "
        f"{means[least]:.2f} and {means[most]:.2f} of the way from β̃ to β.",
        data=pd.DataFrame({group.label: tables[group.key]["position"] for group in shown})
        .rename_axis("t")
        .reset_index(),
        svg=svg,
        pdf=pdf,
    )
