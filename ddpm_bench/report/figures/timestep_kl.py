"""Where the bound is paid: KL at each t, one line for each variant, one panel for each schedule."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.timesteps import over
from ddpm_bench.report.variants import Variant

NOISE_AXES = ("schedule", "timesteps")
"""What decides how much noise a t means."""

CHAIN_AXES = (*NOISE_AXES, "sampling_steps")
"""What decides how much noise a step removes."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Lines over t on logarithmic scales (most of the bound lies at small t), and their ratio to the panel's first
    variant; L_0, which belongs to t = 1, is a dot because it is no KL."""
    series = {key: table["kl"].dropna() for key, table in over(view.timestep_kl, groups, "t").items()}
    shown = [group for group in groups if group.key in series]
    if not shown:
        return None
    encoding = encode([group.axes for group in shown], CHAIN_AXES, every=[group.axes for group in groups])
    lines = [series[group.key] for group in shown]
    quantities = [Quantity(label="bits/dim", lines=lines, log=True, height=2.4, dot_at=1)]
    if any(len(chosen) > 1 for chosen in encoding.panels.values()):
        ratios = list(lines)
        for chosen in encoding.panels.values():
            for index in chosen:
                ratio = lines[index] / lines[chosen[0]]
                ratios[index] = ratio[np.isfinite(ratio)]
        quantities.append(Quantity(label="ratio to the first", lines=ratios, log=True, height=1.4, dot_at=1))
    svg, pdf = draw_lines(encoding, quantities, "t", log_x=True)
    seeds = max(len(group.done) for group in shown)
    share = sum(float(line[line.index <= 10].sum() / line.sum()) for line in lines) / len(lines)
    caption = (
        "The terms of the bound in bits/dim on the test split, t = 1 … T of the original process, both scales "
        "logarithmic: L_{t−1} = KL(q(x_{t−1} | x_t, x_0) ‖ p_θ(x_{t−1} | x_t)) as lines, L_0 as the dot at t = 1. "
    )
    if seeds > 1:
        caption += f"Means over up to {seeds} seeds. "
    if len(quantities) > 1:
        caption += "Below, the same divided by the panel's first variant (the level line). "
    if any(name in CHAIN_AXES for name in shown[0].axes):
        caption += "Equal t of different schedules or chains is different noise: compare within a panel."
    return Drawing(
        name="timestep_kl",
        title="KL at each timestep",
        caption=caption.strip(),
        alternative=f"Lines of {words.count(len(shown), 'variant')} in {words.count(len(encoding.panels), 'panel')}. "
        f"On average {100 * share:.0f} % of L_0 and the L_(t−1) together lies at t ≤ 10.",
        data=pd.DataFrame({group.label: series[group.key] for group in shown}).rename_axis("t").reset_index(),
        svg=svg,
        pdf=pdf,
    )
