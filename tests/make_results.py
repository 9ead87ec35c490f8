"""Writes a complete example of what a run leaves: `python tests/make_results.py OUT [--cells 16] [--seeds 2]`.

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
from pathlib import Path
from typing import Any

import numpy as np

T, DIMENSIONS, LEVELS = 100, 64, 17
AXES = {
    "prediction": ["epsilon", "x0"],
    "variance": ["beta", "beta_tilde"],
    "loss": ["simple", "vlb"],
    "schedule": ["linear", "cosine"],
}
WORDS = {
    "epsilon": "ε", "x0": "x₀", "beta": "σ²=β", "beta_tilde": "σ²=β̃", "learned_range": "learned σ²",
    "simple": "L_simple", "vlb": "L_vlb",
}  # fmt: skip
FIXED = {"sampler": "ancestral", "sampling_steps": "all", "thresholding": "clip", "timesteps": "100"}
BITS = {"unit": "bits/dim", "higher_is_better": False}


def key(*parts: Any) -> str:
    """64 hex digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def betas(schedule: str) -> np.ndarray:
    """β_t, t = 1…T."""
    if schedule == "linear":
        return np.linspace(1e-4, 0.02, T) * 1000 / T
    u = np.arange(T + 1) / T
    f = np.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def kl_terms(axes: dict[str, str], random: np.random.Generator) -> dict[str, np.ndarray]:
    """Per t in bits/dim: variance cost and mean cost (t ≥ 2), L_0 at t = 1, and the two errors."""
    beta = betas(axes["schedule"])
    alpha_bar = np.cumprod(1 - beta)
    previous = np.concatenate([[1.0], alpha_bar[:-1]])
    beta_tilde = (1 - previous) / (1 - alpha_bar) * beta
    sigma2 = beta.copy() if axes["variance"] == "beta" else np.concatenate([beta_tilde[1:2], beta_tilde[1:]])
    snr = alpha_bar / (1 - alpha_bar)
    spread = 0.021 + 0.22 / (1 + 4 * snr)  # what is unknown of an image shrinks with the noise
    x0_mse = spread * (1 - alpha_bar) / (alpha_bar * spread + 1 - alpha_bar)
    excess = {("epsilon", "simple"): 0.10, ("epsilon", "vlb"): 0.04, ("x0", "simple"): 0.16, ("x0", "vlb"): 0.06}
    weak = 1 + 0.15 * (axes["prediction"] == "x0") / (1 + 0.1 / snr)  # predicting x₀ is poor at small t
    x0_mse *= (1 + excess[axes["prediction"], axes["loss"]]) * weak * np.exp(random.normal(0, 0.006))
    x0_mse *= np.exp(random.normal(0, 0.02, T))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = beta_tilde / sigma2
        variance_cost = 0.5 * (ratio - 1 - np.log(ratio)) / math.log(2)
    mean_cost = 0.5 * previous * beta**2 / (1 - alpha_bar) ** 2 * x0_mse / sigma2 / math.log(2)
    l_0 = 0.02 + 0.2 * x0_mse[0] / sigma2[0]
    variance_cost[0] = mean_cost[0] = 0.0
    l_t = 0.5 * (alpha_bar[-1] * 0.4 - alpha_bar[-1] - math.log(1 - alpha_bar[-1])) / math.log(2)
    return {
        "variance": variance_cost, "mean": mean_cost, "l_0": np.array(l_0), "l_T": np.array(l_t),
        "x0_mse": x0_mse, "epsilon_mse": x0_mse * snr,
    }  # fmt: skip


def estimate(value: float | None, stderr: float | None, num: int, protocol: dict, **rest: Any) -> dict[str, Any]:
    """A record of results.json."""
    return {"value": value, "stderr": stderr, "num_samples": num, "reason": None, "protocol": protocol, **BITS, **rest}


def likelihood_protocol(split: str) -> dict[str, Any]:
    """What two bits/dim must share."""
    return {
        "split": split, "images": {"train": 1293, "test": 360}[split], "estimator": "full", "decoder": "exact",
        "levels": LEVELS, "first_step": "beta_tilde_2", "thresholding": "clip", "weights": "ema",
    }  # fmt: skip


def quality_protocol(split: str) -> dict[str, Any]:
    """What two kernel distances must share."""
    return {
        "extractor": "efficientnet_lite0", "weights_digest": "b1f5f5a4", "resize": "bilinear 64", "rounding": "levels",
        "n_generated": 360, "n_reference": {"train": 1293, "test": 360}[split], "reference_split": split,
        "sampler": "ancestral", "sampling_steps": 100, "thresholding": "clip", "weights": "ema", "subsets": 100,
        "subset_size": 360,
    }  # fmt: skip


def metrics(terms: dict[str, np.ndarray], axes: dict[str, str], random: np.random.Generator) -> dict[str, Any]:
    """The metrics of a finished cell; the terms add up to bits_per_dim."""
    parts = {
        "bits_per_dim_l_0": float(terms["l_0"]),
        "bits_per_dim_mean_cost": math.fsum(terms["mean"]),
        "bits_per_dim_variance_cost": math.fsum(terms["variance"]),
        "bits_per_dim_l_T": float(terms["l_T"]),
    }
    total = math.fsum(parts.values())
    test, train = likelihood_protocol("test"), likelihood_protocol("train")
    found = {"bits_per_dim": estimate(total, 0.009 + 0.002 * random.random(), 360, test)}
    found |= {name: estimate(value, 0.002, 360, test) for name, value in parts.items()}
    found["bits_per_dim_train"] = estimate(total - 0.03 - 0.01 * random.random(), 0.005, 1293, train)
    distance = 0.03 + 0.12 * (axes["prediction"] == "x0") * (axes["loss"] == "simple") + 0.05 * (axes["loss"] == "vlb")
    distance += 0.04 * (axes["variance"] == "beta_tilde") + 0.01 * random.random()
    for suffix, split, shift in (("", "train", 0.0), ("_test", "test", 0.004)):
        found[f"kd_efficientnet_lite0{suffix}"] = estimate(
            distance + shift, 0.006, 360, quality_protocol(split), unit="MMD²"
        )
        found[f"fd_efficientnet_lite0{suffix}"] = estimate(
            90 + 300 * distance + random.random(),
            None,
            360,
            quality_protocol(split) | {"rank_deficient": True},
            unit="",
        )
    return found


def images(axes: dict[str, str], seed: int) -> np.ndarray:
    """128 digits of 17 levels; index i is the same digit in each variant, less clean in the worse ones."""
    from sklearn.datasets import load_digits

    order = np.random.default_rng(seed).permutation(1797)[:128]
    clean = load_digits().images[order][:, None]
    random = np.random.default_rng([seed, 1])
    noise = random.normal(0, 1, clean.shape)
    amount = 0.5 + 1.2 * (axes["variance"] == "beta") + 1.5 * (axes["prediction"] == "x0") + (axes["loss"] == "vlb")
    return np.clip(np.rint(clean + amount * noise), 0, LEVELS - 1).astype(np.uint8)


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
    floor = {"epsilon": 0.11, "x0": 0.05}[axes["prediction"]] if axes["loss"] == "simple" else 2.5
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
    "prediction": {"epsilon": "ε", "x0": "x₀", "mu": "μ", "v": "v"},
    "variance": {"beta": "σ²=β", "beta_tilde": "σ²=β̃"},
    "loss": {"simple": "L_simple", "vlb": "L_vlb"},
}
"""How the field writes the values, as results.json holds it."""


class Writer:
    """One example suite below `out`."""

    def __init__(self, out: Path, num_cells: int, num_seeds: int, steps: int = 1000):
        self.out, self.steps, self.seeds = out, steps, range(num_seeds)
        variants = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]
        variants.sort(key=lambda axes: axes["schedule"] == "cosine")  # eight variants keep to one schedule
        self.variants = [axes | FIXED for axes in variants[: num_cells // num_seeds]]
        self.varied = [name for name in AXES if len({axes[name] for axes in self.variants}) > 1] or ["prediction"]
        self.timestep_rows: list[dict[str, Any]] = []

    def train_key(self, axes: dict[str, str], seed: int) -> str:
        """With L_simple σ² is invisible to training."""
        sees = [axes["prediction"], axes["schedule"], axes["loss"], axes["variance"] if axes["loss"] == "vlb" else ""]
        return key("train", *sees, seed)

    def cell(self, axes: dict[str, str], seed: int, status: str = "done") -> dict[str, Any]:
        """One cell with its artifacts."""
        shown = [axes["prediction"], axes["variance"], axes["schedule"], axes["loss"]]
        trained = self.train_key(axes, seed)
        found: dict[str, Any] = {
            "id": "-".join([*shown, f"s{seed}"]), "label": ", ".join(WORDS.get(word, word) for word in shown),
            "axes": axes, "seed": seed, "status": status, "reason": None, "train_key": trained,
            "shares_training_with": [], "artifacts": {}, "log": f"logs/train/{trained}.jsonl",
            "training": {"num_parameters": 181_234, "steps": self.steps, "num_train_images": 1293,
                         "clipped_share": None, "divergence": None},
            "metrics": {}, "timings": {},
        }  # fmt: skip
        if status == "illegal":
            reason = "L_simple does not train the variance head that learned σ² reads; use L_hybrid or L_vlb"
            return found | {"reason": reason, "train_key": None, "log": None, "training": None}
        if status == "failed":
            reason = "RuntimeError: the worker was killed twice (out of memory)"
            return found | {"reason": reason, "training": None}
        last = 320 if status == "diverged" else self.steps
        write_csv(self.out / "store/train" / trained / "curves.csv", curves(axes, trained, last, status == "diverged"))
        found["artifacts"] = {"train": f"store/train/{trained}"}
        found["timings"] = {"train_seconds": 71.5 + seed, "images_per_second": 1790.0, "sample_seconds": 12.25}
        if status == "diverged":
            found["reason"] = "the loss is not finite"
            found["training"] |= {"steps": 320, "divergence": {"step": 320, "t": 87, "loss": 4.1e4}}
            return found
        sample = key("sample", *shown, seed)
        (self.out / "store/sample" / sample).mkdir(parents=True, exist_ok=True)
        np.save(self.out / "store/sample" / sample / "samples.npy", images(axes, seed))
        likelihood = f"store/likelihood/{key('likelihood', *shown, seed)}"
        found["artifacts"] |= {"samples": [f"store/sample/{sample}"], "likelihood": {"test": likelihood}}
        # one draw for each training: variants that share it differ by arithmetic alone
        terms = kl_terms(axes, np.random.default_rng([int(trained[:8], 16), 0]))
        found["metrics"] = metrics(terms, axes, np.random.default_rng([int(trained[:8], 16), 1]))
        for t in range(1, T + 1):
            first = t == 1
            total = float(terms["l_0"]) if first else float(terms["variance"][t - 1] + terms["mean"][t - 1])
            self.timestep_rows.append({
                "cell_id": found["id"], "seed": seed, "t": t, "kl": total, "stderr": 0.02 * total,
                "kl_variance": None if first else float(terms["variance"][t - 1]),
                "kl_mean": None if first else float(terms["mean"][t - 1]),
                "epsilon_mse": float(terms["epsilon_mse"][t - 1]), "x0_mse": float(terms["x0_mse"][t - 1]),
            })  # fmt: skip
        return found

    def cells(self, waiting: bool) -> list[dict[str, Any]]:
        """The matrix, and one variant that is illegal; the last variants fail and diverge in one seed."""
        found = []
        for index, axes in enumerate(self.variants):
            for seed in self.seeds:
                status, left = "done", len(self.variants) - index
                if seed == self.seeds[-1] and len(self.variants) > 2:
                    status = {1: "diverged", 2: "failed"}.get(left, "done")
                if not waiting:
                    found.append(self.cell(axes, seed, status))
                    continue
                draft = Writer.cell(self, axes, seed, "failed")
                found.append(draft | {"status": "waiting", "reason": None})
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

    def write(self, suite: str = "digits_ablation", waiting: bool = False, **changes: Any) -> Path:
        """Writes the suite; changes replace keys of results.json."""
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
                               "extractor": "efficientnet_lite0", "samples": 360, "splits": ["test", "train"]},
                "matrix": {name: AXES[name] for name in self.varied} | {"seed": list(self.seeds)},
                "include": [{"variance": "learned_range"}],
            },
            "overrides": ["training.steps=1000"],
            "data": {"name": "digits", "shape": [1, 8, 8], "levels": LEVELS, "num_train": 1293, "num_validation": 144,
                     "num_test": 360, "digest": key("digits")},
            "cells": cells, "claims": [], "references": [],
            "baselines": [quality | item for item in baselines], "timings": {"total_seconds": 1234.5},
        } | changes  # fmt: skip
        folder = self.out / "suites" / suite
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "results.json").write_text(text + "\n", encoding="utf-8")
        if self.timestep_rows:
            write_csv(folder / "timestep_kl.csv", self.timestep_rows)
        return folder


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", type=int, default=16, help="legal cells, seeds included")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    print(Writer(options.out, options.cells, options.seeds).write())


if __name__ == "__main__":
    main()
