"""What a user gives an evaluation: the protocol as a suite of one cell that is never trained, and the images."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddpm_bench import suite as suites
from ddpm_bench import toml
from ddpm_bench.datasets import data_root
from ddpm_bench.datasets._given import Seen, Wanted, read, sources
from ddpm_bench.errors import UserError, count
from ddpm_bench.identity import canonical, content_key
from ddpm_bench.stages import Task, module
from ddpm_bench.suite import Suite

FLAGS = {"dataset": "--dataset", "evaluation.metrics": "--metrics", "evaluation.extractor": "--extractor"}
"""Keys of the suite → the options that set them."""


def make_suite(dataset: Any, metrics: Sequence[str], extractors: Sequence[Any], overrides: Sequence[str]) -> Suite:
    """The suite whose data and protocol the evaluation has. Raises UserError with every problem, by option."""
    evaluation: dict[str, Any] = {"metrics": list(metrics), **({"extractor": list(extractors)} if extractors else {})}
    tables = {
        "schema": 1, "name": "evaluate", "title": "Images generated elsewhere", "evaluation": evaluation,
        "dataset": {"name": dataset} if isinstance(dataset, str) else dataset,
        "network": {"name": "unet", "channel_multipliers": [1]},  # never built; it halves nothing, so any size is legal
    }  # fmt: skip
    places = {key: toml.Place(0, rank, flag, None) for rank, (key, flag) in enumerate(FLAGS.items())}
    document = toml.Document(path=Path("evaluate"), tables=tables, written=tables, places=places)
    useless = [text for text in overrides if not re.match(r"\s*(dataset|evaluation)\.(?!samples\b)", text)]
    if useless:
        what = "an evaluation has dataset.… and evaluation.… only, and --samples"
        raise UserError([f"--set {text}: {what}" for text in useless])
    try:
        suite = suites.load(toml.apply(document, overrides))
    except UserError as problem:
        flags, keys = "|".join(FLAGS.values()), "|".join(map(re.escape, FLAGS))
        said_by_flag = rf"^({flags}): (?:{keys})(?:\[\d+\])?(?:\.|: )"  # what is left names a parameter, if any
        raise UserError([re.sub(said_by_flag, r"\1: ", text) for text in problem.problems]) from None
    chosen = suite.cells[0].cell.dataset
    if chosen.levels is None:
        raise UserError(f"--dataset: {chosen.name} has real values, no images to compare with; choose one of images")
    scored = [item.name for item in suite.resolved_metrics if item.metric.needs == "score"]
    if scored:
        raise UserError(f"--metrics: {', '.join(scored)}: needs the network that made the images, not images alone")
    return suite


def wanted(suite: Suite) -> Wanted:
    """What images have to be: those of the data set, which has grey levels."""
    dataset = suite.cells[0].cell.dataset
    assert dataset.levels is not None
    return Wanted(dataset.name, dataset.shape(data_root()), dataset.levels)


def look(images: Sequence[Path], suite: Suite) -> dict[Path, Seen]:
    """Path → what is in it: every image is read once before anything is written. Raises UserError."""
    if not images:
        raise UserError("--images names nothing; name directories, zip files or .npz of images")
    problems: list[str] = []
    found: dict[Path, Seen] = {}
    for path in images:
        if path in found:
            problems.append(f"--images {path}: named twice")
            continue
        found[path] = Seen()
        try:
            for _ in read(path, wanted(suite), found[path]):
                pass
        except UserError as problem:
            problems.extend(f"--images {text}" for text in problem.problems)
    if problems:
        raise UserError(problems)
    return found


def with_samples(suite: Suite, seen: dict[Path, Seen], asked: int | None, notify: Callable[[str], None]) -> Suite:
    """The suite with the number of images that enter of each set: the same of all, or values could not be compared.

    With several generations each takes that many. Raises UserError where a set has fewer than asked for.
    """
    if asked is not None and asked < 1:
        raise UserError(f"--samples {asked}: must be at least 1")
    generations = suite.evaluation.generations
    times = f" · {generations} generations" if generations > 1 else ""
    smallest = min(seen, key=lambda path: seen[path].num_images)
    samples = asked or max(seen[smallest].num_images // generations, 1)
    few = [
        f"--samples {samples}{times}: {path} has {count(found.num_images, 'image')}"
        for path, found in seen.items()
        if found.num_images < samples * generations
    ]
    if few:
        raise UserError(few)
    for path, found in seen.items():
        if found.num_images > samples * generations:
            why = "--samples" if asked else f"as many as {smallest} has"
            notify(f"{path}: the first {samples * generations} of {found.num_images} images enter ({why})")
    return dataclasses.replace(suite, evaluation=dataclasses.replace(suite.evaluation, samples=samples))


def given_task(suite: Suite, path: Path, seen: Seen) -> Task:
    """The task that holds a set of images; another one when a file has changed."""
    files = [(file, file.stat()) for file in sources(path)]
    spec = canonical({
        "path": str(path.resolve()), "num_images": seen.num_images, **asdict(wanted(suite)),
        "sources": [[file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in files],
    })  # fmt: skip
    return Task("given", content_key("given", module("given").VERSION, spec, {}), spec, {})


def notes(suite: Suite, seen: dict[Path, Seen]) -> list[str]:
    """What a user should know of the grey values."""
    return [note for path, found in seen.items() for note in found.notes(str(path), wanted(suite))]
