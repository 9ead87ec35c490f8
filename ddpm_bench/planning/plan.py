"""What a suite needs: the tasks of each cell, what is beside them, and what is missing of it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ddpm_bench.stages import Task
from ddpm_bench.store import Store
from ddpm_bench.suite import Suite, SuiteCell


@dataclass
class CellPlan:
    """The tasks of one cell."""

    suite_cell: SuiteCell
    train: Task
    score: dict[str, list[Task]] = field(default_factory=dict)
    fit_scores: list[Task] = field(default_factory=list)
    fit: Task | None = None
    """The fit of a σ² that follows the network's errors."""
    likelihood: dict[str, Task] = field(default_factory=dict)
    no_bound: str | None = None
    """Why the cell has no bits/dim although the suite asks for it."""
    samples: list[Task] = field(default_factory=list)
    features: list[Task] = field(default_factory=list)
    quality: dict[str, Task] = field(default_factory=dict)
    """Result name (with the suffix of its reference split and n) → task."""
    gallery: Task | None = None
    nearest: dict[str, Task] = field(default_factory=dict)
    """"pixels", or an extractor's label → the search for the training images nearest to the samples."""
    forward: Task | None = None
    """The forward process on the data: no network, one task for all cells of a schedule and T."""
    checkpoints: list[Task] = field(default_factory=list)
    """The trainings that a landscape's path is made of, `train` at the end."""
    landscape: Task | None = None

    def tasks(self) -> list[Task]:
        """All of them, inputs before what reads them."""
        scores = [*(task for chunk in self.score.values() for task in chunk), *self.fit_scores]
        scores += [self.fit] if self.fit else []
        after = [*self.likelihood.values(), *self.samples, *self.features, *self.quality.values()]
        after += [*([self.gallery] if self.gallery else []), *self.nearest.values()]
        after += [self.forward] if self.forward else []
        after += [self.landscape] if self.landscape else []
        return [*self.trains(), *scores, *after]

    def trains(self) -> list[Task]:
        """The trainings, shorter ones first."""
        return self.checkpoints or [self.train]


@dataclass
class Baseline:
    """A task whose estimates stand beside the cells': name None means that its estimates carry the names."""

    name: str | None
    metric: str
    task: Task


@dataclass
class Plan:
    """Everything a suite needs, and what is known about it before it runs."""

    suite: Suite
    store: Store
    data: Task
    info: dict[str, Any] | None
    """The data stage's info.json; None before it has run: keys are provisional then."""
    cells: list[CellPlan]
    illegal: list[SuiteCell]
    references: list[Task]
    """What cells share beside the data: features of splits and of uniform noise, the spectrum of the images."""
    baselines: list[Baseline]
    not_computed: dict[str, str]
    """Result name → why it is not computed in this run (missing weights under --skip-missing)."""
    problems: list[str]
    """Everything that stops a run: missing data, missing weights."""
    warnings: list[str]
    """What a user should know before the run."""

    def tasks(self) -> dict[str, Task]:
        """Every task once, by key, inputs first."""
        ordered = [self.data, *self.references, *(baseline.task for baseline in self.baselines)]
        for cell in self.cells:
            ordered.extend(cell.tasks())
        return {task.key: task for task in ordered}

    def selected(self) -> list[CellPlan]:
        """The cells that this run computes."""
        chosen = self.suite.selected
        return [cell for cell in self.cells if chosen is None or cell.suite_cell.id in chosen]

    def missing(self) -> dict[str, Task]:
        """The tasks of the selected cells that have no artifact yet and can have one, by key, inputs first.

        Nothing comes after a diverged training: what reads it is not missing.
        """
        wanted = [self.data, *self.references, *(baseline.task for baseline in self.baselines)]
        for cell in self.selected():
            wanted.extend(cell.tasks())
        missing: dict[str, Task] = {}
        ended: set[str] = set()
        for task in wanted:
            if self.store.has(task.stage, task.key):
                if self.store.get(task.stage, task.key).outcome:
                    ended.add(task.key)
            elif any(key in ended for _, key in task.references()):
                ended.add(task.key)
            else:
                missing[task.key] = task
        return missing

    def trainings(self) -> dict[str, list[CellPlan]]:
        """Train key → the cells that share it."""
        found: dict[str, list[CellPlan]] = {}
        for cell in self.cells:
            found.setdefault(cell.train.key, []).append(cell)
        return found
