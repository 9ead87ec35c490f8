"""The network of a training: built, filled with weights, called in sub-batches of one fixed size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_bench.diffusion.process import Process
from ddpm_bench.networks import Problem
from ddpm_bench.randomness import derive_seed
from ddpm_bench.spec import Training, rebuild_training
from ddpm_bench.store import Artifact

SUB_BATCH_VALUES = 2**22
"""Values (images × dimensions) per network call in evaluation; with the cap of 128 images it fixes the sub-batch."""


def sub_batch(shape: tuple[int, int, int]) -> int:
    """Images per network call in evaluation: a function of the shape alone, so that bits do not depend on the machine."""
    channels, height, width = shape
    return max(1, min(128, SUB_BATCH_VALUES // (channels * height * width)))


def build_network(training: Training, shape: tuple[int, int, int], device: str) -> nn.Module:
    """The network with its initial weights, which depend on the seed and the configuration alone."""
    problem = Problem(
        shape=shape,
        levels=training.dataset.levels,
        outputs=shape[0] * (2 if training.learned_variance else 1),
        process=training.schedule.process(training.timesteps),
        prediction=training.prediction,
        dataset=training.dataset,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(training.seed, "initial weights"))
        module = training.network.build(problem)
    return module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


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
    device: str

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output in float32, [B, outputs, H, W]; t: 0-based index in the original chain, int64 [B].

        The network sees sub-batches of one fixed size, the last one padded with copies of its last image.
        """
        size = sub_batch(self.shape)
        outputs = []
        for start in range(0, len(x_t), size):
            x, steps = x_t[start : start + size], t[start : start + size]
            missing = size - len(x)
            if missing:
                x = torch.cat([x, x[-1:].expand(missing, -1, -1, -1)])
                steps = torch.cat([steps, steps[-1:].expand(missing)])
            with precision(self.training.options, self.device):
                output = self.module(x.contiguous(memory_format=torch.channels_last), steps)
            outputs.append(output.float()[: size - missing])
        return torch.cat(outputs)


def load_model(train: Artifact, weights: str, device: str) -> Model:
    """The network of a train artifact with its EMA or raw weights, in evaluation mode."""
    training = rebuild_training(train.spec["training"])
    shape = tuple(train.manifest["info"]["shape"])
    module = build_network(training, shape, device)  # type: ignore[arg-type]
    module.load_state_dict(load_file(train.path / f"{weights}.safetensors", device=device))
    module.eval().requires_grad_(False)
    process = training.schedule.process(training.timesteps)
    return Model(module, training, process, shape, device)  # type: ignore[arg-type]


def scale_to_network(values: Tensor, levels: int | None) -> Tensor:
    """Levels 0…K−1 to x = 2v/(K−1) − 1 in float32; real values as they are. [B, C, H, W]."""
    return values.to(torch.float32) if levels is None else values.to(torch.float32) * (2.0 / (levels - 1)) - 1.0
