"""A training against a plain loop over the same batches: optimiser, warm-up, clipping, average, curves."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.diffusion.losses.hybrid import Hybrid
from ddpm_bench.diffusion.losses.vlb import Vlb
from ddpm_bench.diffusion.predictions.x0 import X0
from ddpm_bench.diffusion.time_sampling import LossSecondMoment
from ddpm_bench.diffusion.variances.beta import Beta
from ddpm_bench.diffusion.variances.learned_range import LearnedRange
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


@dataclasses.dataclass
class SecondMoment:
    """p_t ∝ √(mean of the last ten squared losses at t), a thousandth of it uniform, in Python's numbers."""

    history: list[deque[float]]

    def draw(self, unit: list[float]) -> tuple[list[int], list[float]]:
        """t and 1/(T p_t) of uniform numbers."""
        total = len(self.history)
        if any(len(losses) < 10 for losses in self.history):
            return [int(total * u) for u in unit], [1.0] * len(unit)
        root = [math.sqrt(math.fsum(loss**2 for loss in losses) / 10) for losses in self.history]
        p = [0.999 * value / math.fsum(root) + 0.001 / total for value in root]
        t = [next(i for i in range(total) if math.fsum(p[: i + 1]) > u) for u in unit]
        return t, [1 / (total * p[i]) for i in t]


def bound_of_epsilon(num_timesteps: int) -> tuple[Tensor, Tensor]:
    """(a, b) with T · L_{t−1} = a_t + b_t |ε − ε̂|²/D in bits/dim: σ² = β, β̃_2 first, real-valued data."""
    steps = chain(cosine_betas(num_timesteps))
    first = steps.posterior_variance[1]
    a, b = [0.5 * math.log(2 * math.pi * first)], [0.5 / steps.snr[0] / first]
    for i in range(1, num_timesteps):
        beta, ratio = steps.beta[i], steps.posterior_variance[i] / steps.beta[i]
        a.append(0.5 * (ratio - 1 - math.log(ratio)))
        b.append(0.5 * beta / ((1 - beta) * steps.one_minus_alpha_bar[i]))
    return tuple(num_timesteps / math.log(2) * torch.tensor(values) for values in (a, b))  # type: ignore[return-value]


def plain_loop(
    chosen: Training, data: Artifact, steps: int, terms: tuple[Tensor, Tensor] | None = None,
    sampler: SecondMoment | None = None,
) -> dict[str, Any]:  # fmt: skip
    """ε-prediction by hand: raw and averaged weights, and per step loss, rate and gradient norm.

    terms: (a, b) of the loss a_t + b_t |ε − ε̂|²/D; L_simple without.
    """
    settings = chosen.options
    values = torch.from_numpy(np.load(data.path / "train.npy"))
    levels = data.manifest["info"]["levels"]
    batches = Batches(chosen.seed, values, levels, settings["batch_size"], settings["horizontal_flips"])
    a, b = terms or (torch.zeros(chosen.timesteps), torch.ones(chosen.timesteps))
    alpha_bar = torch.tensor(chain(cosine_betas(chosen.timesteps)).alpha_bar)
    net = initial(chosen)
    average = {name: value.double().clone() for name, value in net.state_dict().items()}
    first = {p: torch.zeros_like(p) for p in net.parameters()}
    second = {p: torch.zeros_like(p) for p in net.parameters()}
    record: list[tuple[float, float, float]] = []
    for n in range(1, steps + 1):
        _, x_0, unit, eps = batches.draw(n - 1, "cpu")
        t, weight = (chosen.timesteps * unit).long(), torch.ones(len(unit))
        if sampler:
            drawn, weights = sampler.draw(unit.tolist())
            t, weight = torch.tensor(drawn), torch.tensor(weights)
        kept = alpha_bar[t].reshape(-1, 1, 1, 1)
        output = net((kept.sqrt() * x_0 + (1 - kept).sqrt() * eps).float(), t)
        per_image = a[t] + b[t] * ((eps - output) ** 2).flatten(1).mean(1)
        loss = (weight * per_image).mean()
        for i, value in zip(t.tolist(), per_image.tolist(), strict=True):
            if sampler:
                sampler.history[i].append(value)
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


def test_importance_sampling_of_time_against_a_plain_loop(bench: Bench) -> None:
    """L_vlb with t ~ p_t: draws, weights and history through 24 steps, most of them after the warm-up."""
    data, loss = bench.data(levels=None), Vlb(variance=Beta(), first_step="beta_tilde_2")
    chosen = training(timesteps=4, loss=dataclasses.replace(loss, time_sampling="loss_second_moment"))
    sampler = SecondMoment([deque(maxlen=10) for _ in range(4)])
    want = plain_loop(chosen, data, 24, bound_of_epsilon(4), sampler)
    found = bench.train(24, data, chosen)
    # As in the test above; the losses differ by 1e-6 relative, and so do p_t and the weights.
    assert_weights(weights(found, "raw"), want["raw"], 5e-6)
    assert_weights(weights(found, "ema"), want["ema"], 5e-6)
    row = next(row for row in table(found.path / "curves.csv") if row["step"] == 20)
    losses, _, norms = zip(*want["record"][:20], strict=True)
    assert row["loss"] == pytest.approx(sum(losses) / 20, rel=1e-5)  # the weighted ones: an estimate of the mean over t
    assert row["gradient_norm"] == pytest.approx(sum(norms) / 20, rel=1e-4)
    # And uniform t would not do: the comparison above can fail.
    other = plain_loop(chosen, data, 24, bound_of_epsilon(4))
    assert max(float((want["raw"][k] - other["raw"][k]).abs().max()) for k in want["raw"]) > 1e-3


def test_micro_batches_leave_the_history_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every t and weight of a training is the one without micro-batches: losses enter after the whole step."""
    drawn: list[tuple[Tensor, Tensor]] = []
    sample = LossSecondMoment.sample

    def spy(self: LossSecondMoment, unit: Tensor) -> Any:
        drawn.append(sample(self, unit))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(LossSecondMoment, "sample", spy)
    loss = Hybrid(variance=LearnedRange(), first_step="beta_tilde_2", time_sampling="loss_second_moment")
    chosen = training(timesteps=5, loss=loss, learned_variance=True)
    for size in (None, 5):
        bench = Bench(tmp_path / str(size))
        bench.train(20, bench.data(), chosen, micro_batch=size)
    whole, parts = drawn[:20], drawn[20:]
    assert len(parts) == 20
    assert sum(bool((weight != 1).all()) for _, weight in whole) > 10  # warmed up
    for (t, weight), (other_t, other_weight) in zip(whole, parts, strict=True):
        # A t changes where its uniform number lies within 1e-6 of a boundary: not among these 320.
        assert torch.equal(t, other_t)
        # Weights of the two trainings agree to 2e-6 (above); losses and their weights as well to 1e-5 of themselves.
        assert weight.tolist() == pytest.approx(other_weight.tolist(), rel=1e-5)


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
    want = [draw(Batches(0, values, 17, 16, False), step, "cpu") for step in range(3)]
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
