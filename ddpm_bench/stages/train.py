"""Stage train: a network, its optimiser steps, the average of its weights, its curves."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ddpm_bench.datasets import Dataset
from ddpm_bench.diffusion.losses import Batch
from ddpm_bench.identity import canonical
from ddpm_bench.randomness import derive_seed
from ddpm_bench.spec import rebuild, rebuild_training
from ddpm_bench.stages import Context, _checkpoints
from ddpm_bench.stages._batches import Batches
from ddpm_bench.stages._model import build_network, precision, scale_to_network
from ddpm_bench.stages._validation import MAX_IMAGES, Validation
from ddpm_bench.store import write_text

VERSION = 1
LOG_EVERY = 20
"""Steps per row of the curves: a constant, so that a longer training repeats the rows of a shorter one."""
CHECKPOINT_SECONDS = 300.0
"""A checkpoint is written with every point of the validation curve, and after this time at the latest."""
COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "validation_epsilon_mse", "validation_bits_per_dim")


class Diverged(Exception):
    """The loss, or its gradient, stopped being finite; t and loss are those of the worst image of that step."""

    def __init__(self, step: int, t: int, loss: float):
        self.outcome = {"status": "diverged", "step": step, "t": t, "loss": repr(loss)}
        super().__init__(f"loss {loss!r} at step {step}, t = {t}")


def ema_decay(decay: float, n: int) -> float:
    """The decay of the average after step n: min(decay, (1 + n)/(10 + n)).

    Source: Ho et al. 2020, appendix B (decay 0.9999); warm-up as in TensorFlow's ExponentialMovingAverage, num_updates.
    """
    return min(decay, (1 + n) / (10 + n))


def ema_update(decay: float, steps: Callable[[], int]) -> Any:
    """The averaging rule for AveragedModel, `ema_decay` after n steps.

    steps: tells n; AveragedModel's own count lies on the device, and reading it would wait for the device every step.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], num_averaged: Tensor) -> None:
        torch._foreach_lerp_(averages, current, 1.0 - ema_decay(decay, steps()))

    return update


class Trainer:
    """One training: its state is (weights, average, optimiser, history of losses, step, curves), and nothing else."""

    def __init__(self, context: Context):
        spec = context.spec
        self.context, self.device = context, context.device
        self.training = rebuild_training(spec["training"])
        self.options = self.training.options
        self.steps: int = spec["steps"]
        self.process = self.training.schedule.process(self.training.timesteps)
        data = context.input("data")
        self.levels, self.shape = data.manifest["info"]["levels"], tuple(data.manifest["info"]["shape"])
        values = {name: torch.from_numpy(np.load(data.path / f"{name}.npy")) for name in ("train", "validation")}
        self.batches = Batches(
            self.training.seed, values["train"], self.levels, self.options["batch_size"],
            self.options["horizontal_flips"],
        )  # fmt: skip
        self.time_sampler = self.training.loss.time_sampler(self.training.timesteps, self.device)
        x_0 = scale_to_network(values["validation"], self.levels)
        images = context.task.recorded.get("validation_images", "all")
        count = min(MAX_IMAGES, len(x_0) if images == "all" else images)
        self.validation = Validation(self.training, values["validation"], x_0, self.levels, count, self.device)
        self.dataset = rebuild(Dataset, data.spec["dataset"])
        self.module = build_network(self.training, self.dataset, self.shape, self.device)
        self.average = AveragedModel(
            self.module, multi_avg_fn=ema_update(self.options["ema_decay"], lambda: self.step + 1)
        )
        self.average.n_averaged.fill_(1)  # the first update averages with the initial weights, not replaces them
        parameters = list(self.module.parameters())
        self.optimizer: torch.optim.Optimizer | None = None
        if parameters:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.options["optimizer"]]
            decay = {"weight_decay": self.options["weight_decay"]} if self.options["optimizer"] == "adamw" else {}
            self.optimizer = kind(parameters, lr=self.options["learning_rate"], **decay)
        self.step = 0
        self.seconds = 0.0  # of training up to this step, in whatever process
        self.curves: list[list[Any]] = []
        self.clipped = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        self._divergence = torch.zeros(3, dtype=torch.float64, device=self.device)
        compiled = context.task.recorded.get("compile", False)
        self._forward: Any = torch.compile(self.module) if compiled else self.module

    @property
    def trajectory(self) -> str:
        """The key of the trajectory: everything but the number of steps."""
        data = self.context.input("data").manifest["info"]["digest"]
        return _checkpoints.trajectory_key(self.context.spec["training"], data)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(tensors, rest) as `_checkpoints.save` takes them."""
        tensors = {
            "raw": self.module.state_dict(), "ema": self.average.module.state_dict(),
            "time_sampling": self.time_sampler.state(),
        }  # fmt: skip
        optimizer = self.optimizer.state_dict() if self.optimizer else {}
        rest = {
            "optimizer": optimizer, "curves": self.curves, "clipped": self.clipped, "sums": self._sums.tolist(),
            "seconds": self.seconds,
        }  # fmt: skip
        return tensors, rest

    def restore(self, step: int, tensors: dict[str, Any], state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.module.load_state_dict(tensors["raw"])
        self.average.module.load_state_dict(tensors["ema"])
        self.time_sampler.restore(tensors.get("time_sampling", {}))
        self.average.n_averaged.fill_(1 + step)
        if self.optimizer:
            self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.curves, self.clipped = step, state["curves"], state["clipped"]
        self.seconds = state["seconds"]
        self._sums = torch.tensor(state["sums"], dtype=torch.float64, device=self.device)

    def train_step(self) -> None:
        """One optimiser step."""
        assert self.optimizer is not None
        values, x_0, unit, eps = self.batches.draw(self.step, self.device)
        t, weight = self.time_sampler.sample(unit)
        warmup = self.options["warmup_steps"]
        rate = self.options["learning_rate"] * min(1.0, (self.step + 1) / warmup if warmup else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(derive_seed(self.training.seed, "dropout", self.step))
        self.optimizer.zero_grad(set_to_none=True)
        size = self.context.task.recorded.get("micro_batch") or len(x_0)
        x_t = self.process.q_sample(x_0, t, eps)
        parts = []
        for start in range(0, len(x_0), size):
            part = slice(start, start + size)
            with precision(self.options, self.device):
                output = self._forward(x_t[part], t[part])
            target = x_0[part] if self.levels is None else values[part]
            batch = Batch(x_0[part], eps[part], x_t[part], t[part], target, self.levels)
            loss = self.training.loss.per_image(output.float(), batch, self.process, self.training.prediction)
            ((loss if weight is None else loss * weight[part]).sum() / len(x_0)).backward()
            parts.append(loss.detach())
        losses = torch.cat(parts)
        mean = (losses if weight is None else losses * weight).mean()
        clip = self.options["gradient_clip"]
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), clip if clip else float("inf"))
        self._watch(losses, norm, t)
        if clip:
            self.clipped += int(norm > clip)
        self.optimizer.step()
        if self.options["ema_decay"]:
            self.average.update_parameters(self.module)
        self.time_sampler.update(t, losses)
        self.step += 1
        self._sums += torch.stack([mean.double(), norm.double()])
        if self.step % LOG_EVERY == 0:
            self._check_divergence()
            mean_loss, mean_norm = (self._sums / LOG_EVERY).tolist()
            self.curves.append([self.step, mean_loss, rate, mean_norm, None, None])
            self._sums.zero_()

    def _watch(self, losses: Tensor, norm: Tensor, t: Tensor) -> None:
        """Remember (step, t, loss) of the first step that is not finite, without waiting for the device.

        A finite loss can have an infinite gradient (float32 norms overflow at 2·10¹⁹), which ruins the weights.
        """
        worst = torch.where(torch.isfinite(losses), losses, torch.inf).argmax()
        found = torch.stack([torch.full_like(losses[0], self.step + 1), t[worst] + 1, losses[worst]]).double()
        bad = ~(torch.isfinite(losses).all() & torch.isfinite(norm)) & (self._divergence[0] == 0)
        self._divergence = torch.where(bad, found, self._divergence)

    def _check_divergence(self) -> None:
        step, t, loss = self._divergence.tolist()
        if step:
            raise Diverged(int(step), int(t), loss)

    def measure_validation(self) -> None:
        """Add the validation numbers of the averaged weights to the row of the current step."""
        epsilon_mse, bits = self.validation.measure(self.weights_module("ema"))
        if not self.curves or self.curves[-1][0] != self.step:
            self.curves.append([self.step, None, None, None, None, None])
        self.curves[-1][4:] = [finite(epsilon_mse), finite(bits)]

    def weights_module(self, weights: str) -> nn.Module:
        """The module with the raw or averaged weights."""
        return self.module if weights == "raw" or not self.options["ema_decay"] else self.average.module

    def run(self) -> None:
        """Train to the end, from the newest good checkpoint. Raises Diverged."""
        store, every = self.context.store, self.context.task.recorded.get("validate_every")
        every = every or max(1, self.steps // 10)
        found = _checkpoints.load(store, self.trajectory, self.steps, self.device)
        if found:
            self.restore(*found)
            self.context.log.write("resume", step=self.step)
        elif self.step == 0:
            self.measure_validation()
        self.module.train()
        saved = started = time.monotonic()
        step_before, seconds_before = self.step, self.seconds
        while self.step < self.steps:
            self.train_step()
            self.seconds = seconds_before + time.monotonic() - started
            speed = (self.step - step_before) / (self.seconds - seconds_before)
            loss = next((row[1] for row in reversed(self.curves) if row[1] is not None), None)
            self.context.log.progress(self.step, self.steps, "steps", per_second=round(speed, 3), loss=loss)
            due = self.step % every == 0 or self.step == self.steps
            if due:
                self._check_divergence()
                self.measure_validation()
            if due or time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._check_divergence()
                _checkpoints.save(store, self.trajectory, self.step, *self.state())
                self.context.log.write("checkpoint", step=self.step)
                saved = time.monotonic()
        if self.step > step_before:
            speed = (self.step - step_before) * self.options["batch_size"] / (self.seconds - seconds_before)
            self.context.manifest["timings"] = {"train_seconds": self.seconds, "images_per_second": speed}
        for old in _checkpoints.steps(store, self.trajectory):
            if old < self.steps:  # those of a longer training are not this one's to remove
                _checkpoints.discard(store, self.trajectory, old)


def finite(value: float) -> float | None:
    """The value, or None where it is infinite or not a number (JSON has neither)."""
    return value if np.isfinite(value) else None


def run(context: Context) -> None:
    """Writes raw.safetensors, ema.safetensors and curves.csv; sets manifest["info"] and, if diverged, ["outcome"]."""
    trainer = Trainer(context)
    folder = context.store.path(_checkpoints.STAGE, trainer.trajectory)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        try:
            trainer.run()
        except Diverged as end:
            context.manifest["outcome"] = end.outcome
            context.log.write("diverged", **end.outcome)
    parameters = sum(parameter.numel() for parameter in trainer.module.parameters())
    share = trainer.clipped / trainer.step if trainer.options["gradient_clip"] and trainer.step else None
    context.manifest["info"] = {
        "shape": list(trainer.shape), "levels": trainer.levels, "num_parameters": parameters, "clipped_share": share,
        "dataset": canonical(trainer.dataset), "num_train_images": context.input("data").manifest["info"]["num_train"],
    }  # fmt: skip
    for name in ("raw", "ema"):
        _checkpoints.save_weights(context.out / f"{name}.safetensors", trainer.weights_module(name).state_dict())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([["" if value is None else value for value in row] for row in trainer.curves])
    write_text(context.out / "curves.csv", text.getvalue())
