"""What tests of whole runs share: a tiny suite on real digits, and looking at a store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

TINY = """
schema = 1
name = "tiny"
title = "A tiny suite"

[dataset]
name = "digits"

[network]
name = "unet"
channels = 8
channel_multipliers = [1, 2]
residual_blocks = 1
attention_resolutions = []

[diffusion]
timesteps = 10
schedule = "cosine"

[training]
steps = 40
batch_size = 16
learning_rate = 2e-3
ema_decay = 0.9

[evaluation]
metrics = ["bits_per_dim", "timestep_kl"]
samples = 20
images = 24

[matrix]
prediction = ["epsilon", "x0"]
variance = ["beta", "beta_tilde"]
"""


def write_suite(folder: Path, text: str = TINY, name: str = "tiny.toml") -> Path:
    """A suite file in a folder."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def cli(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line as a real process."""
    return subprocess.run(
        [sys.executable, "-m", "ddpm_bench", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment}, timeout=600, check=False,
    )  # fmt: skip


@contextmanager
def cli_in_background(*arguments: str | Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The command line as a process that is still running; it does not outlive the block.

    It gets the usual handling of Ctrl-C, which a shell takes away from commands that it starts in the background.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "ddpm_bench", *map(str, arguments)],
        cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def store_state(runs: Path) -> dict[str, int]:
    """Every file of the store with its modification time in nanoseconds."""
    root = runs / "store"
    return {
        file.relative_to(root).as_posix(): file.stat().st_mtime_ns for file in sorted(root.rglob("*")) if file.is_file()
    }


def artifacts(runs: Path) -> set[tuple[str, str]]:
    """(stage, key) of every finished artifact."""
    return {
        (file.parent.parent.name, file.parent.name) for file in (runs / "store").glob("[a-z]*/[0-9a-f]*/manifest.json")
    }


def stable_results(runs: Path, suite: str = "tiny") -> str:
    """results.json as text without created, environment and timings (top level and cells)."""
    found: dict[str, Any] = json.loads((runs / "suites" / suite / "results.json").read_text(encoding="utf-8"))
    for entry in (found, *found["cells"]):
        for name in ("created", "environment", "timings"):
            entry.pop(name, None)
    return json.dumps(found, indent=1)
