"""Writes a complete example of what a run leaves: `python tests/make_results.py OUT [--matrix variants] [--cells 96]`.

OUT becomes a runs/ directory with one suite. The numbers are invented, but hang together: KLs come from the formulas of
a Gaussian with a network that is not quite optimal, bits/dim is their sum, images are digits with as much noise as the
variant deserves. Everything is a function of the arguments. Some cells diverged, failed or are illegal.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":  # as a script: its own folder is on the path, the repository is not
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ddpm_bench.claims import judge
from tests.made_forward import write_forward
from tests.made_numbers import Chain, log_sigma2, squared_error, terms

T, LEVELS = 100, 17
ABLATION = {
    "prediction": ["epsilon", "x0"],
    "variance": ["beta", "beta_tilde"],
    "loss": ["simple", "vlb"],
    "schedule": ["linear", "cosine"],
}
VARIANTS = {
    "prediction": ["epsilon", "x0", "mu", "v"],
    "variance": ["beta", "beta_tilde", "learned_range", "optimal"],
    "schedule": ["linear", "cosine"],
    "loss": ["simple", "vlb", "hybrid"],
}
STEPS = {"variance": ["beta", "beta_tilde", "optimal"], "sampling_steps": ["5", "10", "20", "50", "all"]}
CLAIMS = {name: ABLATION[name] for name in ("prediction", "variance", "loss")}
MATRICES = {
    "ablation": (ABLATION, 16, 2), "variants": (VARIANTS, 96, 1), "steps": (STEPS, 30, 2), "claims": (CLAIMS, 48, 6),
}  # fmt: skip
"""Name → axes, cells, seeds."""
WORDS = {
    "epsilon": "ε", "x0": "x₀", "mu": "μ", "beta": "σ²=β", "beta_tilde": "σ²=β̃", "learned_range": "σ²=learned",
    "optimal": "σ²=optimal", "simple": "L_simple", "vlb": "L_vlb", "hybrid": "L_hybrid",
}  # fmt: skip
FIXED = {"prediction": "epsilon", "variance": "beta", "schedule": "linear", "loss": "simple", "sampler": "ancestral",
         "sampling_steps": "all", "thresholding": "clip", "timesteps": str(T)}  # fmt: skip
STATEMENTS: tuple[dict[str, Any], ...] = (
    {"statement": "Predicting ε gives fewer bits/dim than predicting x₀ under L_simple",
     "source": "Ho et al. 2020, Table 2", "metric": "bits_per_dim", "better": {"prediction": "epsilon"},
     "than": {"prediction": "x0"}, "where": {"loss": "simple"}},
    {"statement": "With few steps σ²=β̃ gives a tighter bound than σ²=β", "source": "invented for this example",
     "metric": "bits_per_dim", "better": {"variance": "beta_tilde"}, "than": {"variance": "beta"},
     "where": {"loss": "simple"}},
    {"statement": "L_vlb gives better samples than L_simple", "source": "invented for this example",
     "metric": "kd_efficientnet_lite0", "better": {"loss": "vlb"}, "than": {"loss": "simple"}},
    {"statement": "Under L_vlb ε and x₀ are equivalent in the kernel distance", "source": "Salimans & Ho 2022, § 4",
     "metric": "kd_efficientnet_lite0", "equivalent": [{"prediction": "epsilon"}, {"prediction": "x0"}], "margin": 0.01,
     "where": {"loss": "vlb"}},
    {"statement": "Under L_vlb ε gives better samples than x₀", "source": None, "metric": "kd_efficientnet_lite0",
     "better": {"prediction": "epsilon"}, "than": {"prediction": "x0"}, "where": {"loss": "vlb"}},
    {"statement": "Predicting ε gives the smaller Fréchet distance", "source": "Bagge & Rørhauge 2024, Table 1",
     "metric": "fd_efficientnet_lite0", "better": {"prediction": "epsilon"}, "than": {"prediction": "x0"}},
)  # fmt: skip
"""[[claim]] tables of the example."""
BITS = {"unit": "bits/dim", "higher_is_better": False}
SPLITS = {"test": 360, "train": 1293, "validation": 144}


def key(*parts: Any) -> str:
    """64 hex digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def illegal(axes: dict[str, str]) -> str | None:
    """Why a combination makes no sense."""
    loss, variance = axes["loss"], axes["variance"]
    if loss == "simple" and variance == "learned_range":
        return "L_simple does not train the variance head that learned σ² reads; use L_hybrid or L_vlb"
    if loss == "vlb" and variance == "optimal":
        return "L_vlb with σ²=optimal: it is fitted after training; write out the σ² that the loss trains with"
    if loss == "hybrid" and variance != "learned_range":
        return f"L_hybrid with a fixed variance ({variance}): the bound term trains nothing; use L_simple"
    return None


def estimate(value: float | None, stderr: float | None, num: int, protocol: dict, **rest: Any) -> dict[str, Any]:
    """A record of results.json."""
    record = {"value": value, "stderr": stderr, "stderr_noise": None, "num_samples": num, "reason": None}
    return {**record, "protocol": protocol, **BITS, **rest}


def likelihood_protocol(split: str, axes: dict[str, str]) -> dict[str, Any]:
    """What two bits/dim must share."""
    steps = axes["sampling_steps"]
    return {
        "split": split, "images": SPLITS[split], "estimator": {"name": "full"}, "decoder": "exact", "levels": LEVELS,
        "first_step": "beta_tilde_2", "thresholding": "clip", "weights": "ema", "standard_error": "over images",
        "sampling_steps": steps if steps == "all" else int(steps),
    }  # fmt: skip


def quality_protocol(split: str, steps: str = "all") -> dict[str, Any]:
    """What two kernel distances must share."""
    return {
        "extractor": "efficientnet_lite0", "weights_digest": "b1f5f5a4", "resize": "bilinear 64", "rounding": "levels",
        "n_generated": 360, "n_reference": SPLITS[split], "reference_split": split, "sampler": "ancestral",
        "sampling_steps": T if steps == "all" else int(steps), "thresholding": "clip", "weights": "ema", "subsets": 100,
        "subset_size": 360,
    }  # fmt: skip


def metrics(tables: dict[str, dict], axes: dict[str, str], random: np.random.Generator) -> dict[str, Any]:
    """The metrics of a finished cell; the terms of a split add up to its bits_per_dim. tables: `terms` by split."""
    found = {}
    for split, table in tables.items():
        suffix, count = "" if split == "test" else f"_{split}", SPLITS[split]
        parts = {
            "_l_0": float(table["l_0"]), "_mean_cost": math.fsum(table["mean"]),
            "_variance_cost": math.fsum(table["variance"]), "_l_T": float(table["l_T"]),
        }  # fmt: skip
        values = {"": math.fsum(parts.values()), **parts, "_network": float(table["network"])}
        error = 0.009 + 0.002 * random.random() if split == "test" else 0.005
        protocol = likelihood_protocol(split, axes)
        for part, value in values.items():
            over_images, over_noise = (0.002 if part else error), 0.0012 * value / (1 + value)
            found[f"bits_per_dim{part}{suffix}"] = estimate(
                value, over_images, count, protocol, stderr_noise=over_noise
            )
    distance = 0.03 + 0.12 * (axes["prediction"] == "x0") * (axes["loss"] == "simple") + 0.05 * (axes["loss"] == "vlb")
    distance += 0.04 * (axes["variance"] == "beta_tilde") + 0.01 * random.random()
    steps = axes["sampling_steps"]
    distance += 0.0 if steps == "all" else (4 if axes["variance"] == "beta" else 1) / int(steps)
    for suffix, split, shift in (("", "train", 0.0), ("_test", "test", 0.004)):
        protocol = quality_protocol(split, steps)
        found[f"kd_efficientnet_lite0{suffix}"] = estimate(distance + shift, 0.006, 360, protocol, unit="MMD²")
        value, protocol = 90 + 300 * distance + random.random(), protocol | {"rank_deficient": True}
        found[f"fd_efficientnet_lite0{suffix}"] = estimate(value, None, 360, protocol, unit="")
    return found


def images(axes: dict[str, str], seed: int) -> np.ndarray:
    """128 digits of 17 levels; index i is the same digit in each variant, less clean in the worse ones."""
    from sklearn.datasets import load_digits

    order = np.random.default_rng(seed).permutation(1797)[:128]
    clean = load_digits().images[order][:, None]
    random = np.random.default_rng([seed, 1])
    noise = random.normal(0, 1, clean.shape)
    amount = 0.5 + 1.2 * (axes["variance"] == "beta") + 1.5 * (axes["prediction"] == "x0") + (axes["loss"] == "vlb")
    amount += 0.0 if axes["sampling_steps"] == "all" else 12 / int(axes["sampling_steps"])
    return np.clip(np.rint(clean + amount * noise), 0, LEVELS - 1).astype(np.uint8)


def write_gallery(out: Path, axes: dict[str, str], seed: int, shown: list[str]) -> tuple[dict[str, Any], ...]:
    """The gallery of a cell: (artifacts, what results.json says). Every picture is of the cell's own samples."""
    samples, random = images(axes, seed)[:16], np.random.default_rng([seed, 2, len(axes["prediction"])])
    count = min(8, T if axes["sampling_steps"] == "all" else int(axes["sampling_steps"]))
    timesteps = [int(t) for t in np.rint(np.linspace(T, 1, count))]
    noise = random.normal(0, 12, (4, count, *samples.shape[1:])) * (np.array(timesteps) - 1).reshape(-1, 1, 1, 1) / T
    weights = np.linspace(0, 1, 8).reshape(8, 1, 1, 1)
    between = [(1 - weights) * first + weights * last for first, last in (samples[:2], samples[2:4])]
    arrays = {
        "gallery": {"progressive": samples[:4, None] + noise, "interpolation": np.stack(between)},
        "pixels": {"images": samples[:, :, :, ::-1]}, "efficientnet_lite0": {"images": samples[::-1]},
    }  # fmt: skip
    places = {}
    for name, found in arrays.items():
        stage = "gallery" if name == "gallery" else "nearest"
        places[name] = f"store/{stage}/{key(stage, name, *shown, seed)}"
        (out / places[name]).mkdir(parents=True, exist_ok=True)
        for file, values in found.items():
            np.save(out / places[name] / f"{file}.npy", np.clip(np.rint(values), 0, LEVELS - 1).astype(np.uint8))
    nearest = {}
    for space, shift in (("pixels", 0.1), ("efficientnet_lite0", -0.05)):
        share = min(0.99, 0.4 + shift + 0.15 * (axes["prediction"] == "x0") + 0.02 * float(random.random()))
        kinds = {kind: {"value": value, "stderr": 0.03, "num_samples": 360, "unit": "share"}
                 for kind, value in (("nearer", share), ("below_median", share - 0.01))}  # fmt: skip
        nearest[space] = {
            "space": space, **kinds, "num_held_out": 360, "num_train": 1293, "median_distance": 17.0,
            "median_distance_held_out": 16.5,
        }  # fmt: skip
    artifacts = {"gallery": places.pop("gallery"), "nearest": places}
    return artifacts, {"network_calls": 16 * (T if count == 8 else count), "timesteps": timesteps, "nearest": nearest}


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows with one header; None is left empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def curves(axes: dict[str, str], trained: str, last: int, diverged: bool) -> list[dict[str, Any]]:
    """A training curve up to step `last`, a row every 20 steps, validated every 100."""
    random = np.random.default_rng(int(trained[:8], 16))
    level = math.exp(random.normal(0, 0.03))
    floor = 2.5 if axes["loss"] == "vlb" else {"epsilon": 0.11, "x0": 0.05, "mu": 0.02, "v": 0.08}[axes["prediction"]]
    rows = []
    for step in range(20, last + 1, 20):
        loss = floor * (1 + 8 * math.exp(-step / 90)) * math.exp(random.normal(0, 0.06))
        if diverged and step > last - 60:
            loss *= 30.0 ** (3 + (step - last) / 20)
        validated = step % 100 == 0 and not diverged
        error = 0.12 * (1 + 6 * math.exp(-step / 120)) * (1.2 if axes["prediction"] == "x0" else 1.0) * level
        rows.append({
            "step": step, "loss": loss, "learning_rate": 1e-3, "gradient_norm": 0.5 * math.exp(random.normal(0, 0.3)),
            "validation_epsilon_mse": error * math.exp(random.normal(0, 0.02)) if validated else None,
            "validation_bits_per_dim": 2.2 + 2.2 * math.exp(-step / 250) + 4 * error if validated else None,
        })  # fmt: skip
    return rows


SYMBOLS = {
    axis: {name: WORDS[name] for name in names if name in WORDS}
    for axis, names in VARIANTS.items()
    if axis != "schedule"
}
"""How the field writes the values, as results.json holds it."""


def claims(statements: Sequence[dict[str, Any]], cells: list[dict[str, Any]], varied: list[str]) -> list[dict]:
    """The statements with their verdicts; those whose sides this example does not have are left out."""
    bound = []
    for table in statements:
        sides = [table["better"], table["than"]] if "better" in table else table["equivalent"]
        chosen = []
        for side in sides:
            wanted = (side | table.get("where", {})).items()
            ids = [cell["id"] for cell in cells if all(cell["axes"][axis] == name for axis, name in wanted)]
            chosen.append({"selector": side, "cells": ids})
        if all(side["cells"] for side in chosen):
            pair = "better" in table
            bound.append({
                "statement": table["statement"], "metric": table["metric"], "axes": list(sides[0]),
                "source": table["source"], "better": chosen[0] if pair else None, "than": chosen[1] if pair else None,
                "equivalent": None if pair else chosen, "margin": table.get("margin"), "where": table.get("where"),
                "dataset": None,
            })  # fmt: skip
    return json.loads(json.dumps(judge(bound, cells, varied)))


def references(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two published values beside the first and the last variant; nobody has compared the second with its source."""
    rest = {"dataset": "digits", "metric": "bits_per_dim", "protocol": "CIFAR-10, train split", "where": None}
    return [
        rest | {"value": value, "source": source, "checked": checked, "cells": [cell["id"]]}
        for cell, value, source, checked in (
            (cells[0], 3.75, "Ho et al. 2020, Table 2", "2026-02-01"), (cells[-1], 3.7, "a preprint", None),
        )
    ]  # fmt: skip


class Writer:
    """One example suite below `out`: the first cells of a matrix, and what of it is illegal.

    num_cells counts the seeds; of "ablation" legal cells, one more variant being illegal, of the others all.
    """

    def __init__(self, out: Path, num_cells: int, num_seeds: int, steps: int = 1000, matrix: str = "ablation"):
        self.out, self.steps, self.seeds, self.matrix = out, steps, range(num_seeds), matrix
        self.axes = MATRICES[matrix][0]
        variants = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        if matrix == "ablation":
            variants.sort(key=lambda axes: axes["schedule"] == "cosine")  # eight variants keep to one schedule
        self.variants = [FIXED | axes for axes in variants[: num_cells // num_seeds]]
        used = [name for name in self.axes if len({axes[name] for axes in self.variants}) > 1]
        self.varied = used or ["prediction"]
        self.splits = ["test", "train"] if matrix == "ablation" else ["test", "train", "validation"]
        self.timestep_rows: dict[str, list[dict[str, Any]]] = {split: [] for split in self.splits}

    def train_key(self, axes: dict[str, str], seed: int) -> str:
        """With L_simple σ² is invisible to training."""
        own = "" if axes["loss"] == "simple" else axes["variance"]
        return key("train", axes["prediction"], axes["schedule"], axes["loss"], own, seed)

    def cell(self, axes: dict[str, str], seed: int, status: str = "done") -> dict[str, Any]:
        """One cell with its artifacts."""
        shown = [axes["prediction"], axes["variance"], axes["schedule"], axes["loss"]]
        shown += [f"sampling_steps_{axes['sampling_steps']}"] if "sampling_steps" in self.axes else []
        trained = self.train_key(axes, seed)
        found: dict[str, Any] = {
            "id": "-".join([*shown, f"s{seed}"]), "label": ", ".join(WORDS.get(word, word) for word in shown),
            "axes": axes, "variant": None, "seed": seed, "status": status, "reason": None, "train_key": trained,
            "shares_training_with": [], "artifacts": {}, "log": f"logs/train/{trained}.jsonl",
            "training": {"num_parameters": 181_234, "steps": self.steps, "num_train_images": 1293,
                         "clipped_share": None, "divergence": None},
            "network_calls": None, "fit": None, "gallery": None, "metrics": {}, "timings": {},
        }  # fmt: skip
        if status == "illegal":
            return found | {"reason": illegal(axes), "train_key": None, "log": None, "training": None}
        if status == "failed":
            reason = "RuntimeError: the worker was killed twice (out of memory)"
            return found | {"reason": reason, "training": None}
        last = 320 if status == "diverged" else self.steps
        write_csv(self.out / "store/train" / trained / "curves.csv", curves(axes, trained, last, status == "diverged"))
        forward = write_forward(self.out, axes["schedule"], int(axes["timesteps"]), LEVELS)
        found["artifacts"] = {"train": f"store/train/{trained}", "forward": forward}
        found["timings"] = {"train_seconds": 71.5 + seed, "images_per_second": 1790.0, "sample_seconds": 12.25}
        if status == "diverged":
            found["reason"] = "the loss is not finite"
            found["training"] |= {"steps": 320, "divergence": {"step": 320, "t": 87, "loss": 4.1e4}}
            return found
        sample = key("sample", *shown, seed)
        (self.out / "store/sample" / sample).mkdir(parents=True, exist_ok=True)
        np.save(self.out / "store/sample" / sample / "samples.npy", images(axes, seed))
        likelihood = {split: f"store/likelihood/{key('likelihood', *shown, seed, split)}" for split in self.splits}
        found["artifacts"] |= {"samples": [f"store/sample/{sample}"], "likelihood": likelihood}
        calls = T if axes["sampling_steps"] == "all" else int(axes["sampling_steps"])
        found["network_calls"] = {
            "likelihood": (calls + 1) * sum(SPLITS[split] for split in self.splits),
            "sample": 360 * calls,
        }
        artifacts, found["gallery"] = write_gallery(self.out, axes, seed, shown)
        found["artifacts"] |= artifacts
        found["fit"] = {"split": "validation", "num_images": 144} if axes["variance"] == "optimal" else None
        tables = self.tables(axes, trained)
        found["metrics"] = metrics(tables, axes, np.random.default_rng([int(trained[:8], 16), 1]))
        for split, table in tables.items():
            self.timestep_rows[split] += timestep_rows(found, table)
        return found

    def tables(self, axes: dict[str, str], trained: str) -> dict[str, dict[str, Any]]:
        """`terms` by split. One draw for each training: variants that share it differ by arithmetic alone."""
        kept = None if axes["sampling_steps"] == "all" else int(axes["sampling_steps"])
        chain = Chain(axes["schedule"], T, kept)
        random = np.random.default_rng([int(trained[:8], 16), 0])
        errors = {"test": squared_error(axes["prediction"], axes["loss"], chain, random)}
        noise = np.exp(random.normal(0, 0.01, (2, T)))[:, chain.t - 1]
        errors |= {"train": 0.985 * errors["test"] * noise[0], "validation": errors["test"] * noise[1]}
        chosen = log_sigma2(axes["variance"], chain, errors["validation"])
        low, high = np.log(chain.beta_tilde), np.log(chain.beta)
        head = 2 * (chosen - low) / (high - low) - 1 if axes["variance"] == "learned_range" else None
        return {split: terms(chain, chosen, errors[split]) | {"t": chain.t, "head": head} for split in self.splits}

    def cells(self, waiting: bool) -> list[dict[str, Any]]:
        """The matrix; its last variants fail and diverge in one seed."""
        found = []
        for index, axes in enumerate(self.variants):
            for seed in self.seeds:
                status, left = "done", len(self.variants) - index
                if seed == self.seeds[-1] and len(self.variants) > 2 and self.matrix == "ablation":
                    status = {1: "diverged", 2: "failed"}.get(left, "done")
                if illegal(axes):
                    found.append(self.cell(axes, seed, "illegal"))
                elif not waiting:
                    found.append(self.cell(axes, seed, status))
                else:
                    draft = Writer.cell(self, axes, seed, "failed")
                    found.append(draft | {"status": "waiting", "reason": None})
        if self.matrix == "ablation":
            forbidden = self.variants[0] | {"variance": "learned_range"}
            found += [self.cell(forbidden, seed, "illegal") for seed in self.seeds]
        for cell in found:
            same = [other["id"] for other in found if other["train_key"] == cell["train_key"] is not None]
            cell["shares_training_with"] = [name for name in same if name != cell["id"]]
        done = [cell for cell in found if cell["metrics"]]
        if done:  # a value that was not computed has its reason
            why = "classifier weights are missing: `ddpm-bench weights import`"
            for cell in done[-2:]:
                record = cell["metrics"]["kd_efficientnet_lite0_test"]
                cell["metrics"]["kd_efficientnet_lite0_test"] = record | {"value": None, "stderr": None, "reason": why}
        return found

    def write(self, suite: str = "", waiting: bool = False, **changes: Any) -> Path:
        """Writes the suite; changes replace keys of results.json."""
        suite = suite or f"digits_{self.matrix}"
        cells = self.cells(waiting)
        quality = {"num_samples": 360, "higher_is_better": False, "reason": None, "unit": "MMD²"}
        bits = {"num_samples": 360, "reason": None, **BITS, "protocol": {"split": "test", "levels": LEVELS}}
        kd, floor = "kd_efficientnet_lite0", quality_protocol("train")
        baselines = [
            {"name": "uniform code", "metric": "bits_per_dim", "value": math.log2(LEVELS), "stderr": None, **bits},
            {"name": "per-pixel histogram", "metric": "bits_per_dim", "value": 2.431, "stderr": 0.011, **bits},
            {"name": "floor: held-out images", "metric": kd, "value": 0.0042, "stderr": 0.0011, "protocol": floor},
            {"name": "uniform noise", "metric": kd, "value": 1.31, "stderr": 0.02, "protocol": floor},
        ]  # fmt: skip
        data = {
            "schema": 1, "suite": suite, "title": "The axes of DDPM on 8×8 digits", "created": "2026-03-01T12:00:00Z",
            "environment": {"python": "3.11.7", "platform": "Linux-6.1-x86_64", "processor": "x86_64, 2 cores",
                            "git": "1cf6700", "packages": {"torch": "2.13.0", "numpy": "2.4.6", "pandas": "3.1.1"}},
            "axes": self.varied,
            "symbols": SYMBOLS,
            "configuration": {
                "schema": 1, "name": suite, "dataset": {"name": "digits"},
                "network": {"name": "unet", "channels": 16, "channel_multipliers": [1, 2]},
                "diffusion": {"timesteps": T, "prediction": "epsilon", "schedule": "linear", "loss": "simple"},
                "training": {"steps": self.steps, "batch_size": 128, "learning_rate": 1e-3, "ema_decay": 0.995,
                             "optimizer": "adam", "gradient_clip": None},
                "reverse": {"variance": "beta", "sampler": "ancestral", "sampling_steps": "all", "weights": "ema",
                            "first_step": "beta_tilde_2", "thresholding": "clip"},
                "evaluation": {"metrics": ["bits_per_dim", "timestep_kl", "kernel_distance", "frechet_distance"],
                               "extractor": "efficientnet_lite0", "samples": 360, "splits": self.splits,
                               "estimator": {"name": "full"}, "fit_images": 256, "gallery": True},
                "matrix": {name: self.axes[name] for name in self.varied} | {"seed": list(self.seeds)},
            },
            "overrides": ["training.steps=1000"],
            "data": {"name": "digits", "shape": [1, 8, 8], "levels": LEVELS, "num_train": 1293, "num_validation": 144,
                     "num_test": 360, "digest": key("digits")},
            "cells": cells, "claims": claims(STATEMENTS, cells, self.varied),
            "references": references(cells) if self.matrix == "claims" else [],
            "baselines": [quality | item for item in baselines], "timings": {"total_seconds": 1234.5},
        } | changes  # fmt: skip
        folder = self.out / "suites" / suite
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "results.json").write_text(text + "\n", encoding="utf-8")
        for split, rows in self.timestep_rows.items():
            if rows:
                write_csv(folder / f"timestep_kl{'' if split == 'test' else f'_{split}'}.csv", rows)
        return folder


def timestep_rows(cell: dict[str, Any], table: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a cell in timestep_kl.csv; at its first step the parts of the KL, and a head, have no value."""
    found = []
    for index, t in enumerate(table["t"].tolist()):
        first, row = index == 0, {name: float(values[index]) for name, values in table.items() if np.ndim(values)}
        head = table["head"] is not None
        found.append({
            "cell_id": cell["id"], "seed": cell["seed"], "t": t, "kl": row["kl"], "stderr": 0.02 * row["kl"],
            "kl_variance": None if first else row["variance"], "kl_mean": None if first else row["mean"],
            "epsilon_mse": row["epsilon_mse"], "x0_mse": row["x0_mse"], "log_snr": row["log_snr"],
            "log_sigma2": None if first and head else row["log_sigma2"],
            "head": None if first or not head else row["head"],
            "rate": row["rate"], "distortion": row["distortion"],
        })  # fmt: skip
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--matrix", choices=MATRICES, default="ablation")
    parser.add_argument("--cells", type=int, help="cells, seeds included; of the ablation legal ones")
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    _, cells, seeds = MATRICES[options.matrix]
    print(Writer(options.out, options.cells or cells, options.seeds or seeds, matrix=options.matrix).write())


if __name__ == "__main__":
    main()
