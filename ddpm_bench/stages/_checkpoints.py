"""Checkpoints of a training, under the key of its trajectory: what N steps leave, M > N steps start from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm_bench.identity import content_key
from ddpm_bench.store import Artifact, DamagedArtifact, Store

STAGE = "checkpoints"


VERSION = 1
"""Raised with the form of a checkpoint: older ones are not found any more."""


def trajectory_key(training: dict[str, Any], data_digest: str) -> str:
    """The key of a training without its number of steps."""
    return content_key("trajectory", VERSION, training, {"data": data_digest})


def save(
    store: Store, trajectory: str, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]
) -> None:
    """Write the state after `step` steps; keep it and the one before it.

    tensors: {"raw": state dict, "ema": state dict, "time_sampling": state of the sampler}, one file for each that is
    not empty; state: {"optimizer": state dict, and JSON values}.
    """
    state = dict(state)
    optimizer = state.pop("optimizer")
    with store.create(STAGE, f"{trajectory}/{step:08d}", {"step": step}) as out:
        for name, named in tensors.items():
            if named:
                save_weights(out / f"{name}.safetensors", named)
        with open(out / "optimizer.pt", "wb") as stream:
            torch.save(optimizer, stream)
        (out / "state.json").write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
    for old in [earlier for earlier in steps(store, trajectory) if earlier < step][:-1]:
        discard(store, trajectory, old)


def save_weights(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)


def steps(store: Store, trajectory: str) -> list[int]:
    """The steps that have a finished checkpoint, ascending."""
    folder = store.path(STAGE, trajectory)
    found = [int(path.name) for path in folder.glob("[0-9]*")] if folder.is_dir() else []
    return sorted(step for step in found if store.has(STAGE, f"{trajectory}/{step:08d}"))


def discard(store: Store, trajectory: str, step: int) -> None:
    """Remove a checkpoint, its manifest first, so that a half-removed one is garbage and not a state."""
    artifact = store.get(STAGE, f"{trajectory}/{step:08d}")
    (artifact.path / "manifest.json").unlink(missing_ok=True)
    shutil.rmtree(artifact.path)


def load(store: Store, trajectory: str, at_most: int, device: str) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """(step, tensors, state) of the newest good checkpoint not after `at_most`, or None.

    A damaged checkpoint gives way to the one before it, and is removed: where it lies the training will write again.
    """
    for step in reversed([step for step in steps(store, trajectory) if step <= at_most]):
        artifact = store.get(STAGE, f"{trajectory}/{step:08d}")
        try:
            artifact.verify()
        except DamagedArtifact:
            discard(store, trajectory, step)
            continue
        return step, _tensors(artifact, device), _state(artifact)
    return None


def _tensors(artifact: Artifact, device: str) -> dict[str, Any]:
    return {file.stem: load_file(file, device=device) for file in artifact.path.glob("*.safetensors")}


def _state(artifact: Artifact) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((artifact.path / "state.json").read_text(encoding="utf-8"))
    # On the CPU: load_state_dict moves the moments, and Adam's step counters are fast only where they are.
    state["optimizer"] = torch.load(artifact.path / "optimizer.pt", map_location="cpu", weights_only=True)
    return state
