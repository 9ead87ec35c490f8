"""How precise is bits/dim for how many network calls?

    python -m benchmarks.likelihood

trains a small network on the digits and one on Fashion-MNIST at 16×16 (kept in runs/benchmarks: a second call only
evaluates), compares `full`, a baseline with uniform t, and `importance`, repeats them with other draws, and writes
docs/performance.md and docs/likelihood_estimators.svg. About eleven minutes on two idle cores.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks._likelihood_page import figure, page
from benchmarks._repeats import BUDGETS, Estimated, Work
from benchmarks._trained import SUITES, train_and_evaluate

REPOSITORY = Path(__file__).resolve().parent.parent
RUNS = REPOSITORY / "runs" / "benchmarks"
REPEATS = 10
REPEAT_IMAGES = 256
FULL_REPEATS, FULL_REPEAT_IMAGES = 2, 64
"""`full` costs as much as twenty estimates of 50 calls: few repeats, few images."""


def work() -> list[Work]:
    """Everything to be estimated, long ones first."""
    found = []
    for suite in SUITES:
        found += [Work(suite, None, repeat, FULL_REPEAT_IMAGES) for repeat in range(FULL_REPEATS)]
        found += [Work(suite, 0, REPEATS, None)]
        found += [Work(suite, calls, repeat, REPEAT_IMAGES) for calls in (100, 50, 26) for repeat in range(REPEATS)]
        found += [Work(suite, 0, repeat, REPEAT_IMAGES) for repeat in range(REPEATS)]
        found += [Work(suite, calls, None, None) for calls in BUDGETS]
    return found
