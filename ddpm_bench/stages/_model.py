"""The network of a training: built, filled with weights, called in sub-batches of one fixed size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_bench.datasets import Dataset
from ddpm_bench.diffusion.process import Process
from ddpm_bench.networks import Problem
from ddpm_bench.randomness import derive_seed
from ddpm_bench.spec import Training, rebuild, rebuild_training
from ddpm_bench.stages import CHUNK
from ddpm_bench.store import Artifact

MAX_VALUES = {"cpu": 2**15, "cuda": 2**22}
"""Values (images × dimensions) per network call in evaluation, by kind of device."""


def sub_batch(shape: tuple[int, int, int], device: str) -> int:
    """Images per network call in evaluation, a power of two up to CHUNK.

    A function of the shape and the kind of device alone, so that bits do not depend on workers, shards or interruptions
    (on a CPU small, so that a few images of a large network do not pay for a full chunk).
    """
    channels, height, width = shape
    fitting = max(1, MAX_VALUES[torch.device(device).type] // (channels * height * width))
    return min(CHUNK, 1 << (fitting.bit_length() - 1))


def build_network(training: Training, dataset: Dataset, shape: tuple[int, int, int], device: str) -> nn.Module:
    """The network with its initial weights, which depend on the seed and the configuration alone."""
    problem = Problem(
        shape=shape,
        levels=dataset.levels,
        outputs=shape[0] * (2 if training.learned_variance else 1),
        process=training.schedule.process(training.timesteps),
        prediction=training.prediction,
        dataset=dataset,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(training.seed, "initial weights"))
        module = training.network.build(problem)
    return module.to(device)


@contextmanager
def precision(options: dict[str, Any], device: str) -> Iterator[None]:
    """The numeric settings of a training: TensorFloat-32 as asked, bfloat16 autocast as asked."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = options["tf32"]
        torch.backends.cudnn.allow_tf32 = options["tf32"]
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=options["precision"] == "bfloat16"):
        yield


@dataclass(frozen=True)
class Model:
    """A trained network, ready to be called."""

    module: nn.Module
    training: Training
    process: Process
    shape: tuple[int, int, int]
    levels: int | None
    device: str
    precision: str | None = None
    """Of the network's arithmetic; None: that of the training."""
    batch: int | None = None
    """Images per network call; None: `sub_batch`. For a stage that always has the same few."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output in float32, [B, outputs, H, W]; t: 0-based index in the original chain, int64 [B].

        The network sees sub-batches of one fixed size, the last one padded with copies of its last image.
        """
        size = self.batch or sub_batch(self.shape, self.device)
        options = {**self.training.options, **({"precision": self.precision} if self.precision else {})}
        outputs = []
        for start in range(0, len(x_t), size):
            x, steps = x_t[start : start + size], t[start : start + size]
            missing = size - len(x)
            if missing:
                x = torch.cat([x, x[-1:].expand(missing, -1, -1, -1)])
                steps = torch.cat([steps, steps[-1:].expand(missing)])
            with precision(options, self.device):
                output = self.module(x, steps)
            outputs.append(output.float()[: size - missing])
        return torch.cat(outputs)


def load_model(train: Artifact, weights: str, device: str, precision: str | None = None) -> Model:
    """The network of a train artifact with its EMA or raw weights, in evaluation mode.

    precision: of its arithmetic, "float32" or "bfloat16"; None: as it was trained.
    """
    training = rebuild_training(train.spec["training"])
    info = train.manifest["info"]
    shape: tuple[int, int, int] = tuple(info["shape"])
    module = build_network(training, rebuild(Dataset, info["dataset"]), shape, device)
    module.load_state_dict(load_file(train.path / f"{weights}.safetensors", device=device))
    module.eval().requires_grad_(False)
    process = training.schedule.process(training.timesteps)
    return Model(module, training, process, shape, info["levels"], device, precision)


def scale_to_network(values: Tensor, levels: int | None) -> Tensor:
    """Levels 0…K−1 to x = 2v/(K−1) − 1 in float32; real values as they are. [B, C, H, W]."""
    return values.to(torch.float32) if levels is None else values.to(torch.float32) * (2.0 / (levels - 1)) - 1.0
