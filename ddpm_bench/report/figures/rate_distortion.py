"""Rate–distortion: how good the image is that has been sent so far."""

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


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """Distortion over rate, one line for each variant with both."""
    tables = {
        key: found
        for key, table in over(view.timestep_kl, groups, "t").items()
        if len(found := table[["rate", "distortion"]].dropna())
    }
    shown = [group for group in groups if group.key in tables]
    if not shown:
        return None
    encoding = encode([group.axes for group in shown], every=[group.axes for group in groups])
    lines = [tables[group.key].set_index("rate")["distortion"] for group in shown]
    quantity = Quantity(label="RMSE, levels of 0…255", lines=lines, height=2.4)
    ceiling = max([item["value"] for item in view.data["baselines"] if item["metric"] == "bits_per_dim"], default=0.0)
    longest = max(float(line.index.max()) for line in lines)
    cut = 0 < 1.3 * ceiling < longest
    limits = (-0.02 * ceiling, 1.05 * ceiling) if cut else None
    svg, pdf = draw_lines(encoding, [quantity], "rate, bits/dim", x_limits=limits)
    common = min(float(line.index.max()) for line in lines) / 2
    there = {group.label: _at(line, common) for group, line in zip(shown, lines, strict=True)}
    best, worst = min(there, key=lambda label: there[label]), max(there, key=lambda label: there[label])
    caption = (
        "Distortion (root of the mean squared error of x̂₀ from x_t, in levels of 0…255) against rate (L_T and the "
        "L_{s−1} of the steps s > t) on the test split, from t = T on the left to t = 1 on the right, as in Ho et al. "
        "2020, figure 5. At the right end L_0 is still to be paid: rate and L_0 together are bits/dim. "
        f"At {common:.2g} bits/dim the RMSE is {there[best]:.1f}"
    )
    caption += f" ({best}) to {there[worst]:.1f} ({worst})." if len(there) > 1 else "."
    if cut:
        caption += f" Rates beyond the worst baseline ({ceiling:.2f} bits/dim) are cut."
    columns = {
        f"{name} of {group.label}": tables[group.key][name] for group in shown for name in ("rate", "distortion")
    }
    return Drawing(
        name="rate_distortion",
        title="Rate and distortion",
        caption=caption,
        alternative=f"Falling lines of {words.count(len(shown), 'variant')}; distortion ends between "
        f"{min(line.iloc[0] for line in lines):.2g} and {max(line.iloc[0] for line in lines):.2g} levels.",
        data=pd.DataFrame(columns).rename_axis("t").reset_index(),
        svg=svg,
        pdf=pdf,
    )


def _at(line: pd.Series, rate: float) -> float:
    """The distortion at a rate, linear between steps."""
    rising = line.sort_index()
    return float(np.interp(rate, rising.index, rising))
