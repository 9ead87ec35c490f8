"""What the sample stage draws from a linear network has the mean and variance of its closed form, for every sampler."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.diffusion.respacing import SPACINGS, kept_timesteps
from ddpm_bench.diffusion.samplers.ancestral import Ancestral
from ddpm_bench.diffusion.samplers.ddim import Ddim
from ddpm_bench.diffusion.samplers.dpm_solver import DpmSolver
from ddpm_bench.networks.closed_form import ClosedForm
from ddpm_bench.registry import names
from tests import oracles
from tests.slow_samplers import law, slow_ancestral, slow_ddim, slow_dpm_solver
from tests.stages.workbench import Bench, reverse, training

MEAN, SD, ERROR, T, STEPS, CHUNKS = 0.7, 0.5, 0.05, 60, 6, 3
SAMPLERS = {
    "ancestral": (Ancestral(), slow_ancestral),
    "ddim": (Ddim(), slow_ddim(0.0)),
    "ddim(eta=1)": (Ddim(eta=1.0), slow_ddim(1.0)),
    "dpm_solver": (DpmSolver(), slow_dpm_solver),
}


def lines(kept: list[int]) -> list[tuple[float, float]]:
    """(slope, offset) of x̂_0 at the kept t: E[x_0 | x_t] of N(m, s²), the gain of the full mean 5 % too large."""
    full = oracles.chain(oracles.cosine_betas(T))
    found = []
    for t in kept:
        a, b, c, d = (
            column[t - 1]
            for column in (full.alpha_bar, full.one_minus_alpha_bar, full.posterior_x_0, full.posterior_x_t)
        )
        slope = math.sqrt(a) * SD**2 / (a * SD**2 + b)
        found.append((slope + ERROR * (c * slope + d) / c, MEAN * b / (a * SD**2 + b)))
    return found


@pytest.mark.parametrize("spacing", [None, *SPACINGS])
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_generated_law(tmp_path: Path, name: str, spacing: str | None) -> None:
    bench = Bench(tmp_path / "runs")
    shape = (1, 8, 8)
    empty = {split: np.zeros((8, *shape), dtype=np.float32) for split in ("train", "validation", "test")}
    data = bench.data_of(Gaussian(mean=MEAN, standard_deviation=SD), empty)
    model = bench.model(data, training(network=ClosedForm(relative_error=ERROR), timesteps=T))
    kept = list(range(1, T + 1)) if spacing is None else kept_timesteps(spacing, T, STEPS).tolist()
    sampler, slow = SAMPLERS[name]
    used = reverse(sampler=sampler, timesteps=None if spacing is None else tuple(kept), thresholding="none")
    chunks = [
        bench.run("sample", {"reverse": used, "chunk": chunk, "count": 128}, {"train": model})
        for chunk in range(CHUNKS)
    ]
    values = np.concatenate([np.load(chunk.path / "samples.npy") for chunk in chunks]).astype(np.float64).ravel()
    chain = oracles.chain(oracles.cosine_betas(T), None if spacing is None else kept)
    mean, variance = law(slow, chain, lines(kept))
    n = values.size
    # Four standard errors of the mean and the variance of n independent normal values; float32 costs 1e-6.
    assert abs(values.mean() - mean) < 4 * math.sqrt(variance / n)
    assert abs(values.var(ddof=1) - variance) < 4 * variance * math.sqrt(2 / n)
    # The check can fail: the data's own variance, which a perfect chain would have, is further away than that.
    assert abs(variance - SD**2) > 8 * variance * math.sqrt(2 / n)


def test_every_sampler_is_here() -> None:
    assert {name.partition("(")[0] for name in SAMPLERS} == {name for name in names("samplers") if "/" not in name}
