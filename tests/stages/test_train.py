"""A training against a plain loop over the same batches: optimiser, warm-up, clipping, average, curves."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.diffusion.losses.vlb import Vlb
from ddpm_bench.diffusion.predictions.x0 import X0
from ddpm_bench.diffusion.variances.beta import Beta
from ddpm_bench.spec import Training
from ddpm_bench.stages._batches import Batches
from ddpm_bench.stages._model import build_network
from ddpm_bench.store import Artifact
from tests.oracles import chain, cosine_betas
from tests.stages.workbench import SMALL, Bench, table, training, weights

INVARIANT = "middle_attention.key.bias"
"""The softmax of attention ignores it: its gradient is rounding noise, which Adam turns into steps of full length."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


def initial(chosen: Training) -> nn.Module:
    return build_network(chosen, Digits(), (1, 4, 4), "cpu")


def plain_loop(chosen: Training, data: Artifact, steps: int) -> dict[str, Any]:
    """ε-prediction under L_simple by hand: raw and averaged weights, and per step loss, rate and gradient norm."""
    settings = chosen.options
    values = torch.from_numpy(np.load(data.path / "train.npy"))
    batches = Batches(chosen.seed, values, 17, chosen.timesteps, settings["batch_size"], settings["horizontal_flips"])
    alpha_bar = torch.tensor(chain(cosine_betas(chosen.timesteps)).alpha_bar)
    net = initial(chosen)
    average = {name: value.double().clone() for name, value in net.state_dict().items()}
    first = {p: torch.zeros_like(p) for p in net.parameters()}
    second = {p: torch.zeros_like(p) for p in net.parameters()}
    record: list[tuple[float, float, float]] = []
    for n in range(1, steps + 1):
        _, x_0, t, eps = batches.draw(n - 1, "cpu")
        kept = alpha_bar[t].reshape(-1, 1, 1, 1)
        output = net((kept.sqrt() * x_0 + (1 - kept).sqrt() * eps).float(), t)
        loss = ((eps - output) ** 2).mean()
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
        scale = min(1.0, settings["gradient_clip"] / norm) if settings["gradient_clip"] else 1.0
        rate = settings["learning_rate"] * min(1.0, n / max(settings["warmup_steps"], 1))
        with torch.no_grad():
            for p, g in zip(net.parameters(), gradients, strict=True):
                first[p] = 0.9 * first[p] + 0.1 * g * scale
                second[p] = 0.999 * second[p] + 0.001 * (g * scale) ** 2
                p -= rate * settings["weight_decay"] * p  # decoupled, before the step: Loshchilov & Hutter 2019
                p -= rate * first[p] / (1 - 0.9**n) / ((second[p] / (1 - 0.999**n)).sqrt() + 1e-8)
        decay = min(settings["ema_decay"], (1 + n) / (10 + n))
        for name, value in net.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value.double()
        record.append((float(loss.detach()), rate, norm))
    return {"raw": net.state_dict(), "ema": average, "record": record}


def assert_weights(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float) -> None:
    assert got.keys() == want.keys()
    for name in got:
        if name != INVARIANT:
            assert float((got[name].double() - want[name].double()).abs().max()) < tolerance, name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warmup_steps": 8},
        {"ema_decay": 0.2},  # below (1 + n)/(10 + n) from n = 2 on
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"gradient_clip": 1.2},
        {"horizontal_flips": True},
    ],
    ids=lambda changes: "-".join(changes) or "defaults",
)
def test_weights_and_average_against_a_plain_loop(bench: Bench, changes: dict[str, Any]) -> None:
    steps, data = 24, bench.data()
    chosen = training(options=changes)
    want = plain_loop(chosen, data, steps)
    found = bench.train(steps, data, chosen)
    # Gradients agree to 1e-7 of their largest terms (sums in another order); Adam divides by their size, so a step of
    # 1e-3 differs by 1e-10 where a gradient is typical and by 1e-7 where it is a thousandth of that. Weights near 1 are
    # rounded by 6e-8 a step. After 24 steps: below 3e-6. An option that is ignored moves weights by 2.4e-4: next test.
    assert_weights(weights(found, "raw"), want["raw"], 3e-6)
    assert_weights(weights(found, "ema"), want["ema"], 3e-6)
    start = initial(chosen).state_dict()
    moved = max(float((want["raw"][name] - start[name]).abs().max()) for name in start)
    assert moved > 5e-3  # otherwise nothing was tested
    row = next(row for row in table(found.path / "curves.csv") if row["step"] == 20)
    losses, rates, norms = zip(*want["record"][:20], strict=True)
    assert row["loss"] == pytest.approx(sum(losses) / 20, rel=1e-5)
    assert row["gradient_norm"] == pytest.approx(sum(norms) / 20, rel=1e-4)
    assert row["learning_rate"] == pytest.approx(rates[-1], rel=1e-12)
    share = found.manifest["info"]["clipped_share"]
    clip = changes.get("gradient_clip")
    all_norms = [norm for *_, norm in want["record"]]
    assert share == (sum(norm > clip for norm in all_norms) / steps if clip else None)
    if clip:
        assert 0 < share < 1  # the bound lies inside the range of the norms


def test_the_plain_loop_notices_each_option(bench: Bench) -> None:
    """The comparison above could not pass with an option ignored: every one of them moves the weights."""
    data = bench.data()
    plain = plain_loop(training(), data, 24)
    for changes in ({"warmup_steps": 8}, {"optimizer": "adamw", "weight_decay": 0.1}, {"gradient_clip": 1.2},
                    {"horizontal_flips": True}):  # fmt: skip
        other = plain_loop(training(options=changes), data, 24)
        assert max(float((plain["raw"][k] - other["raw"][k]).abs().max()) for k in plain["raw"]) > 2.4e-4
    other = plain_loop(training(options={"ema_decay": 0.2}), data, 24)
    assert max(float((plain["ema"][k] - other["ema"][k]).abs().max()) for k in plain["ema"]) > 2.4e-4


def test_warm_up_rates_in_the_curves(bench: Bench) -> None:
    found = bench.train(80, bench.data(), training(options={"warmup_steps": 50}), validate_every=1000)
    rates = {int(row["step"]): row["learning_rate"] for row in table(found.path / "curves.csv") if row["learning_rate"]}
    # The row of a step holds the rate of that step: 1e-3 · step/50 up to 50 steps.
    assert rates == pytest.approx({20: 4e-4, 40: 8e-4, 60: 1e-3, 80: 1e-3}, rel=1e-12)


def test_no_average(bench: Bench) -> None:
    found = bench.train(5, bench.data(), training(options={"ema_decay": 0.0}))
    assert (found.path / "ema.safetensors").read_bytes() == (found.path / "raw.safetensors").read_bytes()
    averaged = bench.train(5, bench.data(), training(options={"ema_decay": 0.9}))
    assert (averaged.path / "ema.safetensors").read_bytes() != (averaged.path / "raw.safetensors").read_bytes()
    assert (averaged.path / "raw.safetensors").read_bytes() == (found.path / "raw.safetensors").read_bytes()


def test_a_bound_that_clips_nothing_changes_no_bit(bench: Bench) -> None:
    data = bench.data()
    found = bench.train(24, data, training(options={"gradient_clip": 1e6}))
    free = bench.train(24, data, training())
    for name in ("raw.safetensors", "ema.safetensors", "curves.csv"):
        assert (found.path / name).read_bytes() == (free.path / name).read_bytes()
    assert found.manifest["info"]["clipped_share"] == 0.0
    assert free.manifest["info"]["clipped_share"] is None


def test_clipping_bounds_the_norm_of_the_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    step = torch.optim.Adam.step

    def spy(self: torch.optim.Adam, *arguments: Any, **more: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradients)))
        return step(self, *arguments, **more)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    found = bench.train(20, bench.data(), training(options={"gradient_clip": 1.2}))
    recorded = table(found.path / "curves.csv")[-1]["gradient_norm"]
    assert len(norms) == 20
    assert max(norms) <= 1.2 * (1 + 1e-6)  # scaled in float32
    share = found.manifest["info"]["clipped_share"]
    assert sum(norm > 1.2 * (1 - 1e-5) for norm in norms) / 20 == share  # torch divides by norm + 1e-6: just below
    assert recorded > sum(norms) / 20  # the curve shows the norms before clipping


@pytest.mark.parametrize("loss", ["simple", "vlb"])
def test_micro_batches_give_the_same_weights(tmp_path: Path, loss: str) -> None:
    chosen = training() if loss == "simple" else training(loss=Vlb(variance=Beta(), first_step="beta_tilde_2"))
    found = []
    for size in (None, 4, 5, 16):  # 5 leaves a last part of one image
        bench = Bench(tmp_path / str(size))
        found.append(bench.train(20, bench.data(), chosen, micro_batch=size))
    for other in found[1:]:
        # Partial sums of a gradient differ by 1e-7 of its largest terms from one sum. Adam divides by the size of the
        # gradient: a step of 1e-3 differs by 1e-10 where that is typical, by 1e-7 where it is a thousandth of that.
        # Twenty steps add up to 2e-6.
        assert_weights(weights(other, "raw"), weights(found[0], "raw"), 2e-6)
        assert_weights(weights(other, "ema"), weights(found[0], "ema"), 2e-6)
    # Adam would hide a mean over each part in place of the batch, which quadruples the gradients. Their norms show it.
    norms = [table(item.path / "curves.csv")[-1]["gradient_norm"] for item in found]
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-5)
    losses = [table(item.path / "curves.csv")[-1]["loss"] for item in found]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


def test_bfloat16_trains_and_keeps_float32_weights(bench: Bench) -> None:
    data, steps = bench.data(), 20
    found = bench.train(steps, data, training(options={"precision": "bfloat16"}))
    exact = bench.train(steps, data, training())
    start = initial(training()).state_dict()
    for name in ("raw", "ema"):
        assert {value.dtype for value in weights(found, name).values()} == {torch.float32}
    got, want = (weights(item, "raw") for item in (found, exact))
    moved = math.sqrt(sum(float((want[k] - start[k]).square().sum()) for k in want))
    apart = math.sqrt(sum(float((want[k] - got[k]).square().sum()) for k in want))
    assert 0 < apart < 0.5 * moved  # eight bits of the products: another path, the same way
    losses = [table(item.path / "curves.csv")[-1]["loss"] for item in (found, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)  # 2⁻⁸ relative in each output, averaged over 5000 of them
    assert losses[0] != losses[1]


def test_no_steps_leave_the_initial_weights(bench: Bench) -> None:
    found = bench.train(0, bench.data())
    want = initial(training()).state_dict()
    for name in ("raw", "ema"):
        got = weights(found, name)
        assert got.keys() == want.keys()
        assert all(torch.equal(got[key], want[key]) for key in want)
    rows = table(found.path / "curves.csv")
    assert [row["step"] for row in rows] == [0]
    assert rows[0]["loss"] is None
    # The output is zero at initialisation, so the ε error is the mean square of ε.
    draws = 6 * 9 * 16  # images × t × pixels
    assert rows[0]["validation_epsilon_mse"] == pytest.approx(1, abs=5 * math.sqrt(2 / draws))
    assert found.manifest["info"]["num_parameters"] == sum(value.numel() for value in want.values())
    assert "train_seconds" not in found.manifest["timings"]


def test_variants_of_a_seed_share_weights_and_seeds_do_not() -> None:
    first, other = initial(training()).state_dict(), initial(training(prediction=X0())).state_dict()
    assert all(torch.equal(first[key], other[key]) for key in first)
    longer = initial(training(timesteps=50, options={"learning_rate": 0.1})).state_dict()
    assert all(torch.equal(first[key], longer[key]) for key in first)
    second = initial(training(seed=1)).state_dict()
    random = [key for key in first if len(first[key].unique()) > 1 and not key.startswith("norm")]
    assert len(random) > 10
    assert not any(torch.equal(first[key], second[key]) for key in random)


def test_building_a_network_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    want = torch.rand(4)
    torch.manual_seed(3)
    initial(training())
    assert torch.equal(torch.rand(4), want)


@pytest.mark.parametrize("prediction", ["epsilon", "x0"])
def test_all_predictions_train_on_the_same_draws(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, prediction: str
) -> None:
    seen: list[tuple[Tensor, ...]] = []
    draw = Batches.draw

    def spy(self: Batches, step: int, device: str) -> tuple[Tensor, ...]:
        seen.append(draw(self, step, device))
        return seen[-1]

    monkeypatch.setattr(Batches, "draw", spy)
    data = bench.data()
    bench.train(3, data, training() if prediction == "epsilon" else training(prediction=X0()))
    values = torch.from_numpy(np.load(data.path / "train.npy"))
    want = [draw(Batches(0, values, 17, 10, 16, False), step, "cpu") for step in range(3)]
    assert len(seen) == 3
    assert all(
        torch.equal(a, b) for got, right in zip(seen, want, strict=True) for a, b in zip(got, right, strict=True)
    )


def test_dropout_is_off_in_validation_and_a_function_of_the_step(bench: Bench) -> None:
    network = dataclasses.replace(SMALL, dropout=0.5)
    data, chosen = bench.data(), training(network=network)
    found = bench.train(10, data, chosen, validate_every=10)
    often = Bench(bench.runs.parent / "often")
    measured = often.train(10, often.data(), chosen, validate_every=1)
    # Ten validations between the steps change no mask, and nothing that was drawn before the training does.
    assert (found.path / "raw.safetensors").read_bytes() == (measured.path / "raw.safetensors").read_bytes()
    plain = bench.train(10, data, training())
    got, want = weights(found, "raw"), weights(plain, "raw")
    assert max(float((got[key] - want[key]).abs().max()) for key in want) > 1e-4  # dropout acts


def test_each_step_drops_other_units(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor] = []
    forward = nn.Dropout.forward

    def spy(self: nn.Dropout, x: Tensor) -> Tensor:
        if self.training:
            masks.append(forward(self, torch.ones_like(x)))
            return x * masks[-1]
        return forward(self, x)

    monkeypatch.setattr(nn.Dropout, "forward", spy)
    bench.train(3, bench.data(), training(network=dataclasses.replace(SMALL, dropout=0.5)))
    per_step = len(masks) // 3
    assert per_step >= 3  # one for each residual block
    assert len({mask.numpy().tobytes() for mask in masks}) == len(masks)  # 1024 coins each: never equal by chance
    assert all(set(mask.unique().tolist()) == {0.0, 2.0} for mask in masks)
