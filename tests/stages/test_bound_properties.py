"""What holds for the bound of any network on any data: signs, sums and means, on random draws without a network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ddpm_bench.diffusion.estimators import Draws
from ddpm_bench.diffusion.estimators.full import Full
from ddpm_bench.diffusion.process import Process
from ddpm_bench.registry import get
from ddpm_bench.spec import Reverse
from ddpm_bench.stages._scored import Scored
from ddpm_bench.stages.likelihood import Bound, by_step, compute
from tests.stages.workbench import reverse

VARIANCES = ("beta", "beta_tilde", "optimal", "learned_range")


@st.composite
def scores(draw: st.DrawFn, levels: int | None = 17) -> Scored:
    """A score of a few images on a random chain by a random network, with a head."""
    num_steps, n = draw(st.integers(1, 6)), draw(st.integers(2, 4))
    beta = draw(st.lists(st.floats(1e-4, 0.95), min_size=num_steps, max_size=num_steps))
    process = Process.from_betas(torch.tensor(beta, dtype=torch.float64))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([1e-3, 0.1, 1.0, 30.0]))
    shape = (n, 2, 2, 1)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator)

    level = torch.randint(levels or 17, shape, generator=generator)
    x_0 = 2 * level.float() / ((levels or 17) - 1) - 1
    squared = (size * normal(n, num_steps - 1, 4)).square().sum(-1)
    head, log_beta = normal(n, num_steps - 1, 4), process.beta.log()[1:, None]
    log_tilde = process.beta_tilde.log()[1:, None]
    log_sigma2 = log_tilde + (head.double() + 1) / 2 * (log_beta - log_tilde)
    ratio = log_tilde - log_sigma2
    variance = (0.5 * (torch.expm1(ratio) - ratio)).sum(-1)
    mean = process.posterior_x_0[1:] ** 2 * (squared[..., None] / 4 / (2 * log_sigma2.exp())).sum(-1)
    return Scored(
        process=process,
        estimator=Full(),
        draws=Draws(torch.arange(1, num_steps).expand(n, -1), 2),
        indices=np.arange(n),
        target=level.to(torch.uint8) if levels else x_0,
        x_0=x_0,
        levels=levels,
        squared={"none": squared, "clip": squared * torch.rand(squared.shape, generator=generator)},
        x_0_first=x_0[:, None] + size * normal(n, 2, *shape[1:]),
        eps_norm=None,
        head_first=normal(n, 2, *shape[1:]),
        head=head.mean(-1),
        log_sigma2=log_sigma2.float().mean(-1),
        head_costs=(variance, mean),
    )


def bound_of(scored: Scored, variance: str, **changes: Any) -> tuple[Bound, Reverse]:
    used = reverse(variance=get("variances", variance)(), **changes)
    fit = None
    if variance == "optimal":
        mse = torch.rand(len(scored.process), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        fit = used.variance.fit(scored.process, mse, lambda log_sigma2: (log_sigma2 + 2) ** 2)
    return compute(scored, used, fit, "exact"), used


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    scored=scores(),
    variance=st.sampled_from(VARIANCES),
    thresholding=st.sampled_from(["clip", "none"]),
    first_step=st.sampled_from(["beta_tilde_2", "beta_1"]),
)
def test_no_term_is_negative_and_the_terms_are_the_bound(
    scored: Scored, variance: str, thresholding: str, first_step: str
) -> None:
    bound, _ = bound_of(scored, variance, thresholding=thresholding, first_step=first_step)
    assert bound.terms.dtype == torch.float64
    assert torch.isfinite(bound.terms).all()
    # A divergence is not negative; −ln of the probability of a bin neither, but for the rounding of ln 1.
    assert float(bound.terms[:, 1:].min()) >= 0
    assert float(bound.terms[:, 0].min()) >= -1e-12
    assert float(bound.first.min()) >= -1e-12
    per_draw = bound.variance + bound.mean
    assert float(per_draw.min() if per_draw.numel() else 0) >= 0
    # Sums over t and means over draws, image by image.
    torch.testing.assert_close(bound.terms[:, 0], bound.first.mean(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bound.terms[:, 1], bound.mean.sum(1), rtol=1e-12, atol=0)
    torch.testing.assert_close(bound.terms[:, 2], bound.variance.sum(1), rtol=1e-12, atol=1e-15)
    assert torch.equal(bound.contrasts[:, 3], torch.zeros(len(bound.terms)))  # L_T has no noise


@settings(deadline=None, derandomize=True, max_examples=40)
@given(scored=scores(), variance=st.sampled_from(VARIANCES), factor=st.floats(1.01, 10))
def test_worse_errors_cost_more_and_only_in_the_mean(scored: Scored, variance: str, factor: float) -> None:
    before, _ = bound_of(scored, variance)
    for squared in scored.squared.values():
        squared *= factor
    if scored.head_costs is not None:
        scored.head_costs[1].mul_(factor)
    after, _ = bound_of(scored, variance)
    torch.testing.assert_close(after.terms[:, 1], factor * before.terms[:, 1], rtol=1e-5, atol=0)
    assert torch.equal(after.terms[:, [0, 2, 3]], before.terms[:, [0, 2, 3]])
    torch.testing.assert_close(
        after.network - before.network, after.terms[:, 1] - before.terms[:, 1], rtol=1e-6, atol=1e-9
    )


@settings(deadline=None, derandomize=True, max_examples=40)
@given(scored=scores(), variance=st.sampled_from(VARIANCES))
def test_a_perfect_network_has_no_network_part(scored: Scored, variance: str) -> None:
    scored.x_0_first.copy_(scored.x_0.unsqueeze(1))
    for values in (*scored.squared.values(), *((scored.head_costs[1],) if scored.head_costs else ())):
        values.zero_()
    bound, _ = bound_of(scored, variance)
    assert torch.equal(bound.network, torch.zeros_like(bound.network))
    assert torch.equal(bound.terms[:, 1], torch.zeros_like(bound.network))


@settings(deadline=None, derandomize=True, max_examples=30)
@given(scored=scores(levels=None), variance=st.sampled_from(VARIANCES))
def test_real_values_have_a_density(scored: Scored, variance: str) -> None:
    """L_0 of a density may be negative, no other term; it exceeds that of a perfect mean by |d|²/(2σ²)."""
    bound, used = bound_of(scored, variance, thresholding="none")
    assert float(bound.terms[:, 1:].min()) >= 0
    if variance in ("beta", "beta_tilde"):
        sigma2 = float(used.variance.log_sigma2(scored.process, torch.tensor([0])).exp())
        squared = (scored.x_0.unsqueeze(1) - scored.x_0_first).double().square().flatten(2).sum(2).mean(1)
        excess = squared / (2 * sigma2) / (scored.num_dims * math.log(2))
        torch.testing.assert_close(bound.network - bound.terms[:, 1], excess, rtol=1e-5, atol=1e-9)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(data=st.data(), n=st.integers(1, 5), m=st.integers(0, 6), steps=st.integers(1, 5))
def test_means_by_step_are_those_of_a_loop(data: st.DataObject, n: int, m: int, steps: int) -> None:
    t = (
        torch.tensor(data.draw(st.lists(st.integers(0, steps - 1), min_size=n * m, max_size=n * m)))
        .reshape(n, m)
        .long()
    )
    values = torch.tensor(data.draw(st.lists(st.floats(-10, 10), min_size=n * m, max_size=n * m))).reshape(n, m)
    mean, error = by_step(values, t, steps)
    for step in range(steps):
        here = values[t == step].double().tolist()
        if not here:
            assert math.isnan(mean[step])
        else:
            assert abs(float(mean[step]) - np.mean(here)) < 1e-12
        if len(here) < 2:
            assert math.isnan(error[step])
        else:
            # The square root of a sum of squares that may be roundings alone.
            assert abs(float(error[step]) - np.std(here, ddof=1) / math.sqrt(len(here))) < 1e-7
