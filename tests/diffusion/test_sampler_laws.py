"""Every sampler is linear in (x_T, z_1, …) where x̂_0 is linear in x_t: its law is read off exactly, with no sampling.

The oracle walks the same chain with the formulas of the papers, in plain floats.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.respacing import kept_timesteps, respace
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.diffusion.samplers.ancestral import Ancestral
from ddpm_bench.diffusion.samplers.ddim import Ddim
from ddpm_bench.diffusion.samplers.dpm_solver import DpmSolver
from ddpm_bench.registry import get, names
from tests import oracles
from tests.slow_samplers import slow_ancestral, slow_ddim, slow_dpm_solver

MEAN, SD = 0.7, 0.25
CHAINS = [
    ("cosine", 40, None), ("linear", 1000, ("linspace", 12)), ("cosine", 100, ("leading", 10)),
    ("linear", 100, ("trailing", 7)), ("cosine", 1000, ("quadratic", 9)), ("cosine", 2, None), ("cosine", 1, None),
]  # fmt: skip


def walked(schedule: str, num_timesteps: int, spacing: tuple[str, int] | None) -> tuple[Process, oracles.Chain]:
    """The chain as the package has it, and as the oracle has it."""
    betas = (oracles.linear_betas if schedule == "linear" else oracles.cosine_betas)(num_timesteps)
    kept = None if spacing is None else kept_timesteps(spacing[0], num_timesteps, spacing[1])
    process = get("schedules", schedule)().process(num_timesteps)
    chain = oracles.chain(betas, None if kept is None else kept.tolist())
    return process if kept is None else respace(process, kept), chain


def denoiser(chain: oracles.Chain) -> list[tuple[float, float]]:
    """(slope, offset) of x̂_0 = E[x_0 | x_t] for N(m, s²), 1 % off so that it is not the optimum."""
    found = []
    for a, b in zip(chain.alpha_bar, chain.one_minus_alpha_bar, strict=True):
        slope = math.sqrt(a) * SD**2 / (a * SD**2 + b)
        found.append((1.01 * slope, MEAN * (1 - slope * math.sqrt(a))))
    return found


def response(sampler: Sampler, process: Process, chain: oracles.Chain) -> tuple[float, float, list[float]]:
    """(shift, factor of x_T, factors of z_1 … z_S) of x_0, from one call with unit vectors as images."""
    size = len(process)
    slopes, offsets = (torch.tensor(column, dtype=torch.float64) for column in zip(*denoiser(chain), strict=True))
    log_sigma2 = get("variances", "beta")().log_sigma2(process, torch.arange(size))
    # Image 0: nothing; image 1: x_T = 1; image 2 + i: z_i = 1.
    x_T = torch.zeros(size + 2, 1, 1, 1, dtype=torch.float64)
    x_T[1] = 1

    def denoise(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return slopes[t].reshape(-1, 1, 1, 1) * x_t + offsets[t].reshape(-1, 1, 1, 1), log_sigma2[t]

    def noise(i: int) -> Tensor:
        z = torch.zeros_like(x_T)
        z[2 + i] = 1
        return z

    x_0 = sampler.sample(denoise, x_T, process, process.timesteps, noise).flatten()
    shift = float(x_0[0])
    return shift, float(x_0[1]) - shift, (x_0[2:] - shift).tolist()


SAMPLERS = {
    "ancestral": (Ancestral(), slow_ancestral),
    "ddim": (Ddim(), slow_ddim(0.0)),
    "ddim(eta=0.5)": (Ddim(eta=0.5), slow_ddim(0.5)),
    "ddim(eta=1)": (Ddim(eta=1.0), slow_ddim(1.0)),
    "dpm_solver": (DpmSolver(), slow_dpm_solver),
}


def test_every_sampler_has_its_law_here() -> None:
    assert {name.partition("(")[0] for name in SAMPLERS} == {name for name in names("samplers") if "/" not in name}


@pytest.mark.parametrize(("schedule", "num_timesteps", "spacing"), CHAINS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_the_exact_law(name: str, schedule: str, num_timesteps: int, spacing: tuple[str, int] | None) -> None:
    process, chain = walked(schedule, num_timesteps, spacing)
    sampler, slow = SAMPLERS[name]
    shift, of_x_T, of_z = response(sampler, process, chain)
    size = len(process)
    rest = [0.0] * size
    # Some hundred operations in float64; 1/√ᾱ_T = 2·10⁴ at most (cosine, T = 1000) multiplies their rounding in ε.
    tolerance = {"rel": 1e-9, "abs": 1e-10}
    lines = denoiser(chain)
    assert shift == pytest.approx(slow(0.0, rest, chain, lines), **tolerance)
    assert of_x_T == pytest.approx(slow(1.0, rest, chain, lines) - shift, **tolerance)
    for i in range(size):
        unit = [float(i == j) for j in range(size)]
        assert of_z[i] == pytest.approx(slow(0.0, unit, chain, lines) - shift, **tolerance)
    assert of_z[0] == 0.0  # no noise at the last step, whatever the spacing
    if isinstance(sampler, DpmSolver) or (isinstance(sampler, Ddim) and sampler.eta == 0):
        assert of_z == [0.0] * size


@pytest.mark.parametrize(("schedule", "num_timesteps", "spacing"), CHAINS)
def test_ddim_with_full_noise_is_ancestral_sampling_with_beta_tilde(
    schedule: str, num_timesteps: int, spacing: tuple[str, int] | None
) -> None:
    """Not its law alone: from the same noise the same image."""
    process, chain = walked(schedule, num_timesteps, spacing)
    shift, of_x_T, of_z = response(Ddim(eta=1.0), process, chain)
    gains, shifts = [], []
    for i, (slope, offset) in enumerate(denoiser(chain)):
        gains.append(chain.posterior_x_0[i] * slope + chain.posterior_x_t[i])
        shifts.append(chain.posterior_x_0[i] * offset)
    mean, variance = oracles.gaussian_law(gains, shifts, [0.0, *chain.posterior_variance[1:]])
    assert shift == pytest.approx(mean, rel=1e-9)
    assert of_x_T**2 + math.fsum(f * f for f in of_z) == pytest.approx(variance, rel=1e-9)


def test_orders_of_convergence() -> None:
    """Against the exact flow for N(0, s²): DDIM is of first order in the step of λ, DPM-Solver++(2M) of second.

    Steps even in λ = ½ ln SNR, as the orders presuppose; with twice as many the errors fall to about 1/2 and 1/4.
    """
    full = get("schedules", "linear")().process(4000)
    half_log_snr = 0.5 * full.snr.log()
    errors: dict[str, list[float]] = {"ddim": [], "dpm_solver": []}
    for count in (20, 40, 80):
        wanted = torch.linspace(float(half_log_snr[0]), float(half_log_snr[-1]), count, dtype=torch.float64)
        kept = torch.tensor([int((half_log_snr - value).abs().argmin()) + 1 for value in wanted]).unique()
        process = respace(full, kept)
        a, b = process.alpha_bar, process.one_minus_alpha_bar
        slope = a.sqrt() * SD**2 / (a * SD**2 + b)

        def denoise(x_t: Tensor, t: Tensor, slope: Tensor = slope) -> tuple[Tensor, Tensor]:
            return slope[t].reshape(-1, 1, 1, 1) * x_t, torch.zeros(len(t), dtype=torch.float64)

        # The probability flow keeps x_t/√(ᾱ_t s² + 1 − ᾱ_t); the last step returns E[x_0 | x_1].
        total = (a * SD**2 + b).sqrt()
        exact = float(total[0] / total[-1] * slope[0])
        for name, solver in (("ddim", Ddim()), ("dpm_solver", DpmSolver())):
            x_T = torch.ones(1, 1, 1, 1, dtype=torch.float64)
            got = float(solver.sample(denoise, x_T, process, process.timesteps, lambda i: torch.zeros(1)))
            errors[name].append(abs(got - exact))
    ratios = {name: [one / two for one, two in itertools.pairwise(found)] for name, found in errors.items()}
    # Terms of the next order are a few percent of these; the first steps of the second are of first order.
    assert all(1.9 < ratio < 2.1 for ratio in ratios["ddim"])
    assert all(3.5 < ratio < 4.5 for ratio in ratios["dpm_solver"])
