"""KL and errors over log SNR, where timesteps of different schedules and of different T are the same noise.

λ_t = ln SNR_t falls from step to step. The step to t covers [λ_t, λ_s], s being the step of the chain before it.
L_{t−1} divided by the width of that interval is a density in bits/dim per unit of log SNR, whose integral is the sum of
the L_{t−1}. With σ² = β̃ a step costs ½(SNR_s − SNR_t)|x_0 − x̂_0|²/(D ln 2), so with many steps the density is
ε-MSE/(2 ln 2), whatever the schedule. L_0 has no width: λ of x_0 itself is infinite.

Arrays are float64 [n], one entry for each row of a cell in timestep_kl.csv, in the order of t. All of it needs numpy
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

COLUMNS = ("cell_id", "seed", "log_snr", "kl_density", "epsilon_mse", "x0_mse")
"""Of log_snr_kl.csv."""

GRID_STEP = 0.5
"""Distance of the grid's points; they are its multiples, so that every cell's are the same."""


def chain_length(axes: Mapping[str, Any]) -> int:
    """Steps of the reverse chain of a cell. axes: its labels, of which `timesteps` and `sampling_steps` decide."""
    return int(axes["timesteps"] if axes["sampling_steps"] == "all" else axes["sampling_steps"])


def neighbours(t: np.ndarray, num_steps: int) -> np.ndarray:
    """Whether the row above is the step of the chain before this one, bool [n]; false for the first row.

    t: the rows' timesteps; num_steps: steps of the chain. A table with all of them has neighbours only; where some were
    not evaluated, t must follow each other directly, which in a respaced chain they never do.
    """
    follows = np.ones(len(t), bool) if len(t) == num_steps else np.diff(t, prepend=t[:1]) == 1
    follows[:1] = False
    return follows


def log_beta_range(t: np.ndarray, log_snr: np.ndarray, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(ln β̃_t, ln β_t) of the chain, the ends of the range of σ²_t; NaN where the step before has no row.

    With ᾱ = sigmoid(λ): β_t = 1 − ᾱ_t/ᾱ_s and β̃_t = β_t (1 − ᾱ_s)/(1 − ᾱ_t), both through ln ᾱ = −ln(1 + e^−λ) and
    ln(1 − ᾱ) = −ln(1 + e^λ), so that neither a small β nor β̃ ≈ β cancels. At the first step ᾱ_s = 1: β_t = 1 − ᾱ_t; β̃_t
    would be 0 and β̃ of the second step stands for it (β_t in a chain of one step).

    Source: Ho et al. 2020, eq. 4 and 7.
    """
    log_alpha_bar, log_rest = -np.logaddexp(0.0, -log_snr), -np.logaddexp(0.0, log_snr)
    usable = neighbours(t, num_steps)
    log_beta, log_ratio = np.full(len(t), np.nan), np.full(len(t), np.nan)
    here = np.flatnonzero(usable)
    log_beta[here] = np.log(-np.expm1(log_alpha_bar[here] - log_alpha_bar[here - 1]))
    log_ratio[here] = log_rest[here - 1] - log_rest[here]
    log_beta_tilde = log_beta + log_ratio
    log_beta[:1] = log_rest[:1]
    log_beta_tilde[:1] = log_beta_tilde[1] if len(t) > 1 else log_beta[0]
    return log_beta_tilde, log_beta


def grid(log_snr: np.ndarray) -> np.ndarray:
    """The multiples of GRID_STEP from the least to the greatest λ, rising, float64 [g]."""
    low, high = np.ceil(log_snr.min() / GRID_STEP), np.floor(log_snr.max() / GRID_STEP)
    return np.arange(low, high + 1) * GRID_STEP


def kl_density(t: np.ndarray, log_snr: np.ndarray, kl: np.ndarray, num_steps: int, points: np.ndarray) -> np.ndarray:
    """The density of Σ_{t≥2} L_{t−1} at points of the grid, bits/dim per unit of log SNR, float64 [g].

    At a point: its mean over the interval of width GRID_STEP around it, each step being level over its own interval. A
    sum over the grid times GRID_STEP therefore is the sum of the kl. NaN where steps with a kl cover less than half of
    the interval. kl: bits/dim, NaN where not evaluated.

    Source: Kingma et al. 2021, Variational diffusion models, eq. 16–18 (the limit of many steps).
    """
    usable = np.flatnonzero(neighbours(t, num_steps) & np.isfinite(kl))
    low, high = log_snr[usable], log_snr[usable - 1]
    left, right = points[:, None] - GRID_STEP / 2, points[:, None] + GRID_STEP / 2
    overlap = np.clip(np.minimum(high, right) - np.maximum(low, left), 0.0, None)
    covered = overlap.sum(1)
    enough = covered >= GRID_STEP / 2
    return np.divide(overlap @ (kl[usable] / (high - low)), covered, out=np.full(len(points), np.nan), where=enough)


def on_grid(
    t: np.ndarray, log_snr: np.ndarray, kl: np.ndarray, errors: dict[str, np.ndarray], num_steps: int
) -> dict[str, np.ndarray]:
    """log_snr (the grid), kl_density and the errors there, float64 [g] each.

    errors: by name, means per dimension at each t; linear in λ between two t. Nothing is extrapolated.
    """
    points = grid(log_snr)
    found = {"log_snr": points, "kl_density": kl_density(t, log_snr, kl, num_steps, points)}
    for name, values in errors.items():
        known = np.isfinite(values)
        found[name] = np.interp(points, log_snr[known][::-1], values[known][::-1], left=np.nan, right=np.nan)
    return found


def table_rows(rows: Sequence[Mapping[str, Any]], lengths: Mapping[str, int]) -> Iterator[list[Any]]:
    """The rows of log_snr_kl.csv, COLUMNS each; None where there is no value.

    rows: of timestep_kl.csv, numbers or text, empty or None where there is no value; lengths: `chain_length` by cell.
    """
    for (cell_id, seed), found in groupby(rows, key=lambda row: (row["cell_id"], row["seed"])):
        cell = list(found)

        def column(name: str, cell: list[Mapping[str, Any]] = cell) -> np.ndarray:
            return np.array([np.nan if row[name] in ("", None) else float(row[name]) for row in cell])

        errors = {name: column(name) for name in COLUMNS[4:]}
        table = on_grid(column("t"), column("log_snr"), column("kl"), errors, lengths[cell_id])
        for values in zip(*(table[name].tolist() for name in COLUMNS[2:]), strict=True):
            yield [cell_id, seed, *(value if np.isfinite(value) else None for value in values)]
