"""What a plan costs: network calls, floating-point operations and bytes exactly; seconds only as measured here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ddpm_bench.diffusion.estimators import Estimator
from ddpm_bench.identity import dumps
from ddpm_bench.planning.plan import CellPlan, Plan
from ddpm_bench.spec import Cell, bind, rebuild
from ddpm_bench.stages import CHUNK, Task, _checkpoints
from ddpm_bench.stages._images import chunk_of, subset
from ddpm_bench.stages._model import build_network
from ddpm_bench.stages.forward import SHOWN, array_bytes
from ddpm_bench.stages.gallery import num_images
from ddpm_bench.stages.landscape import LOSSES, num_calls
from ddpm_bench.store import Artifact


@dataclass(frozen=True)
class NetworkCost:
    """One network on one image. flops_forward, flops_step: operations of a forward pass, of a forward and backward
    pass (a multiply-add counts as two); num_parameters, num_bytes: of its float32 state."""

    flops_forward: int
    flops_step: int
    num_parameters: int
    num_bytes: int


def network_cost(cell: Cell, shape: tuple[int, int, int]) -> NetworkCost:
    """Counted on the meta device: nothing is computed, no memory is taken."""
    training, _ = bind(cell)
    module = build_network(training, cell.dataset, shape, "cpu").to("meta")
    if not any(True for _ in module.parameters()):
        return NetworkCost(0, 0, 0, 0)
    x, t = torch.zeros(1, *shape, device="meta"), torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as forward:
        module(x, t)
    with FlopCounterMode(display=False) as step:
        module(x, t).sum().backward()
    tensors = module.state_dict().values()
    return NetworkCost(
        forward.get_total_flops(),
        step.get_total_flops(),
        sum(parameter.numel() for parameter in module.parameters()),
        sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    )


@dataclass
class Cost:
    """Work that is still to be done."""

    training_images: int = 0
    network_calls: int = 0
    flops: int = 0
    num_bytes: int = 0
    seconds: float | None = 0.0
    """On one worker of this machine; None where it has not measured one of the networks."""


def plan_cost(plan: Plan, shape: tuple[int, int, int]) -> Cost:
    """The cost of everything that the selected cells miss."""
    missing, total = plan.missing(), Cost()
    speeds = measured_speeds(plan)
    seen: set[str] = set()
    networks: dict[str, NetworkCost] = {}
    for cell in plan.selected():
        name = dumps([cell.suite_cell.cell.network, cell.suite_cell.cell.diffusion.timesteps])
        if name not in networks:
            networks[name] = network_cost(cell.suite_cell.cell, shape)
        steps = len(cell.suite_cell.cell.kept_timesteps())
        for task in cell.tasks():
            if task.key in missing and task.key not in seen:
                seen.add(task.key)
                _add(total, plan, cell, task, networks[name], shape, speeds, steps)
    return total


def _add(total: Cost, plan: Plan, cell: CellPlan, task: Task, network: NetworkCost, shape: tuple[int, int, int],
         speeds: dict[tuple[str, str], float], chain_steps: int) -> None:  # fmt: skip
    dims, chain = shape[0] * shape[1] * shape[2], cell.suite_cell.cell
    work = 0
    if task.stage == "train":
        work = max(0, task.spec["steps"] - already_trained(plan, task)) * chain.training.batch_size
        total.training_images += work
        total.flops += work * network.flops_step
        total.num_bytes += 2 * network.num_bytes
    elif task.stage == "score":
        kept = task.spec["timesteps"]
        estimator = rebuild(Estimator, task.spec["estimator"])
        steps = estimator.calls(chain.diffusion.timesteps if kept is None else len(kept))
        split = f"num_{task.spec['split']}"
        images = (
            len(chunk_of(subset(plan.info[split], task.spec["images"]), task.spec["chunk"])) if plan.info else CHUNK
        )
        work = images * steps
        total.num_bytes += images * (2 * steps + dims) * 4
    elif task.stage == "sample":
        work = task.spec["count"] * chain_steps
        total.num_bytes += task.spec["count"] * dims
    elif task.stage == "gallery":
        shown, points = task.spec["images"], task.spec["points"]
        work = num_images(shown, points) * chain_steps
        total.num_bytes += (shown * task.spec["kept"] + shown // 2 * points) * dims
    elif task.stage == "forward":
        shown = min(SHOWN, plan.info["num_test"]) if plan.info else SHOWN
        total.num_bytes += array_bytes(task.spec["timesteps"], shown, dims)
    elif task.stage == "landscape":
        points, checkpoints = task.spec["points"], len(task.inputs["checkpoints"])
        work = num_calls(task.spec["images"], points, checkpoints, chain.diffusion.timesteps)
        total.num_bytes += len(LOSSES) * points**2 * 8
    if task.stage in ("score", "sample", "gallery", "landscape"):
        total.network_calls += work
        total.flops += work * network.flops_forward
    if work and total.seconds is not None:
        stage = {"gallery": "sample", "landscape": "score"}.get(task.stage, task.stage)  # the same calls
        speed = speeds.get((stage, dumps(chain.network)))
        total.seconds = None if speed is None else total.seconds + work / speed


def already_trained(plan: Plan, task: Task) -> int:
    """Steps of the longest shorter training that this one goes on from: planned, or left as a checkpoint."""
    planned = [
        train.spec["steps"]
        for cell in plan.selected()
        for train in cell.trains()
        if train.spec["training"] == task.spec["training"] and train.spec["steps"] < task.spec["steps"]
    ]
    if plan.info is None:
        return max(planned, default=0)
    trajectory = _checkpoints.trajectory_key(task.spec["training"], plan.info["digest"])
    found = [step for step in _checkpoints.steps(plan.store, trajectory) if step <= task.spec["steps"]]
    return max([*planned, *found], default=0)


def measured_speeds(plan: Plan) -> dict[tuple[str, str], float]:
    """(stage, network) → images or calls per second of one worker, from the store's artifacts; the newest counts."""
    found: dict[tuple[str, str], float] = {}
    for artifact in _artifacts(plan, "train"):
        speed = artifact.manifest["timings"].get("images_per_second")
        if speed:
            found["train", _network(artifact.spec)] = speed
    for stage in ("score", "sample"):
        for artifact in _artifacts(plan, stage):
            place, key = artifact.manifest["inputs"]["train"]
            if plan.store.has(place, key):
                train = plan.store.get(place, key)
                calls = artifact.manifest.get("info", {}).get("network_calls")
                if calls:
                    found[stage, _network(train.spec)] = calls / artifact.manifest["timings"]["seconds"]
    return found


def _network(train_spec: dict[str, Any]) -> str:
    return dumps(train_spec["training"]["network"])


def _artifacts(plan: Plan, stage: str) -> Iterator[Artifact]:
    folder = plan.store.root / stage
    manifests = sorted(folder.glob("[0-9a-f]*/manifest.json"), key=lambda file: file.stat().st_mtime)
    for file in manifests[-50:]:
        yield plan.store.get(stage, file.parent.name)
