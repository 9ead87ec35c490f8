"""What `show` draws of an entry: ᾱ_t of a schedule, w over the signal-to-noise ratio of a weighting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ddpm_bench.cli._parameters import make, parse, required
from ddpm_bench.diffusion.likelihood import bits_per_dim, prior_kl
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.weightings import Weighting
from ddpm_bench.labels import value_label

DEFAULT_TIMESTEPS = 1000
COLUMNS, ROWS = 64, 4
"""Characters of a drawing: with its axis it fits a terminal of 80 columns."""
EIGHTHS = " ▁▂▃▄▅▆▇█"
DECADES = 4
"""A weighting is drawn for SNR = 10⁻⁴ … 10⁴."""


def curve(cls: Any, timesteps: int | None, assignments: Sequence[str]) -> list[str]:
    """The lines of the drawing of a schedule or weighting.

    timesteps: T of a schedule; assignments: `parameter=value` of the entry. Raises UserError for one that does not fit.
    """
    given = parse(assignments)
    missing = [name for name in required(cls) if name not in given]
    if missing:
        wanted = " ".join(f"--set {name}=VALUE" for name in missing)
        return [f"Curve: depends on {' and '.join(missing)}, which has no default; {wanted} shows it"]
    entry = make(cls, given)
    if isinstance(entry, Schedule):
        return schedule_curve(entry, timesteps or DEFAULT_TIMESTEPS)
    assert isinstance(entry, Weighting)
    return weighting_curve(entry)


def schedule_curve(schedule: Schedule, timesteps: int) -> list[str]:
    """ᾱ_t over t, the ends of the chain, and what is left of x_0 at its end; the reason where there is no chain."""
    try:
        process = schedule.process(timesteps)
    except ValueError as problem:
        return [f"Curve: {value_label(schedule)} does not exist at T = {timesteps}", f"  {problem}"]
    picked = [round(i * timesteps / (COLUMNS - 1)) for i in range(COLUMNS)]
    beta, alpha_bar = process.beta.tolist(), [1.0, *process.alpha_bar.tolist()]
    prior = float(bits_per_dim(prior_kl(torch.ones(1, 1, 1, 1), process), 1))
    return [
        f"Curve: ᾱ_t of {value_label(schedule)} at T = {timesteps}",
        *_drawing([alpha_bar[t] for t in picked], "1", "0", "t = 0", f"t = {timesteps}"),
        f"  β_1 = {beta[0]:.4g}, β_T = {beta[-1]:.4g}, ᾱ_T = {alpha_bar[-1]:.4g}",
        f"  L_T = {prior:.4g} bits/dim at x² = 1",
    ]


def weighting_curve(weighting: Weighting) -> list[str]:
    """w over the SNR, both axes logarithmic."""
    snr = torch.logspace(DECADES, -DECADES, COLUMNS, dtype=torch.float64)
    weight = weighting.weight(snr)
    if weight is None:
        return ["Curve: none, it depends on the prediction"]
    values = torch.log10(weight)
    low, high = float(values.min()), float(values.max())
    heights = ((values - low) / (high - low)).tolist() if high > low else [1.0] * COLUMNS
    ends = f"SNR = 1e{DECADES}", f"SNR = 1e-{DECADES}"
    return [
        f"Curve: w of {value_label(weighting)} over SNR_t, both logarithmic, t growing to the right",
        *_drawing(heights, f"{10**high:.3g}", f"{10**low:.3g}", *ends),
    ]


def _drawing(heights: Sequence[float], top: str, bottom: str, left: str, right: str) -> list[str]:
    """Columns of heights 0…1 in blocks of an eighth of a character, with the names of their ends."""
    margin = max(len(top), len(bottom)) + 2
    filled = [round(height * ROWS * 8) for height in heights]
    lines = []
    for row in reversed(range(ROWS)):
        label = top if row == ROWS - 1 else bottom if row == 0 else ""
        lines.append(f"{label:>{margin}} " + "".join(EIGHTHS[min(8, max(0, n - 8 * row))] for n in filled).rstrip())
    lines.append(f"{'':{margin}} {left}{right:>{len(heights) - len(left)}}")
    return lines
