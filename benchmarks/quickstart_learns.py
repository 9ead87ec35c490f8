"""Did the quickstart learn? Compares its cells with an untrained network, uniform noise and the uniform code.

    python -m benchmarks.quickstart_learns

reads runs/ after `ddpm-bench run suites/digits_quickstart.toml`, runs the same suite with `training.steps = 0` in a
temporary folder, prints what it compares, and ends with code 1 if a cell did not learn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import ddpm_bench as db

SUITE = Path(__file__).resolve().parent.parent / "suites" / "digits_quickstart.toml"
UNTRAINED = ("training.steps=0", 'evaluation.metrics=["kernel_distance"]', 'matrix.variance=["beta"]')
KERNEL_DISTANCE = "kd_efficientnet_lite0_test"
MAX_EPSILON_MSE = 0.30  # ε̂ = 0 has 1


def main() -> int:
    """Exit code: 0 if every comparison holds."""
    trained = db.results("digits_quickstart")
    baselines = {(item["name"], item["metric"]): item["value"] for item in trained.data["baselines"]}
    print("the same network, untrained:")
    with tempfile.TemporaryDirectory() as folder:
        untrained = db.run(db.load_suite(SUITE, overrides=UNTRAINED), runs=folder, reports=folder).results
        without = {cell.axes["prediction"]: cell.metrics[KERNEL_DISTANCE]["value"] for cell in untrained.cells}
    noise, uniform_code = baselines["uniform noise", KERNEL_DISTANCE], baselines["uniform code", "bits_per_dim"]
    epsilon_mse = trained.timestep_kl.groupby("cell_id")["epsilon_mse"].mean()
    checks: list[tuple[str, str, float, float]] = []
    for cell in trained.cells:
        distance = cell.metrics[KERNEL_DISTANCE]["value"]
        checks.append((cell.label, "kernel distance, untrained", distance, without[cell.axes["prediction"]]))
        checks.append((cell.label, "kernel distance, ¼ of noise", distance, noise / 4))
        if cell.axes["prediction"] == "epsilon":
            checks.append((cell.label, "ε-MSE, mean over t", epsilon_mse[cell.id], MAX_EPSILON_MSE))
            checks.append((cell.label, "bits/dim, uniform code", cell.metrics["bits_per_dim"]["value"], uniform_code))
    sound = True
    for label, what, value, bound in checks:
        sound &= value < bound
        print(f"{'ok  ' if value < bound else 'FAIL'}  {label:32} {what:28} {value:9.4f} < {bound:.4f}")
    print("report ", Path("reports", "digits_quickstart", "index.html"))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
