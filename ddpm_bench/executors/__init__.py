"""Executors run jobs; they know nothing of what a job computes.

A job is a list of tasks that one process runs one after the other. A finished task is passed over, so a job whose
process died is simply submitted again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ddpm_bench.stages import Task


@dataclass
class Job:
    """Tasks for one process. name: what the progress display calls it; needs: keys of other jobs' tasks."""

    name: str
    tasks: list[Task]
    needs: set[str] = field(default_factory=set)
    weight: float = 0.0
    """Expected work in arbitrary units: heavier jobs start first."""


def make_job(name: str, tasks: list[Task], missing: dict[str, Task], weight: float) -> Job:
    """A job of the missing ones among the tasks, with the missing inputs that other jobs make."""
    todo = [task for task in tasks if task.key in missing]
    own = {task.key for task in todo}
    needs = {key for task in todo for _, key in task.references() if key in missing and key not in own}
    return Job(name, todo, needs, weight)
