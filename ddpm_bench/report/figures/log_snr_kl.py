"""KL and ε-MSE over log SNR: timesteps of different schedules, made comparable."""

from __future__ import annotations

import pandas as pd

from ddpm_bench.log_snr import GRID_STEP, chain_length
from ddpm_bench.report import words
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.encoding import Encoding, encode
from ddpm_bench.report.figures.lines import Quantity, draw_lines
from ddpm_bench.report.figures.timestep_kl import CHAIN_AXES
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.timesteps import log_snr_table, over
from ddpm_bench.report.variants import Variant

REST = 0.005
"""Share of its area that a line may have where the axis does not reach."""


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """The density of the bound and the ε-MSE, one line each for a variant; schedules share a panel."""
    tables = over(log_snr_table(view), groups, "log_snr")
    tables = {key: table for key, table in tables.items() if table["kl_density"].notna().any()}
    shown = [group for group in groups if group.key in tables]
    if not shown:
        return None
    encoding = encode([group.axes for group in shown], inside=CHAIN_AXES, every=[group.axes for group in groups])
    density = [tables[group.key]["kl_density"].dropna() for group in shown]
    start = min(_start(line) for line in density)
    error, shared = _once_for_each_network(
        shown, encoding, [tables[group.key]["epsilon_mse"].dropna() for group in shown]
    )
    quantities = [
        Quantity(label="bits/dim per unit of log SNR", lines=[line[line.index >= start] for line in density], log=True),
        Quantity(label="ε-MSE", lines=[line[line.index >= start] for line in error], height=2.0),
    ]
    svg, pdf = draw_lines(encoding, quantities, "log SNR")
    middle = [float(line[line.index <= 0].sum() / line.sum()) for line in density if line.sum() > 0]
    caption = (
        "What each unit of log SNR costs on the test split: L_{t−1} divided by the step's width in log SNR, as means "
        f"over intervals of {GRID_STEP:g}, so that the integral of a line (here on a logarithmic scale) is the sum of "
        "its L_{t−1}. With many steps and σ²=β̃ it is half the ε-MSE over ln 2 whatever the schedule; what a line has "
        "above that is the price of few steps or of another σ². Clean images are on the right. L_0 and L_T have no "
        f"width and are not in it. Below log SNR {words.number(start, 1)} lies less than {100 * REST:g} % of every "
        "line's integral: not drawn."
    )
    if shared:
        caption += " Variants that share a training share its ε-MSE, drawn once."
    alternative = (
        f"Lines of {words.count(len(shown), 'variant')} in {words.count(len(encoding.panels), 'panel')}, twice."
    )
    if middle:
        alternative += f" On average {100 * sum(middle) / len(middle):.0f} % of the integral lies at log SNR ≤ 0."
    columns = {
        f"{name} of {group.label}": tables[group.key][name] for group in shown for name in ("kl_density", "epsilon_mse")
    }
    return Drawing(
        name="log_snr_kl",
        title="KL over log SNR",
        caption=caption,
        alternative=alternative,
        data=pd.DataFrame(columns).rename_axis("log_snr").reset_index(),
        svg=svg,
        pdf=pdf,
    )


def _start(line: pd.Series) -> float:
    """Where REST of the line's area begins to lie on the left."""
    return float(line.index[int((line.cumsum() > REST * line.sum()).argmax())])


def _once_for_each_network(
    shown: list[Variant], encoding: Encoding, lines: list[pd.Series]
) -> tuple[list[pd.Series], bool]:
    """The lines with those left empty whose training another one of the panel shows with more seeds or steps, and
    whether there are any."""

    def detail(index: int) -> tuple[int, int]:
        return len(shown[index].done), chain_length(shown[index].done[0]["axes"])

    kept = set()
    for chosen in encoding.panels.values():
        networks = {shown[index].done[0]["train_key"] for index in chosen}
        kept |= {
            max((index for index in chosen if shown[index].done[0]["train_key"] == network), key=detail)
            for network in networks
        }
    return [line if index in kept else line[:0] for index, line in enumerate(lines)], len(kept) < len(lines)
