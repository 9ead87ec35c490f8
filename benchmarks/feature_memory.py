"""How much memory features take: writing 5,000 and 50,000 × 2048 of them, and a Fréchet distance of two such files.

    python -m benchmarks.feature_memory

runs the stage features (with a stand-in for the network, so that its memory does not hide the rest), the distance of
the metric frechet_distance, which is torch-fidelity's, and one of the points that its extrapolation looks at (the
largest of nine), each in a process of its own, and writes its section of docs/performance.md. Needs Linux (/proc),
1.2 GB of disk in the temporary folder, and some minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._page import write_section
from benchmarks._random_features import NUM_FEATURES, RandomFeatures

SIZES = (5_000, 50_000)
SPLITS = ("train", "test")
SHAPE = (3, 32, 32)
WORK = {
    "features": "writing two files, one after the other", "frechet": "Fréchet distance",
    "point": "a point of its extrapolation",
}  # fmt: skip
WARM_UP = 64
"""Images of a first run, whose memory (libraries, W) counts as the start."""


def status() -> dict[str, float]:
    """Resident memory of this process in MB: all of it, its peak, and the part that is no page of a file."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines if words[0] in ("VmRSS:", "VmHWM:", "RssAnon:")}
    return {name: value * 1024 / 1e6 for name, value in kilobytes.items()}


class Watch:
    """The most anonymous memory that was seen while the block ran: looked at every five milliseconds."""

    def __enter__(self) -> Watch:
        self.start = self.most = status()["RssAnon"]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.most = max(self.most, status()["RssAnon"])

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def make_images(runs: Path, count: int) -> None:
    """A data artifact of random images: `count` in train and in test, WARM_UP in validation."""
    from ddpm_bench.store import Store

    random = np.random.default_rng(0)
    manifest: dict[str, Any] = {"spec": {}, "info": {"levels": 256, "shape": list(SHAPE)}}
    with Store(runs / "store").create("data", f"{count}", manifest) as out:
        for split, number in (("train", count), ("test", count), ("validation", WARM_UP)):
            np.save(out / f"{split}.npy", random.integers(256, size=(number, *SHAPE), dtype=np.uint8))


def features(runs: Path, count: int, split: str) -> Path:
    """The stage features on a split, as a worker runs it; the folder of its artifact."""
    from ddpm_bench.identity import canonical
    from ddpm_bench.stages import Task, Verified
    from ddpm_bench.stages.runner import run_task
    from ddpm_bench.store import Store

    spec = canonical({"extractor": RandomFeatures(), "weights_sha256": "", "source": "split", "split": split})
    task, store = Task("features", f"{count}-{split}", spec, {"images": ("data", f"{count}")}), Store(runs / "store")
    run_task(runs, store, task, "cpu", Verified())
    return store.get("features", task.key).path


def child(runs: Path, count: int, work: str) -> None:
    """Measure one piece of work in this process and print what it took."""
    import torch

    from ddpm_bench.metrics._frechet import frechet_distance, moments
    from ddpm_bench.metrics.frechet_distance import by_torch_fidelity
    from ddpm_bench.vision import import_torch_fidelity

    import_torch_fidelity()
    torch.set_num_threads(1)
    if work == "features":
        features(runs, count, "validation")
    started = time.process_time()
    with Watch() as watch:
        if work == "features":
            for split in SPLITS:
                features(runs, count, split)
        else:
            folders = [runs / "store" / "features" / f"{count}-{split}" for split in SPLITS]
            sets = [np.load(folder / "features.npy", mmap_mode="c") for folder in folders]
            if work == "frechet":
                by_torch_fidelity(*sets)
            else:
                frechet_distance(*map(moments, sets))
    found = {
        "seconds": time.process_time() - started,
        "start": watch.start,
        "most": watch.most,
        "peak": status()["VmHWM"],
    }
    print(json.dumps(found))


def measure(runs: Path, count: int, work: str) -> dict[str, float]:
    """What a new process measured."""
    command = [sys.executable, "-m", "benchmarks.feature_memory", "--child", str(runs), str(count), work]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(what: str, count: int, found: dict[str, float]) -> str:
    """A line of the table."""
    size = count * NUM_FEATURES * 4 / 1e6
    grown = found["most"] - found["start"]
    values = (f"{size:,.0f}", f"{grown:,.0f}", f"{found['peak']:,.0f}", f"{found['seconds']:,.0f}")
    return f"| {what} | {count:,} | {' | '.join(values)} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        runs, count, work = arguments.child
        return child(Path(runs), int(count), work)
    rows = []
    for count in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder), count)
            for work, what in WORK.items():
                rows.append(row(what, count, measure(Path(folder), count, work)))
                print(rows[-1], flush=True)
    text = f"""
{NUM_FEATURES} features an image, in float32, from images of {" × ".join(map(str, SHAPE))}; one thread. "Own memory" is
what the process takes for itself beyond the start (libraries, network); "peak" is its whole resident memory: that, the
start, and the pages of memory-mapped files (images, features) that the system left in place while nobody else needed
them.

| work | images | MB of one file | own memory, MB | peak, MB | processor seconds |
| --- | ---: | ---: | ---: | ---: | ---: |
{chr(10).join(rows)}
"""
    write_section("feature_memory", text)


if __name__ == "__main__":
    main()
