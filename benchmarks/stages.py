"""Seconds and bytes of each stage of a suite that has been run.

    python -m benchmarks.stages [--runs runs] [--suite fashion_steps]

reads the store and writes its section of docs/performance.md. Seconds are those of the worker that made the artifact,
on whatever else the machine was doing; bytes are those on disk.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks._page import write_section
from ddpm_bench.errors import count
from ddpm_bench.records import read_plan
from ddpm_bench.store import Artifact, Store

ORDER = (
    "data",
    "spectrum",
    "train",
    "score",
    "fit",
    "likelihood",
    "sample",
    "features",
    "quality",
    "nearest",
    "gallery",
    "forward",
    "landscape",
)


def main() -> None:
    """Read, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--suite", default="fashion_steps")
    arguments = parser.parse_args()
    plan, store = read_plan(arguments.runs, arguments.suite), Store(arguments.runs / "store")
    found: dict[str, list[Artifact]] = defaultdict(list)
    for key, task in plan["tasks"].items():
        if store.has(task["stage"], key):
            found[task["stage"]].append(store.get(task["stage"], key))
    stages = sorted(found, key=lambda stage: (ORDER.index(stage) if stage in ORDER else len(ORDER), stage))
    rows = [_row(stage, found[stage]) for stage in stages]
    seconds = sum(_seconds(artifact) for artifacts in found.values() for artifact in artifacts)
    size = sum(_size(artifact.path) for artifacts in found.values() for artifact in artifacts)
    missing = len(plan["tasks"]) - sum(map(len, found.values()))
    cells, trainings = plan["cells"], {cell["train"] for cell in plan["cells"] if "train" in cell}
    sizes = f"{count(len(cells), 'cell')}, {count(len(trainings), 'training')}"
    gaps = f" ({count(missing, 'artifact')} missing)" if missing else ""
    text = f"""
`suites/{arguments.suite}.toml`: {sizes}; {seconds / 60:.1f} minutes of one thread and
{size / 1e6:.1f} MB altogether{gaps}. What a line sums up ran in parallel, one worker for each core.

| stage | artifacts | seconds | network calls a second | kB each | MB |
| --- | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}
"""
    write_section("stages", text)
    print(text)


def _row(stage: str, artifacts: list[Artifact]) -> str:
    seconds, size = sum(map(_seconds, artifacts)), sum(_size(artifact.path) for artifact in artifacts)
    calls = sum(artifact.manifest.get("info", {}).get("network_calls", 0) for artifact in artifacts)
    speed = f"{calls / seconds:,.0f}" if calls else ""
    each, total = f"{size / 1e3 / len(artifacts):,.1f}", f"{size / 1e6:,.2f}"
    return f"| {stage} | {len(artifacts)} | {seconds:,.1f} | {speed} | {each} | {total} |"


def _seconds(artifact: Artifact) -> float:
    timings: dict[str, Any] = artifact.manifest["timings"]
    return float(timings.get("seconds", 0.0))


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    main()
