"""How precise is bits/dim for how many network calls?

    python -m benchmarks.likelihood

trains a small network on the digits and one on Fashion-MNIST at 16×16 (kept in runs/benchmarks: a second call only
evaluates), compares `full`, a baseline with uniform t, and `importance`, repeats them with other draws, and writes
docs/likelihood.md and docs/likelihood_estimators.svg. About eleven minutes on two idle cores.
"""

from __future__ import annotations

import os
import resource
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import ddpm_bench as db
from benchmarks._evidence import PAIRS, SHOWN, Evidence, difference
from benchmarks._likelihood_page import GOAL_CALLS, figure, page
from benchmarks._repeats import BUDGETS, FULL, IMPORTANCE, UNIFORM, Estimated, Trained, Work, importance_suite
from benchmarks._trained import SUITES, train_and_evaluate

DOCS = Path(__file__).resolve().parent.parent / "docs"
RUNS = DOCS.parent / "runs" / "benchmarks"
REPEATS, REPEAT_IMAGES = 8, 256
FULL_REPEATS, FULL_REPEAT_IMAGES = 1, 128
"""`full` costs as much as twenty estimates of 50 calls; its evaluation by the pipeline counts as a repeat too."""


def work() -> list[Work]:
    """Everything that is estimated beside the pipeline, long ones first."""
    found = []
    for suite in reversed(SUITES):
        found += [Work(suite, None, repeat, FULL_REPEAT_IMAGES) for repeat in range(FULL_REPEATS)]
        found += [Work(suite, 0, REPEATS, None)]
        found += [
            Work(suite, calls, repeat, REPEAT_IMAGES) for calls in (*BUDGETS[::-1], 0) for repeat in range(REPEATS)
        ]
        found += [Work(suite, calls, None, None) for calls in BUDGETS]
    return found


def gather(suite: str, done: dict[Work, list[Estimated]]) -> Evidence:
    """The estimates of one network, with what results.json says."""
    trained, goal_suite = Trained(RUNS, suite), importance_suite(suite, GOAL_CALLS)
    full = trained.full()
    full_place, goal_place = (FULL, full.calls), (IMPORTANCE, GOAL_CALLS)
    start = slice(FULL_REPEAT_IMAGES)
    values, contrasts = ({name: x[start] for name, x in part.items()} for part in (full.value, full.contrast))
    once: dict[tuple[str, int], Estimated] = {}
    repeats = {full_place: [replace(full, value=values, contrast=contrasts)]}
    for item in work():
        for estimated in done[item] if item.suite == suite else []:
            place = estimated.estimator, estimated.calls
            if item.num_images is None:
                once[place] = estimated
            else:
                repeats.setdefault(place, []).append(estimated)
    cells = {
        place: {cell.axes["variance"]: cell for cell in db.results(name, runs=RUNS).cells}
        for place, name in ((full_place, suite), (goal_place, goal_suite))
    }
    uniform = UNIFORM, GOAL_CALLS
    pairs = {
        full_place: {pair: cells[full_place][pair[0]].difference(cells[full_place][pair[1]]) for pair in PAIRS},
        uniform: {pair: difference(once[uniform], pair) for pair in PAIRS},
        goal_place: {pair: cells[goal_place][pair[0]].difference(cells[goal_place][pair[1]]) for pair in PAIRS},
    }
    configuration = db.results(suite, runs=RUNS).data["configuration"]
    training = cells[full_place][SHOWN].training
    facts = {
        "schedule": configuration["diffusion"]["schedule"]["name"], "timesteps": len(trained.process),
        "num_dims": trained.x_0[0].numel(), "steps": training["steps"],
        "batch_size": configuration["training"]["batch_size"], "num_parameters": training["num_parameters"],
        "calls": {place: found[SHOWN].network_calls["likelihood"] for place, found in cells.items()},
    }  # fmt: skip
    return Evidence(str(SUITES[suite]["title"]), facts, full, once, repeats, pairs)


def main() -> None:
    """Train, evaluate, repeat, write."""
    train_and_evaluate(RUNS)
    print("trained and evaluated; repeating with other draws", flush=True)
    done: dict[Work, list[Estimated]] = {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(item.run, RUNS): item for item in work()}
        for number, future in enumerate(as_completed(futures), start=1):
            done[futures[future]] = future.result()
            print(f"{number} of {len(futures)}: {futures[future]}", flush=True)
    found = [gather(suite, done) for suite in SUITES]
    (DOCS / "likelihood_estimators.svg").write_text(figure(found), encoding="utf-8")
    (DOCS / "likelihood.md").write_text(page(found), encoding="utf-8")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"docs/likelihood.md written; CPU time {(used.ru_utime + used.ru_stime) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
