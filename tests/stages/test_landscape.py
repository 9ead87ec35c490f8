"""Landscapes: a plane through real weights, a loss that is known on it, and files that say what was measured."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_bench.diffusion.predictions.v import V
from ddpm_bench.diffusion.predictions.x0 import X0
from ddpm_bench.identity import canonical
from ddpm_bench.networks import Problem
from ddpm_bench.networks.unet import Unet
from ddpm_bench.stages._checkpoints import save_weights
from ddpm_bench.stages.landscape import LEAST_HEIGHT, MARGIN, grid_axes, num_calls, plane_of
from ddpm_bench.store import Artifact
from tests.stages.workbench import Bench, network, options, training, weights

SHAPE = {"points": 5, "images": 6, "split": "test"}


@pytest.fixture
def bench(tmp_path: Any) -> Bench:
    return Bench(tmp_path / "runs")


def made(bench: Bench, checkpoints: list[Artifact], used: str = "ema", **changes: Any) -> Artifact:
    data = bench.store.get(*checkpoints[-1].manifest["inputs"]["data"])
    spec = {"weights": used, **SHAPE, **changes}
    return bench.run("landscape", spec, {"checkpoints": checkpoints, "data": data})


def content(artifact: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifact.path / "landscape.json").read_text(encoding="utf-8"))
    return found


def trained(bench: Bench, steps: list[int], **changes: Any) -> list[Artifact]:
    data = bench.data()
    return [bench.train(step, data, training(**changes)) for step in steps]


def flat(artifact: Artifact, used: str) -> np.ndarray:
    return np.concatenate([value.double().numpy().ravel() for _, value in sorted(weights(artifact, used).items())])


# The plane, through a U-Net's weights


@pytest.mark.parametrize("used", ["ema", "raw"])
def test_coordinates_are_those_of_the_weights(bench: Bench, used: str) -> None:
    checkpoints = trained(bench, [0, 2, 4, 6, 8])
    found = content(made(bench, checkpoints, used))
    x = np.stack([flat(item, used) for item in checkpoints])
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    wanted = u[:, :2] * s[:2] * np.sign(u[-1, :2])
    np.testing.assert_allclose(found["coordinates"], wanted, atol=1e-9 * s[0])
    np.testing.assert_allclose(found["shares"], (s**2 / (s**2).sum())[:4], atol=1e-9)
    assert found["num_parameters"] == x.shape[1]
    assert found["steps"] == [0, 2, 4, 6, 8]


def test_three_checkpoints_are_in_the_plane_exactly(bench: Bench) -> None:
    """Combinations in float64 are float32 weights after rounding, those that are 0 apart, which become 10⁻¹⁷."""
    checkpoints = trained(bench, [0, 2, 4])
    found = content(made(bench, checkpoints))
    for name in ("bits_per_dim", "epsilon_mse"):
        np.testing.assert_allclose(found["projected"][name], found[name], rtol=1e-6)
        assert np.abs(np.diff(found[name])).min() > 1e-4
    module = network(checkpoints[0])
    plane, surface = plane_of([item.path / "ema.safetensors" for item in checkpoints], module)
    for place, item in zip(plane.coordinates.tolist(), checkpoints, strict=True):
        state = surface.put(*place).state_dict()
        for name, value in weights(item, "ema").items():
            assert torch.equal(torch.where(value == 0, 0.0, state[name]), value)
            assert float((state[name] - value).abs().max()) < 1e-15


def test_more_checkpoints_leave_the_plane(bench: Bench) -> None:
    found = content(made(bench, trained(bench, [0, 2, 4, 6, 8])))
    assert found["projected"]["bits_per_dim"] != found["bits_per_dim"]
    assert sum(found["shares"][:2]) < 1


def test_directions_are_orthonormal_and_start_at_the_mean(bench: Bench) -> None:
    checkpoints = trained(bench, [0, 3, 5, 7])
    module = network(checkpoints[0])
    _, surface = plane_of([item.path / "ema.safetensors" for item in checkpoints], module)
    both = torch.cat([values.flatten(1) for values in surface.directions.values()], dim=1)
    torch.testing.assert_close(both @ both.T, torch.eye(2, dtype=torch.float64))
    for name, value in surface.origin.items():
        mean = torch.stack([weights(item, "ema")[name].double() for item in checkpoints]).mean(0)
        torch.testing.assert_close(value, mean)


# A loss that is known: the ε-MSE of a network that is linear in its weights is a quadratic form


class LinearInWeights(nn.Module):
    """ε̂ = (w_0 + w_1 t/T) x_t + w_2 + w_3 mean(x_t), said as whatever the problem wants to be predicted; with a buffer
    that is no weight."""

    def __init__(self, problem: Problem):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4))
        self.register_buffer("count", torch.zeros(()))
        self.process, self.prediction = problem.process, problem.prediction

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha_bar = self.process.alpha_bar[t].reshape(-1, 1, 1, 1)
        scale = (self.w[0] + self.w[1] * t / len(self.process)).reshape(-1, 1, 1, 1)
        eps = (scale * x_t + self.w[2] + self.w[3] * x_t.mean(dim=(1, 2, 3), keepdim=True)).double()
        x_0 = (x_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
        return self.prediction.target(x_0, eps, t, self.process).float()


W = [[1.0, 0.5, -0.3, 0.0], [0.7, 0.1, 0.2, -0.4], [0.2, -0.2, 0.4, 0.3], [0.1, 0.3, 0.1, 0.1]]


def linear_checkpoints(bench: Bench, count: int, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Artifact]:
    """Artifacts of the linear network with weights W, at steps 0, 10, 20, …; other ones in raw."""
    monkeypatch.setattr(Unet, "build", lambda self, problem: LinearInWeights(problem))
    data, chosen, found = bench.data(levels=changes.pop("levels", 17)), training(**changes), []
    info = data.manifest["info"]
    for i in range(count):
        manifest: dict[str, Any] = {
            "spec": canonical({"training": chosen, "steps": 10 * i}), "inputs": {"data": ["data", data.path.name]},
            "info": {"shape": info["shape"], "levels": info["levels"], "dataset": data.manifest["spec"]["dataset"]},
        }  # fmt: skip
        with bench.store.create("train", f"{i:064x}", manifest) as out:
            for name, sign in (("ema", 1.0), ("raw", -1.0)):
                state = {"w": sign * torch.tensor(W[i]), "count": torch.tensor(float(i))}
                save_weights(out / f"{name}.safetensors", state)
        found.append(bench.store.get("train", f"{i:064x}"))
    return found


def quadratic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The six monomials of a quadratic form at places. [N] → [N, 6]."""
    return np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=1)


@pytest.mark.parametrize("levels", [17, None])
def test_the_grid_of_a_quadratic_loss(bench: Bench, monkeypatch: pytest.MonkeyPatch, levels: int | None) -> None:
    """Rows along component 2, columns along component 1: the quadratic form through the grid has the checkpoints'
    own losses at their coordinates. A grid that is turned around has not."""
    artifact = made(bench, linear_checkpoints(bench, 3, monkeypatch, levels=levels))
    found, grid = content(artifact), np.load(artifact.path / "epsilon_mse.npy")
    first, second = np.meshgrid(*found["axes"])
    form, *_ = np.linalg.lstsq(quadratic(first.ravel(), second.ravel()), grid.ravel(), rcond=None)
    # x̂_0 is float32: ε is recovered with an error of 10⁻⁷ √SNR, of at most 10 here, in a mean over some hundred.
    np.testing.assert_allclose(quadratic(first.ravel(), second.ravel()) @ form, grid.ravel(), rtol=1e-5)
    places = np.array(found["coordinates"])
    np.testing.assert_allclose(quadratic(*places.T) @ form, found["epsilon_mse"], rtol=1e-5)
    turned, *_ = np.linalg.lstsq(quadratic(second.ravel(), first.ravel()), grid.ravel(), rcond=None)
    assert np.abs(quadratic(*places.T) @ turned / found["epsilon_mse"] - 1).max() > 0.01


def test_buffers_are_no_weights(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count that the module holds grows from 0 to 3 and is in no component."""
    found = content(made(bench, linear_checkpoints(bench, 4, monkeypatch)))
    x = np.array(W) - np.mean(W, axis=0)
    singular = np.linalg.svd(x, compute_uv=False)
    np.testing.assert_allclose(found["shares"], (singular**2 / (singular**2).sum())[:3], atol=1e-6)
    assert found["num_parameters"] == 4


def test_raw_and_averaged_weights_are_two_landscapes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = linear_checkpoints(bench, 3, monkeypatch)
    averaged, raw = (content(made(bench, checkpoints, used)) for used in ("ema", "raw"))
    assert averaged["epsilon_mse"] != raw["epsilon_mse"]
    assert averaged["null"] == raw["null"]
    assert averaged["null_averaged"] is not None
    assert raw["null_averaged"] is None


def test_weights_without_an_average_have_one_null(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = linear_checkpoints(bench, 3, monkeypatch, options={"ema_decay": 0.0})
    assert content(made(bench, checkpoints))["null_averaged"] is None


def test_a_loss_that_is_not_finite_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """10³⁰ x_t has an infinite square in float32."""
    monkeypatch.setattr("tests.stages.test_landscape.W", [[1e30, 0, 0, 0], [0, 1e30, 0, 0], [0.0, 0.1, 0.2, 0.0]])
    artifact = made(bench, linear_checkpoints(bench, 3, monkeypatch))
    found = content(artifact)
    assert found["bits_per_dim"][:2] == [None, None]
    assert found["bits_per_dim"][2] > 0
    assert not np.isfinite(np.load(artifact.path / "bits_per_dim.npy")).all()


# What every landscape shares


@pytest.mark.parametrize("changes", [{"prediction": X0()}, {"prediction": V()}, {"seed": 3}])
def test_losses_are_in_units_that_all_variants_share(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """The same x̂_0 as the output of another prediction, or of another seed, on the same (image, t, ε)."""
    grids = []
    for name, kind in (("one", {}), ("other", changes)):
        bench = Bench(tmp_path / name)
        artifact = made(bench, linear_checkpoints(bench, 3, monkeypatch, **kind))
        grids.append([np.load(artifact.path / f"{loss}.npy") for loss in ("bits_per_dim", "epsilon_mse")])
    # Outputs are float32: 10⁻⁷ of x̂_0, whose square is weighted with SNR of at most 100 at T = 10.
    np.testing.assert_allclose(grids[0], grids[1], rtol=1e-4)


def test_the_null_is_that_of_the_steps(bench: Bench) -> None:
    """Five checkpoints at equal distances: eigenvalues 1/(4 sin²(kπ/10)), sum 4."""
    found = content(made(bench, trained(bench, [0, 2, 4, 6, 8])))
    wanted = [1 / (4 * math.sin(k * math.pi / 10) ** 2) / 4 for k in range(1, 5)]
    np.testing.assert_allclose(found["null"], wanted, atol=1e-12)
    assert sum(found["null_averaged"][:2]) > sum(found["null"][:2])


def test_files_and_calls(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """t = 1 and eight more of each image; six images are one call, not a chunk's 128."""
    checkpoints, sizes = trained(bench, [0, 2, 4]), []
    forward = type(network(checkpoints[0])).forward

    def counting(self: Any, x: Tensor, t: Tensor) -> Tensor:
        sizes.append(len(x))
        return forward(self, x, t)

    monkeypatch.setattr("ddpm_bench.networks.unet.UnetModule.forward", counting)
    artifact = made(bench, checkpoints)
    assert {file.name for file in artifact.path.iterdir()} == {
        "manifest.json", "landscape.json", "bits_per_dim.npy", "epsilon_mse.npy",
    }  # fmt: skip
    calls = (5**2 + 2 * 3) * 6 * 9
    assert set(sizes) == {6}
    assert sum(sizes) == artifact.manifest["info"]["network_calls"] == calls == num_calls(6, 5, 3, 10)
    for name in ("bits_per_dim", "epsilon_mse"):
        grid = np.load(artifact.path / f"{name}.npy")
        assert grid.shape == (5, 5)
        assert grid.dtype == np.float64
    assert content(artifact)["draws_per_image"] == 9
    assert "progress" in bench.log(artifact)


def test_two_runs_are_equal_bit_for_bit(tmp_path: Any) -> None:
    found = []
    for name in ("one", "other"):
        bench = Bench(tmp_path / name)
        artifact = made(bench, trained(bench, [0, 2, 4]))
        found.append({file: digest["sha256"] for file, digest in artifact.manifest["files"].items()})
    assert found[0] == found[1]


def test_the_grid_encloses_the_path_with_a_margin() -> None:
    path = np.array([[-3.0, 1.0], [0.0, -2.0], [5.0, 2.0]])
    first, second = grid_axes(path, 9)
    assert (first[0], first[-1]) == pytest.approx((-3 - 8 * MARGIN, 5 + 8 * MARGIN))
    assert second[-1] - second[0] == pytest.approx(max(4 * (1 + 2 * MARGIN), LEAST_HEIGHT * (first[-1] - first[0])))
    assert (second[0] + second[-1]) / 2 == pytest.approx(0)
    flat_path = path * [1, 1e-3]
    assert np.ptp(grid_axes(flat_path, 9)[1]) == pytest.approx(LEAST_HEIGHT * np.ptp(grid_axes(flat_path, 9)[0]))


def test_the_average_of_the_null_is_the_training_s(bench: Bench) -> None:
    """Its decay, warm-up included: with that of the options another null."""
    assert options()["ema_decay"] == 0.9
    one, other = (
        content(made(Bench(bench.runs / str(decay)), trained(Bench(bench.runs / str(decay)), [0, 20, 40],
                                                             options={"ema_decay": decay})))
        for decay in (0.9, 0.1)
    )  # fmt: skip
    assert one["null"] == other["null"]
    assert one["null_averaged"][0] > other["null_averaged"][0]
