"""Small artifacts made directly, and single stages run on them in this process."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ddpm_bench.datasets import Dataset
from ddpm_bench.datasets.cifar10 import Cifar10
from ddpm_bench.datasets.digits import Digits
from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.diffusion.estimators import Estimator
from ddpm_bench.diffusion.estimators.full import Full
from ddpm_bench.diffusion.losses.hybrid import Hybrid
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.predictions.epsilon import Epsilon
from ddpm_bench.diffusion.samplers.ancestral import Ancestral
from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.variances.beta import Beta
from ddpm_bench.diffusion.variances.learned_range import LearnedRange
from ddpm_bench.identity import canonical, content_key
from ddpm_bench.networks.unet import Unet
from ddpm_bench.spec import Reverse, Training, TrainingOptions, rebuild, rebuild_training
from ddpm_bench.stages import CHUNK, Task, Verified, module
from ddpm_bench.stages._checkpoints import save_weights
from ddpm_bench.stages._model import build_network
from ddpm_bench.stages.runner import run_task
from ddpm_bench.store import Artifact, Store

SMALL = Unet(channels=4, channel_multipliers=(1,), residual_blocks=1, attention_resolutions=())
"""About two thousand weights."""


def options(**changes: Any) -> dict[str, Any]:
    """The training options of an identity: the defaults with changes."""
    fields = {field.name: field.default for field in dataclasses.fields(TrainingOptions)}
    kept = {name: value for name, value in fields.items() if name != "steps" and name not in TrainingOptions.RECORDED}
    assert changes.keys() <= kept.keys()
    return {**kept, "batch_size": 16, "learning_rate": 1e-3, "ema_decay": 0.9, **changes}


def training(**changes: Any) -> Training:
    """A training of the small network: ε, cosine, T = 10, L_simple; with changes, `options` among them."""
    chosen = {
        "network": SMALL, "timesteps": 10, "schedule": Cosine(), "prediction": Epsilon(), "loss": Simple(),
        "learned_variance": False, "seed": 0,
    }  # fmt: skip
    return Training(**{**chosen, **changes, "options": options(**changes.get("options", {}))})


def with_head(**changes: Any) -> Training:
    """A training whose network has a variance head."""
    loss = Hybrid(variance=LearnedRange(), first_step="beta_tilde_2")
    return training(loss=loss, learned_variance=True, **changes)


def reverse(**changes: Any) -> Reverse:
    """A reverse process: β, ancestral, all steps, clip, EMA; with changes."""
    chosen: dict[str, Any] = {
        "variance": Beta(), "first_step": "beta_tilde_2", "sampler": Ancestral(), "timesteps": None,
        "thresholding": "clip", "weights": "ema",
    }  # fmt: skip
    return Reverse(**{**chosen, **changes})


@dataclass(frozen=True)
class Bench:
    """A folder of runs."""

    runs: Path

    @property
    def store(self) -> Store:
        """The store."""
        return Store(self.runs / "store")

    def task(self, stage: str, spec: Any, inputs: dict[str, Any], **recorded: Any) -> Task:
        """A task of a stage; inputs: name → artifact or list of them."""
        spec, places, keys = canonical(spec), {}, {}
        for name, value in inputs.items():
            pairs = [[a.path.parent.name, a.path.name] for a in (value if isinstance(value, list) else [value])]
            places[name] = pairs if isinstance(value, list) else pairs[0]
            keys[name] = str(pairs)
        return Task(stage, content_key(stage, module(stage).VERSION, spec, keys), spec, places, recorded)

    def run(self, stage: str, spec: Any, inputs: dict[str, Any], **recorded: Any) -> Artifact:
        """The artifact of a stage, made now."""
        task = self.task(stage, spec, inputs, **recorded)
        run_task(self.runs, self.store, task, "cpu", Verified())
        return self.store.get(stage, task.key)

    def train(self, steps: int, data: Artifact, chosen: Training | None = None, **recorded: Any) -> Artifact:
        """A train artifact by the stage; without validation and checkpoints before the end, unless asked for."""
        spec = {"training": chosen or training(), "steps": steps}
        return self.run("train", spec, {"data": data}, **{"validate_every": 1000, **recorded})

    def data(
        self, levels: int | None = 17, channels: int = 1, side: int = 4, train: int = 40, validation: int = 6,
        test: int = 9,
    ) -> Artifact:  # fmt: skip
        """Random images with that many levels (17, 256 or None), all pixels independent."""
        datasets: dict[int | None, Dataset] = {17: Digits(), 256: Cifar10(), None: Gaussian()}
        rng, shape = np.random.default_rng(0), (channels, side, side)
        counts = {"train": train, "validation": validation, "test": test}
        splits = {
            name: rng.standard_normal((count, *shape)).astype(np.float32)
            if levels is None
            else rng.integers(levels, size=(count, *shape)).astype(np.uint8)
            for name, count in counts.items()
        }
        return self.data_of(datasets[levels], splits)

    def data_of(self, dataset: Dataset, splits: dict[str, np.ndarray]) -> Artifact:
        """Given images: split → [N, C, H, W]. Those of a data set without levels are float32, others uint8."""
        digests = {name: hashlib.sha256(values.tobytes()).hexdigest() for name, values in splits.items()}
        shape = list(splits["test"].shape[1:])
        info = {
            "name": "made", "shape": shape, "levels": dataset.levels,
            **{f"num_{name}": len(values) for name, values in splits.items()},
            "digest": content_key("made", 1, [dataset, shape], digests),
        }  # fmt: skip
        manifest: dict[str, Any] = {"spec": canonical({"dataset": dataset}), "info": info}
        key = str(info["digest"])
        with self.store.create("data", key, manifest) as out:
            for name, values in splits.items():
                np.save(out / f"{name}.npy", values)
        return self.store.get("data", key)

    def model(self, data: Artifact, chosen: Training | None = None) -> Artifact:
        """A train artifact with random weights everywhere (others in raw than in ema), so that its output matters."""
        chosen, info = chosen or training(), data.manifest["info"]
        dataset = rebuild(Dataset, data.manifest["spec"]["dataset"])
        manifest: dict[str, Any] = {
            "spec": canonical({"training": chosen, "steps": 0}), "inputs": {"data": ["data", data.path.name]},
            "info": {"shape": info["shape"], "levels": info["levels"], "dataset": canonical(dataset)},
        }  # fmt: skip
        key = content_key("train", 1, manifest["spec"], {"data": data.path.name})
        with self.store.create("train", key, manifest) as out:
            for seed, name in enumerate(("ema", "raw")):
                net = build_network(chosen, dataset, tuple(info["shape"]), "cpu")
                randomise(net, seed)
                save_weights(out / f"{name}.safetensors", net.state_dict())
        return self.store.get("train", key)

    def once(self, stage: str, spec: Any, inputs: dict[str, Any]) -> Artifact:
        """The artifact of a stage: the one there is, or made now."""
        task = self.task(stage, spec, inputs)
        return self.store.get(stage, task.key) if self.store.has(stage, task.key) else self.run(stage, spec, inputs)

    def score(
        self, model: Artifact, data: Artifact, *, split: str = "test", weights: str = "ema",
        timesteps: tuple[int, ...] | None = None, estimator: Estimator | None = None,
    ) -> list[Artifact]:  # fmt: skip
        """The scores of a whole split, chunk by chunk."""
        estimator, images = estimator or Full(), data.manifest["info"][f"num_{split}"]
        inputs = {"train": model, "data": data}
        if estimator.needs_spectrum:
            inputs["spectrum"] = self.once("spectrum", {"images": 4096}, {"data": data})
        spec = {"split": split, "images": images, "weights": weights, "timesteps": timesteps, "estimator": estimator}
        return [self.once("score", {**spec, "chunk": chunk}, inputs) for chunk in range(-(-images // CHUNK))]

    def scores(
        self, model: Artifact, data: Artifact, used: Reverse, *, split: str = "test", estimator: Estimator | None = None
    ) -> dict[str, list[Artifact]]:
        """What a likelihood or a fit reads: the chain's own score where the plan has one, else that of all t."""
        common: dict[str, Any] = {"split": split, "weights": used.weights, "estimator": estimator}
        if used.variance.needs_head or (estimator is not None and estimator.needs_spectrum):
            return {"score": self.score(model, data, timesteps=used.timesteps, **common)}
        found = {"score": self.score(model, data, **common)}
        if used.timesteps is not None and used.timesteps[0] != 1:
            found["first"] = self.score(model, data, timesteps=used.timesteps[:1], **common)
        return found

    def fit(self, model: Artifact, data: Artifact, used: Reverse, *, decoder: str = "exact") -> Artifact:
        """The fit of the variance to the whole validation split."""
        images = data.manifest["info"]["num_validation"]
        spec = {"reverse": used, "split": "validation", "images": images, "decoder": decoder}
        return self.once(
            "fit", spec, {"train": model, "data": data, **self.scores(model, data, used, split="validation")}
        )

    def likelihood(
        self, model: Artifact, data: Artifact, used: Reverse, *, split: str = "test",
        estimator: Estimator | None = None, decoder: str = "exact",
    ) -> Artifact:  # fmt: skip
        """The bound of a reverse process on a whole split, with all that comes before it."""
        images = data.manifest["info"][f"num_{split}"]
        inputs: dict[str, Any] = {"train": model, "data": data}
        inputs |= self.scores(model, data, used, split=split, estimator=estimator)
        if used.variance.needs_fit:
            inputs["fit"] = self.fit(model, data, used, decoder=decoder)
        spec = {"reverse": used, "split": split, "images": images, "decoder": decoder}
        return self.once("likelihood", spec, inputs)

    def log(self, artifact: Artifact) -> str:
        """The log of the task that made an artifact."""
        return (self.runs / "logs" / artifact.path.parent.name / f"{artifact.path.name}.jsonl").read_text()


def randomise(net: nn.Module, seed: int) -> None:
    """Weights from N(0, 0.6²): a new network's output is zero, and this one passes ±1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator))


def weights(artifact: Artifact, name: str) -> dict[str, Tensor]:
    """raw or ema weights of a train artifact."""
    return load_file(artifact.path / f"{name}.safetensors")


def network(artifact: Artifact, name: str = "ema") -> nn.Module:
    """The module of an artifact of `Bench.model` in evaluation mode."""
    info = artifact.manifest["info"]
    net = build_network(
        rebuild_training(artifact.spec["training"]), rebuild(Dataset, info["dataset"]), tuple(info["shape"]), "cpu"
    )
    net.load_state_dict(weights(artifact, name))
    return net.eval().requires_grad_(False)


def table(file: Path) -> list[dict[str, float | None]]:
    """The rows of a CSV file of numbers; None where a field is empty."""
    with open(file, encoding="utf-8") as stream:
        return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(stream)]
