"""The share of the bound that is paid up to each t."""

from __future__ import annotations

import pandas as pd

from ddpm_bench.log_snr import chain_length
from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.figures.timestep_kl import NOISE_AXES
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.timesteps import over
from ddpm_bench.report.variants import Variant


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Lines that rise from the share of L_0 at t = 1 to all but L_T at the last t."""
    series = {key: table["kl"].dropna() for key, table in over(view.timestep_kl, groups, "t").items()}
    shares = {}
    for group in groups:
        if group.key in series and (series[group.key] >= 0).all():  # a density decoder's L_0 may be negative
            paid = series[group.key].cumsum()
            shares[group.key] = 100 * paid / (paid.iloc[-1] + _prior(group))
    shown = [group for group in groups if group.key in shares]
    if not shown:
        return None
    encoding = encode([group.axes for group in shown], NOISE_AXES, every=[group.axes for group in groups])
    lines = [shares[group.key] for group in shown]
    quantity = Quantity(label="% of bits/dim", lines=lines, height=2.2, limits=(0, 102))
    svg, pdf = draw_lines(encoding, [quantity], "t", log_x=True)
    half = {
        group.label: int(line.index[line >= line.iloc[-1] / 2][0]) for group, line in zip(shown, lines, strict=True)
    }
    first, last = min(half, key=lambda label: half[label]), max(half, key=lambda label: half[label])
    caption = (
        "Share of bits/dim (test split) that the steps up to t have: it begins with the share of L_0 at t = 1; what it "
        f"lacks of 100 % at the end is L_T. Half of bits/dim without it lies at t ≤ {half[first]}"
    )
    caption += f" ({first}) up to t ≤ {half[last]} ({last})." if half[first] < half[last] else " for every variant."
    if any(len(line) < chain_length(group.cells[0]["axes"]) for group, line in zip(shown, lines, strict=True)):
        caption += " Steps that were not evaluated are missing from the sums."
    return Drawing(
        name="share",
        title="Share of the bound up to each timestep",
        caption=caption,
        alternative=f"Rising lines of {words.count(len(shown), 'variant')} in "
        f"{words.count(len(encoding.panels), 'panel')}; half way up between t = {half[first]} and t = {half[last]}.",
        data=pd.DataFrame({group.label: shares[group.key] for group in shown}).rename_axis("t").reset_index(),
        svg=svg,
        pdf=pdf,
    )


def _prior(group: Variant) -> float:
    """L_T in bits/dim, mean over seeds; 0 where the suite has no bits/dim."""
    records = [cell["metrics"].get("bits_per_dim_l_T") for cell in group.done]
    values = [record["value"] for record in records if record and record["value"] is not None]
    return sum(values) / len(values) if values else 0.0
