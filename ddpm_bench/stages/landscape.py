"""Stage landscape: the test loss around the path of a training, in the plane of the path's two principal components."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_bench.stages import Context
from ddpm_bench.stages._images import split_values
from ddpm_bench.stages._model import Model, load_model, scale_to_network, sub_batch
from ddpm_bench.stages._plane import Plane, centred, principal_plane, shares_of, walk_gram
from ddpm_bench.stages._validation import DRAWS_PER_IMAGE, Validation
from ddpm_bench.stages.train import ema_decay, finite

VERSION = 1
LOSSES = ("epsilon_mse", "bits_per_dim")
"""In the order of a measurement: units that all variants share."""
MARGIN = 0.25
"""How far the grid reaches beyond the path, as a share of the path's extent, on each side."""
LEAST_HEIGHT = 0.5
"""Of the grid, in its widths: a path that hardly leaves a line is still shown with what lies beside it."""


def num_calls(images: int, points: int, checkpoints: int, num_timesteps: int) -> int:
    """Images that the network sees: the grid, the checkpoints and their places in the plane."""
    draws = 1 + (DRAWS_PER_IMAGE if num_timesteps > 1 else 0)
    return (points**2 + 2 * checkpoints) * images * draws


@dataclass(frozen=True)
class Surface:
    """The network of a training with its weights anywhere on a plane: origin + a · first + b · second.

    origin, directions: by parameter; float64 [...] and [2, ...]. What else the network holds (buffers) is that of the
    last checkpoint.
    """

    module: nn.Module
    origin: dict[str, Tensor]
    directions: dict[str, Tensor]

    @torch.no_grad()
    def put(self, a: float, b: float) -> nn.Module:
        """The module with the weights of a point, rounded to its own precision."""
        for name, parameter in self.module.named_parameters():
            first, second = self.directions[name]
            parameter.copy_(self.origin[name] + a * first + b * second)
        return self.module


def tensors(files: list[Path], names: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Each parameter at all checkpoints, float64 [n, ...]; one parameter at a time, so that n networks need no room."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        for name in names:
            yield name, torch.stack([item.get_tensor(name) for item in opened]).double()


def plane_of(files: list[Path], module: nn.Module) -> tuple[Plane, Surface]:
    """The principal plane of checkpoints, and the network on it. files: weights, safetensors, in order of the steps."""
    names = [name for name, _ in module.named_parameters()]
    gram = np.zeros((len(files), len(files)))
    for _, values in tensors(files, names):
        moved = (values - values.mean(0)).flatten(1)
        gram += (moved @ moved.T).numpy()
    plane = principal_plane(centred(gram))
    combination = torch.from_numpy(plane.combination)
    origin, directions = {}, {}
    for name, values in tensors(files, names):
        origin[name] = values.mean(0)
        directions[name] = torch.einsum("nj,n...->j...", combination, values - origin[name])
    return plane, Surface(module, origin, directions)


def grid_axes(coordinates: np.ndarray, points: int) -> list[np.ndarray]:
    """The grid's places on either axis: around the path with a margin, not too flat. coordinates: [n, 2]."""
    low, high = coordinates.min(0), coordinates.max(0)
    half = (high - low) * (0.5 + MARGIN)
    half[1] = max(half[1], LEAST_HEIGHT * half[0])
    middle = (low + high) / 2
    return [np.linspace(middle[i] - half[i], middle[i] + half[i], points) for i in range(2)]


def walk_shares(steps: list[int], decay: float | None) -> list[float]:
    """What random walks seen at these steps have in each component. decay: of the average that is seen, None: none."""
    decays = None if decay is None else np.array([ema_decay(decay, n) for n in range(1, steps[-1] + 1)])
    return shares_of(centred(walk_gram(steps, decays))).tolist()


def fixed_set(context: Context, model: Model) -> Validation:
    """The (image, t, ε) that every point is measured on."""
    images = context.spec["images"]
    values = torch.from_numpy(np.array(split_values(context.input("data"), context.spec["split"])))
    x_0 = scale_to_network(values, model.levels)
    batch = min(images, sub_batch(model.shape, context.device))
    return Validation(model.training, values, x_0, model.levels, images, context.device, batch)


def run(context: Context) -> None:
    """Writes landscape.json, and bits_per_dim.npy and epsilon_mse.npy float64 [points, points], rows along component 2.

    The plane goes through the mean of the checkpoints; their principal components are taken about it, and the null, a
    random walk seen at the same steps (null) and averaged as the weights are (null_averaged), about its own mean alike.
    landscape.json: steps, coordinates [n, 2] and the two losses of each checkpoint, the losses in the plane below each
    (`projected`), the places of the grid on either axis, the shares of the variance of all components, and what was
    measured on. A loss that is not finite is null there. Every loss is of the same images, t and noise.
    """
    spec, trains = context.spec, context.input_list("checkpoints")
    files = [train.path / f"{spec['weights']}.safetensors" for train in trains]
    steps = [int(train.spec["steps"]) for train in trains]
    model = load_model(trains[-1], spec["weights"], context.device)
    plane, surface = plane_of(files, model.module)
    axes = grid_axes(plane.coordinates, spec["points"])
    losses = fixed_set(context, model)
    total, done = len(axes[0]) * len(axes[1]) + 2 * len(steps), 0

    def measure(module: nn.Module) -> tuple[float, float]:
        nonlocal done
        done += 1
        found = losses.measure(module)
        context.log.progress(done, total, "points")
        return found

    own = [measure(_filled(model.module, file, context.device)) for file in files]
    projected = [measure(surface.put(a, b)) for a, b in plane.coordinates.tolist()]
    grid = np.array([[measure(surface.put(a, b)) for a in axes[0].tolist()] for b in axes[1].tolist()])
    for index, name in enumerate(LOSSES):
        np.save(context.out / f"{name}.npy", grid[:, :, index])
    averaged = spec["weights"] == "ema" and model.training.options["ema_decay"]
    context.manifest["info"] = {"network_calls": total * losses.num_calls}
    context.write_json("landscape.json", {
        "steps": steps, "weights": spec["weights"], "split": spec["split"], "images": spec["images"],
        "draws_per_image": losses.num_calls // spec["images"],
        "num_parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "shares": plane.shares.tolist(), "null": walk_shares(steps, None),
        "null_averaged": walk_shares(steps, averaged) if averaged else None,
        "coordinates": plane.coordinates.tolist(), "axes": [axis.tolist() for axis in axes],
        **{name: [finite(found[index]) for found in own] for index, name in enumerate(LOSSES)},
        "projected": {name: [finite(found[index]) for found in projected] for index, name in enumerate(LOSSES)},
    })  # fmt: skip


def _filled(module: nn.Module, file: Path, device: str) -> nn.Module:
    module.load_state_dict(load_file(file, device=device))
    return module
