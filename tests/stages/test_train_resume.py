"""A training that is interrupted, damaged, prolonged or diverging."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.losses.vlb import Vlb
from ddpm_bench.diffusion.time_sampling import LossSecondMoment
from ddpm_bench.diffusion.variances.learned_range import LearnedRange
from ddpm_bench.identity import canonical
from ddpm_bench.spec import Training
from ddpm_bench.stages import _checkpoints, train
from ddpm_bench.stages._batches import Batches
from ddpm_bench.stages._validation import MAX_IMAGES, Validation
from ddpm_bench.stages.train import Trainer
from ddpm_bench.store import Artifact
from tests.stages.workbench import SMALL, Bench, table, training, weights

FILES = ("raw.safetensors", "ema.safetensors", "curves.csv")
EVERYTHING = {"warmup_steps": 5, "gradient_clip": 1.2, "horizontal_flips": True}
STEPS = 25


class Interrupted(Exception):
    """What stops a training in these tests."""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "runs")


def chosen() -> Training:
    """Everything that has a state: dropout, flips, warm-up, clipping, average."""
    return training(network=dataclasses.replace(SMALL, dropout=0.3), options=EVERYTHING)


def importance() -> Training:
    """A training whose t depend on the losses so far, and a variance head."""
    loss = Vlb(variance=LearnedRange(), first_step="beta_tilde_2", time_sampling="loss_second_moment")
    return training(timesteps=5, loss=loss, learned_variance=True)


def interrupt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int, every: int = 4, which: Training | None = None
) -> Artifact:
    """Start a training, stop it before step `at` + 1; the data."""
    data, step = bench.data(), Trainer.train_step

    def limited(self: Trainer) -> None:
        if self.step >= at:
            raise Interrupted
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", limited)
        with pytest.raises(Interrupted):
            bench.train(STEPS, data, which or chosen(), validate_every=every)
    return data


def checkpoints(bench: Bench) -> list[Path]:
    return sorted((bench.store.root / "checkpoints").glob("*/[0-9]*"))


def steps_of(bench: Bench) -> list[int]:
    return [int(path.name) for path in checkpoints(bench)]


def resumed_at(bench: Bench, found: Artifact) -> list[int]:
    return [event["step"] for event in map(json.loads, bench.log(found).splitlines()) if event["event"] == "resume"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files of the training that nothing interrupts, and what its manifest says of it."""
    bench = Bench(tmp_path_factory.mktemp("straight"))
    found = bench.train(STEPS, bench.data(), chosen(), validate_every=4)
    assert resumed_at(bench, found) == []
    assert 0 < found.manifest["info"]["clipped_share"] < 1
    return {**{name: (found.path / name).read_bytes() for name in FILES}, "info": found.manifest["info"]}


def assert_same(found: Artifact, want: dict[str, Any]) -> None:
    assert found.manifest["info"] == want["info"]
    for name in FILES:
        assert (found.path / name).read_bytes() == want[name], name


@pytest.mark.parametrize("at", [3, 4, 14, 22])  # before the first checkpoint, on one, between two, after a row
def test_interrupted_and_resumed_ends_in_the_same_bits(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, straight: dict[str, Any], at: int
) -> None:
    data = interrupt(bench, monkeypatch, at)
    last = at // 4 * 4
    assert steps_of(bench) == [step for step in (last - 4, last) if step > 0]  # two at most
    found = bench.train(STEPS, data, chosen(), validate_every=4)
    assert resumed_at(bench, found) == ([last] if last else [])
    assert steps_of(bench) == [STEPS]  # one afterwards
    assert_same(found, straight)


def history(checkpoint: Path) -> dict[str, Tensor]:
    return load_file(checkpoint / "time_sampling.safetensors")


@pytest.fixture(scope="module")
def straight_importance(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The training with importance sampling that nothing interrupts, and the history that it ends with."""
    bench = Bench(tmp_path_factory.mktemp("importance"))
    data = bench.data()
    found = bench.train(STEPS, data, importance(), validate_every=4)
    uniform = dataclasses.replace(importance().loss, time_sampling="uniform")
    other = bench.train(STEPS, data, dataclasses.replace(importance(), loss=uniform), validate_every=4)
    assert (other.path / "raw.safetensors").read_bytes() != (found.path / "raw.safetensors").read_bytes()
    files = {name: (found.path / name).read_bytes() for name in FILES}
    (checkpoint,) = (path for path in checkpoints(bench) if (path / "time_sampling.safetensors").is_file())
    return {**files, "info": found.manifest["info"], "history": history(checkpoint)}


@pytest.mark.parametrize("at", [6, 14, 22])  # while every t is drawn equally often, and twice later
def test_the_history_of_losses_survives_an_interruption(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, straight_importance: dict[str, Any], at: int
) -> None:
    data = interrupt(bench, monkeypatch, at, which=importance())
    counts = history(checkpoints(bench)[-1])["counts"]
    assert int(counts.sum()) == at // 4 * 4 * 16  # every image of every step
    assert bool((counts >= 10).all()) == (at > 6)
    found = bench.train(STEPS, data, importance(), validate_every=4)
    assert resumed_at(bench, found) == [at // 4 * 4]
    assert_same(found, straight_importance)
    final = history(checkpoints(bench)[-1])
    assert final.keys() == straight_importance["history"].keys()
    assert all(torch.equal(final[name], value) for name, value in straight_importance["history"].items())


def test_uniform_draws_have_no_state(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(bench, monkeypatch, 4)
    names = {file.name for file in checkpoints(bench)[-1].iterdir()}
    assert names == {"raw.safetensors", "ema.safetensors", "optimizer.pt", "state.json", "manifest.json"}


def test_seconds_count_every_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    data = interrupt(bench, monkeypatch, 22)
    before = json.loads((checkpoints(bench)[-1] / "state.json").read_text())["seconds"]
    found = bench.train(STEPS, data, chosen(), validate_every=4)
    assert before > 0
    assert found.manifest["timings"]["train_seconds"] > before
    assert found.manifest["timings"]["images_per_second"] > 0


@pytest.mark.parametrize("file", ["raw.safetensors", "ema.safetensors", "optimizer.pt", "state.json"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, straight: dict[str, Any], file: str
) -> None:
    data = interrupt(bench, monkeypatch, 14)
    assert steps_of(bench) == [8, 12]
    damaged = checkpoints(bench)[-1] / file
    content = bytearray(damaged.read_bytes())
    content[len(content) * 3 // 4] ^= 1  # torch.load and safetensors accept such a file
    damaged.write_bytes(content)
    found = bench.train(STEPS, data, chosen(), validate_every=4)
    assert resumed_at(bench, found) == [8]
    assert_same(found, straight)


def test_a_damaged_checkpoint_is_written_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(bench, monkeypatch, 14)
    damaged = checkpoints(bench)[-1] / "raw.safetensors"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    interrupt(bench, monkeypatch, 14)
    assert steps_of(bench) == [8, 12]
    assert damaged.read_bytes() == good


def test_all_checkpoints_damaged_is_a_fresh_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, straight: dict[str, Any]
) -> None:
    data = interrupt(bench, monkeypatch, 14)
    for checkpoint in checkpoints(bench):
        (checkpoint / "raw.safetensors").write_bytes(b"nothing")
    found = bench.train(STEPS, data, chosen(), validate_every=4)
    assert resumed_at(bench, found) == []
    assert_same(found, straight)


def test_a_checkpoint_without_manifest_is_garbage(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, straight: dict[str, Any]
) -> None:
    data = interrupt(bench, monkeypatch, 14)
    (checkpoints(bench)[-1] / "manifest.json").unlink()
    found = bench.train(STEPS, data, chosen(), validate_every=4)
    assert resumed_at(bench, found) == [8]
    assert_same(found, straight)


def test_a_checkpoint_is_written_after_a_time_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)  # every step
    interrupt(bench, monkeypatch, 3, every=1000)
    assert steps_of(bench) == [2, 3]


def test_a_longer_training_repeats_the_rows_of_a_shorter(bench: Bench, tmp_path: Path) -> None:
    data = bench.data()
    short = bench.train(40, data, validate_every=10)
    long = bench.train(70, data, validate_every=10)
    fresh = Bench(tmp_path / "fresh")
    straight = fresh.train(70, fresh.data(), validate_every=10)
    assert resumed_at(bench, long) == [40]
    rows = table(short.path / "curves.csv")
    assert [row["step"] for row in rows] == [0, 10, 20, 30, 40]
    assert table(long.path / "curves.csv")[:5] == rows
    for name in FILES:
        assert (long.path / name).read_bytes() == (straight.path / name).read_bytes()
    shorter = bench.train(30, data, validate_every=10)  # no checkpoint before step 30 is left
    assert resumed_at(bench, shorter) == []
    assert table(shorter.path / "curves.csv") == rows[:4]


def test_trainings_that_differ_share_no_checkpoint(bench: Bench) -> None:
    data = bench.data()
    bench.train(10, data)
    for other in (training(seed=1), training(options={"learning_rate": 2e-3}), training(timesteps=11)):
        assert resumed_at(bench, bench.train(12, data, other)) == []
    assert resumed_at(bench, bench.train(12, bench.data(train=41))) == []
    assert resumed_at(bench, bench.train(12, data)) == [10]


def spoil(monkeypatch: pytest.MonkeyPatch, when: Any, how: Any) -> None:
    """L_simple with another value for the images where `when(batch)` is true."""
    per_image = Simple.per_image

    def spoiled(self: Simple, output: Tensor, batch: Any, *more: Any) -> Tensor:
        losses, chosen = per_image(self, output, batch, *more).clone(), when(batch)
        losses[chosen] = how(losses[chosen], output[chosen])  # `where` would poison the gradients of the others
        return losses

    monkeypatch.setattr(Simple, "per_image", spoiled)


def first_with(data: Artifact, index: int, since: int = 0) -> int:
    """The first step, counted from 1, whose batch has this index of t."""
    values = torch.from_numpy(np.load(data.path / "train.npy"))
    batches = Batches(0, values, 17, 2, False)
    return next(step + 1 for step in range(since, 1000) if index in (10 * batches.draw(step, "cpu")[2]).long())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_divergence_is_an_outcome_with_step_and_t(bench: Bench, monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    spoil(monkeypatch, lambda batch: batch.t == 3, lambda good, output: good * value)
    data = bench.data()
    found = bench.train(200, data, training(options={"batch_size": 2}))
    step = first_with(data, 3)
    assert step > 1
    assert found.outcome == {"status": "diverged", "step": step, "t": 4, "loss": repr(value)}  # index 3 is t = 4
    assert '"event": "diverged"' in bench.log(found)
    assert found.manifest["info"]["num_parameters"] > 0
    # The artifact is whole, and its curves end before the trouble.
    found.verify()
    assert all(row["loss"] is None or np.isfinite(row["loss"]) for row in table(found.path / "curves.csv"))


def test_a_gradient_that_is_not_finite_is_a_divergence_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # √0 has the derivative ∞, and ∞ · 0 is not a number: every loss is finite, no gradient is.
    zero = lambda good, output: 7.0 + (output.flatten(1).sum(1) * 0.0).sqrt()  # noqa: E731
    spoil(monkeypatch, lambda batch: batch.t == 3, zero)
    data = bench.data()
    found = bench.train(first_with(data, 3), data, training(options={"batch_size": 2}))  # it is the last step
    assert found.outcome == {"status": "diverged", "step": first_with(data, 3), "t": 4, "loss": "7.0"}


def test_losses_that_are_not_finite_do_not_enter_the_draws(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From step 12 on, after the warm-up, nothing is finite; step 20 looks, and the draws in between are sound."""
    seen: list[tuple[Tensor, Tensor]] = []
    per_image, sample = Vlb.per_image, LossSecondMoment.sample

    def spoiled(self: Vlb, output: Tensor, *more: Any) -> Tensor:
        return per_image(self, output, *more) * (float("nan") if len(seen) >= 12 else 1.0)

    def spy(self: LossSecondMoment, unit: Tensor) -> Any:
        seen.append(sample(self, unit))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(Vlb, "per_image", spoiled)
    monkeypatch.setattr(LossSecondMoment, "sample", spy)
    found = bench.train(40, bench.data(), importance())
    assert found.outcome is not None
    assert (found.outcome["step"], found.outcome["loss"]) == (12, "nan")
    assert len(seen) == 20
    for t, weight in seen[12:]:
        assert 0 <= int(t.min()) <= int(t.max()) < 5
        assert torch.isfinite(weight).all()
        assert not (weight == 1).any()


def test_a_diverged_training_can_be_prolonged_to_the_same_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda batch: batch.t == 3, lambda good, output: good * float("nan"))
    data = bench.data()
    outcomes = [
        bench.train(steps, data, training(options={"batch_size": 2}), validate_every=1).outcome for steps in (60, 80)
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] is not None


def test_the_validation_curve_does_not_look_at_the_first_images_alone() -> None:
    """image_folder's validation split is in the order of its classes."""
    x_0 = torch.arange(600.0).reshape(600, 1, 1, 1).expand(-1, 1, 2, 2)
    validation = Validation(training(), x_0, x_0, None, MAX_IMAGES, "cpu")
    found = validation._x_0[:, 0, 0, 0]
    assert len(found.unique()) == 128
    # 128 of 600 without replacement: about 64 in each half, standard deviation √(128/4 · 472/599) = 5.
    assert abs(int((found < 300).sum()) - 64) < 25
    assert torch.equal(validation._values, validation._x_0)


def test_the_validation_set_is_one_for_all_variants_and_seeds() -> None:
    x_0 = torch.randn(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    first, second = (
        Validation(item, x_0, x_0, None, 20, "cpu") for item in (training(), training(seed=1, options=EVERYTHING))
    )
    assert torch.equal(first._t, second._t)
    assert torch.equal(first._eps, second._eps)
    assert not torch.equal(first._eps[:, 0], first._eps[:, 1])


def test_a_state_survives_its_file(bench: Bench, tmp_path: Path) -> None:
    tensors = {"w": torch.randn(3, 4).t(), "n": torch.tensor(3)}  # a view that is not contiguous
    state = {
        "optimizer": {"state": {0: {"step": torch.tensor(2.0)}}},
        "curves": [[1, 0.1, None]],
        "sums": [0.3, 1e-300],
    }
    _checkpoints.save(bench.store, "trajectory", 7, {"raw": tensors, "ema": tensors}, state)
    step, got, rest = _checkpoints.load(bench.store, "trajectory", 7, "cpu")  # type: ignore[misc]
    assert step == 7
    assert torch.equal(got["raw"]["w"], tensors["w"])
    assert rest["optimizer"]["state"][0]["step"] == 2.0
    assert {name: rest[name] for name in ("curves", "sums")} == {name: state[name] for name in ("curves", "sums")}
    assert _checkpoints.load(bench.store, "trajectory", 6, "cpu") is None  # nothing at or before step 6
    assert canonical(chosen())["options"]["gradient_clip"] == 1.2


def test_weights_of_an_artifact_are_those_of_its_step(bench: Bench) -> None:
    data = bench.data()
    first, second = bench.train(10, data), bench.train(20, data)
    assert any(not torch.equal(weights(first, "raw")[k], v) for k, v in weights(second, "raw").items())
