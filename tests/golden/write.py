"""The golden files: `python -m tests.golden.write` (`make golden`) rewrites them and prints what moved, old → new.

keys.json: content keys of plans. A key that moves makes every store redo that work: it moves with IDENTITY_VERSION, a
stage's VERSION or an entry's `version`, never by accident. numbers.json: tables of the diffusion mathematics, keyed
draws and one pipeline without training. A number that moves is raised in a VERSION and in the CHANGELOG (Numerics).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import ddpm_bench as db
from ddpm_bench import registry
from ddpm_bench.planning import Plan
from ddpm_bench.randomness import Stream, derive_seed
from ddpm_bench.stages.runner import run_tasks
from ddpm_bench.store import Store, write_text

FOLDER = Path(__file__).parent
INFO = {
    "name": "digits", "shape": [1, 8, 8], "levels": 17, "num_train": 1293, "num_validation": 144, "num_test": 360,
    "digest": "d1" * 32,
}  # fmt: skip
"""What the data stage says of the data set, with a digest that stays although scikit-learn's file may not."""

VARIANTS = {
    "linear T = 1000": ("diffusion.timesteps=1000",),
    "cosine, s = 0.01": ("diffusion.schedule={name = 'cosine', s = 0.01}",),
    "L_vlb": ("diffusion.loss=vlb",),
    "L_simple with SNR weighting": ("diffusion.loss={name = 'simple', weighting = 'snr'}",),
    "L_vlb by second moment": ("diffusion.loss={name = 'vlb', time_sampling = 'loss_second_moment'}",),
    "L_simple with min-SNR weighting": ("diffusion.loss={name = 'simple', weighting = 'min_snr'}",),
    "L_hybrid": ("diffusion.loss=hybrid", "matrix.variance=['learned_range']"),
    "scaled_linear": ("diffusion.schedule=scaled_linear",),
    "sigmoid": ("diffusion.schedule=sigmoid",),
    "constant": ("diffusion.schedule={name = 'constant', beta = 0.05}",),
    "seed 1": ("matrix.seed=[1]",),
    "adamw, clipped, bfloat16": (
        "training.optimizer=adamw", "training.weight_decay=0.01", "training.gradient_clip=1.0",
        "training.precision=bfloat16",
    ),
    "DDPM's U-Net": ("network={name = 'unet', channels = 128, channel_multipliers = [1, 2, 2, 2], dropout = 0.1}",),
}  # fmt: skip
"""Overrides of the suite, whose first cell gives the training."""

TIMES = (1, 2, 10, 500, 999, 1000)
TABLES = ("beta", "alpha_bar", "one_minus_alpha_bar", "beta_tilde", "snr", "posterior_x_0", "posterior_x_t")


def decoded_plan(runs: Path, *overrides: str, info: dict[str, Any] = INFO) -> Plan:
    """The plan of the suite on a store in which the data stage seems to have run."""
    suite = db.load_suite(FOLDER / "suite.toml", overrides=overrides)
    data = db.plan(suite, runs=runs).data
    store = Store(runs / "store")
    if not store.has("data", data.key):
        with store.create("data", data.key, {"info": info}):
            pass
    return db.plan(suite, runs=runs)


def keys(runs: Path) -> dict[str, str]:
    """Name → key, for every stage of the suite's cells and for the trainings of VARIANTS."""
    plan = decoded_plan(runs)
    found = {"data": plan.data.key}
    for cell in plan.cells:
        name = cell.suite_cell.id
        found[f"{name}: train"] = cell.train.key
        found[f"{name}: score, chunk 0"] = cell.score["test"][0].key
        found[f"{name}: likelihood"] = cell.likelihood["test"].key
        found[f"{name}: sample, chunk 0"] = cell.samples[0].key
        found[f"{name}: features, chunk 0"] = cell.features[0].key
        for metric in ("kd_efficientnet_lite0", "kd_efficientnet_lite0_test"):
            found[f"{name}: quality {metric}"] = cell.quality[metric].key
        assert cell.gallery is not None
        found[f"{name}: gallery"] = cell.gallery.key
        for space, task in cell.nearest.items():
            found[f"{name}: nearest, {space}"] = task.key
    for schedule in ("linear", "cosine"):
        (cell,) = decoded_plan(runs, "matrix.prediction=['epsilon']", "matrix.variance=['beta']",
                               f"diffusion.schedule={schedule}").cells  # fmt: skip
        assert cell.forward is not None
        found[f"forward process, {schedule}"] = cell.forward.key
    (around,) = decoded_plan(runs, "matrix.prediction=['epsilon']", "matrix.variance=['beta']",
                             "evaluation.landscape=true").cells  # fmt: skip
    assert around.landscape is not None
    found["landscape"] = around.landscape.key
    for baseline in plan.baselines:
        found[f"baseline of {baseline.metric}: {baseline.name or 'codes'}"] = baseline.task.key
    (fitted,) = decoded_plan(runs, "matrix.prediction=['epsilon']", "matrix.variance=['optimal']").cells
    found["optimal: score of the fit, chunk 0"] = fitted.fit_scores[0].key
    assert fitted.fit is not None
    found["optimal: fit"] = fitted.fit.key
    found["optimal: likelihood"] = fitted.likelihood["test"].key
    found["optimal: sample, chunk 0"] = fitted.samples[0].key
    sampled = decoded_plan(runs, "evaluation.estimator={name = 'importance', calls_per_image = 20}").cells[0]
    found["importance: spectrum"] = sampled.score["test"][0].inputs["spectrum"][1]
    found["importance: score, chunk 0"] = sampled.score["test"][0].key
    for name, overrides in VARIANTS.items():
        found[f"training with {name}"] = decoded_plan(runs, *overrides).cells[0].train.key
    return found


def tables() -> dict[str, dict[str, dict[str, float]]]:
    """Schedule → quantity → {t: value} at T = 1000."""
    found: dict[str, Any] = {}
    for name in ("linear", "cosine", "scaled_linear", "sigmoid"):
        process = registry.get("schedules", name)().process(1000)
        quantities = {table: getattr(process, table) for table in TABLES}
        t = torch.arange(1000)
        for variance in ("beta", "beta_tilde"):
            quantities[f"log_sigma2 of {variance}"] = registry.get("variances", variance)().log_sigma2(process, t)
        found[name] = {
            quantity: {str(t): float(values[t - 1]) for t in TIMES} for quantity, values in quantities.items()
        }
    return found


def draws() -> dict[str, Any]:
    """The first draws of a stream: integers and uniforms are exact, normals go through log and cos."""
    stream, index = Stream(0, "golden"), torch.arange(3)
    return {
        "derive_seed": str(derive_seed(0, "golden", 7)),
        "uniform": [value.hex() for value in stream.uniform(5, index, 2).flatten().tolist()],
        "normal": stream.normal(5, index, (1, 1, 3)).flatten().tolist(),
    }


def pipeline(runs: Path) -> dict[str, dict[str, float]]:
    """Variance → estimate → value in bits/dim, of gaussian.toml through every stage, in this process."""
    suite = db.load_suite(FOLDER / "gaussian.toml")
    assert run_tasks(runs, [db.plan(suite, runs=runs).data], "cpu")
    plan = db.plan(suite, runs=runs)
    assert run_tasks(runs, list(plan.tasks().values()), "cpu")
    found = {}
    for cell in plan.cells:
        file = plan.store.path("likelihood", cell.likelihood["test"].key) / "estimates.json"
        estimates = json.loads(file.read_text(encoding="utf-8"))
        found[cell.suite_cell.axes["variance"]] = {
            f"bits_per_dim{part}": estimate["value"] for part, estimate in estimates.items()
        }
    return found


def numbers(runs: Path) -> dict[str, Any]:
    """Everything of numbers.json."""
    return {"tables": tables(), "draws": draws(), "pipeline": pipeline(runs)}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """A nested value as path → leaf."""
    if isinstance(value, dict):
        return {k: v for name, item in value.items() for k, v in flatten(item, f"{path} / {name}".strip(" /")).items()}
    return {path: value}


def main() -> None:
    """Rewrite both files; print every difference."""
    with tempfile.TemporaryDirectory() as folder:
        new = {"keys.json": keys(Path(folder) / "keys"), "numbers.json": numbers(Path(folder) / "numbers")}
    for name, content in new.items():
        file = FOLDER / name
        old = flatten(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
        here = flatten(content)
        moved = [path for path in {**old, **here} if old.get(path) != here.get(path)]
        print(f"{name}: {len(moved)} of {len(here)} moved")
        for path in moved:
            print(f"  {path}: {old.get(path)} → {here.get(path)}")
        write_text(file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
