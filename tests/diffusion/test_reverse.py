"""From the network's output to the mean of p_θ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_bench.diffusion.respacing import respace
from ddpm_bench.diffusion.reverse import DYNAMIC_QUANTILE, THRESHOLDINGS, p_mean, p_x_0, split_head
from ddpm_bench.registry import get, names
from tests import oracles

PROCESS = get("schedules", "cosine")().process(100)


@pytest.mark.parametrize("name", ["epsilon", "mu", "v", "x0"])
def test_one_rule_of_clipping_for_all_predictions(name):
    """x̂_0 is clipped, and the mean is formed again from it, also where the network predicts the mean itself."""
    prediction = get("predictions", name)()
    t = torch.tensor([60])
    x_0, eps = torch.tensor([0.3, -0.4]), torch.tensor([1.1, -0.2])
    x_0, eps = x_0.double().reshape(1, 1, 1, 2), eps.double().reshape(1, 1, 1, 2)
    x_t = PROCESS.q_sample(x_0, t, eps)
    estimate = torch.tensor([1.7, -0.5], dtype=torch.float64).reshape(1, 1, 1, 2)
    output = prediction.target(estimate, PROCESS.eps_from_x_0(estimate, x_t, t), t, PROCESS)
    chain = oracles.chain(PROCESS.beta.tolist())
    for thresholding, kept in [("none", [1.7, -0.5]), ("clip", [1.0, -0.5])]:
        pred_x_0 = p_x_0(output, x_t, t, PROCESS, prediction, thresholding)
        assert pred_x_0.flatten().tolist() == pytest.approx(kept, rel=1e-12)
        mean = p_mean(pred_x_0, x_t, t, PROCESS).flatten().tolist()
        expected = [
            chain.posterior_x_0[60] * x + chain.posterior_x_t[60] * y
            for x, y in zip(kept, x_t.flatten().tolist(), strict=True)
        ]
        assert mean == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", names("predictions"))
def test_the_estimate_belongs_to_the_chain_of_the_training(name):
    """ε, v and x_0 depend on ᾱ_t alone, but μ on the step: a respaced chain reads another x̂_0 from it."""
    prediction, short = get("predictions", name)(), respace(PROCESS, torch.tensor([1, 40, 80]))
    index = torch.tensor([1])
    x_0, eps = torch.full((1, 1, 1, 1), 0.3).double(), torch.full((1, 1, 1, 1), 1.1).double()
    x_t, t = short.q_sample(x_0, index, eps), short.original_index(index)
    output = prediction.target(x_0, eps, t, PROCESS)
    found = p_x_0(output, x_t, t, PROCESS, prediction, "none")
    torch.testing.assert_close(found, x_0, rtol=1e-11, atol=0)
    elsewhere = p_x_0(output, x_t, index, short, prediction, "none")
    assert torch.allclose(elsewhere, x_0, rtol=1e-9) == (name != "mu")


def test_the_mean_of_the_first_step_is_the_estimate():
    pred_x_0, x_1 = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    assert torch.equal(p_mean(pred_x_0, x_1, torch.zeros(4, dtype=torch.int64), PROCESS), pred_x_0)


def test_thresholdings():
    values = torch.tensor([-3.0, -1.0, 0.2, 1.0, 1.01])
    assert THRESHOLDINGS["clip"](values).tolist() == torch.tensor([-1.0, -1.0, 0.2, 1.0, 1.0]).tolist()
    assert torch.equal(THRESHOLDINGS["none"](values), values)


def test_the_head_is_the_second_half_of_the_channels():
    output = torch.randn(2, 6, 4, 4)
    mean, head = split_head(output, 3)
    assert torch.equal(mean, output[:, :3])
    assert head is not None
    assert torch.equal(head, output[:, 3:])
    assert split_head(output, 6)[1] is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("scale", [0.3, 1.5])
def test_dynamic_thresholding_by_numpy(shape: tuple[int, int, int], scale: float) -> None:
    values = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    got = THRESHOLDINGS["dynamic"](values)
    for image, found in zip(values.numpy(), got.numpy(), strict=True):
        s = max(1.0, float(np.quantile(np.abs(image), 0.995)))
        np.testing.assert_allclose(found, np.clip(image, -s, s) / s, rtol=1e-12)
    assert float(got.abs().max()) <= 1.0
    assert torch.equal(THRESHOLDINGS["dynamic"](values[2:3]), got[2:3])  # an image's own affair
    assert THRESHOLDINGS["dynamic"](values.float()).dtype == torch.float32
    assert DYNAMIC_QUANTILE == 0.995


def test_dynamic_thresholding_leaves_images_in_range_alone() -> None:
    values = torch.tensor([-1.0, -0.4, 0.2, 1.0]).reshape(1, 1, 2, 2)
    assert torch.equal(THRESHOLDINGS["dynamic"](values), values)
