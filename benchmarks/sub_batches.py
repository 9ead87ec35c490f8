"""How far the number of images in a network call moves an image, over a whole chain of a trained network.

    python -m benchmarks.sub_batches [--runs runs] [--suite fashion_steps]

draws the first eight images of the suite's longest chains again, with 128 and with 8 images in a network call, and
writes its section of docs/performance.md. Two minutes of one core.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks._page import write_section
from ddpm_bench.records import read_plan
from ddpm_bench.spec import rebuild_reverse
from ddpm_bench.stages._model import load_model
from ddpm_bench.stages._sampling import ReverseChain
from ddpm_bench.store import Store

IMAGES, SIZES, SAMPLERS = 8, (128, 8), ("ancestral", "ddim")


def main() -> None:
    """Draw, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--suite", default="fashion_steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    plan, store = read_plan(arguments.runs, arguments.suite), Store(arguments.runs / "store")
    rows = []
    for sampler in SAMPLERS:
        chosen = next(
            task
            for task in plan["tasks"].values()
            if task["stage"] == "sample"
            and task["spec"]["reverse"]["sampler"]["name"] == sampler
            and task["spec"]["reverse"]["variance"]["name"] == "beta"
            and task["spec"]["reverse"]["timesteps"] is None
        )
        reverse = rebuild_reverse(chosen["spec"]["reverse"])
        model = load_model(store.get(*chosen["inputs"]["train"]), reverse.weights, "cpu")
        found = []
        for size in SIZES:
            chain = ReverseChain(replace(model, batch=size), reverse)
            found.append(chain.walk(*chain.noise(torch.arange(IMAGES))))
        difference = (found[0] - found[1]).abs()
        inside = float((found[0].abs() < 1).float().mean())
        rows.append(f"| {sampler} | {len(chain.process)} | {float(difference.max()):.1e} | {100 * inside:.0f} % |")
        print(rows[-1], flush=True)
    text = f"""
The noise of an image is the same bit for bit whatever it is drawn with; a network call rounds differently with another
number of images in it. {IMAGES} images of `suites/{arguments.suite}.toml`, drawn with {SIZES[0]} and with {SIZES[1]}
images in a call:

| sampler | steps | largest difference of a pixel in [−1, 1] | pixels inside the range |
| --- | ---: | ---: | ---: |
{chr(10).join(rows)}
"""
    write_section("sub_batches", text)


if __name__ == "__main__":
    main()
