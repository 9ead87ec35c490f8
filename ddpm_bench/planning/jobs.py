"""From the missing tasks of a plan to jobs: what one process should do without a break."""

from __future__ import annotations

from ddpm_bench.executors import Job, make_job
from ddpm_bench.planning.plan import CellPlan, Plan
from ddpm_bench.stages import Task

CHUNKS_PER_JOB = 8
"""Sample chunks that one process makes before others may take over."""


def make_jobs(plan: Plan, num_workers: int) -> list[Job]:
    """The jobs of everything that the selected cells miss.

    One job for each trajectory of trainings, with its scores, likelihoods and landscapes (jobs of their own, in parts,
    where there are more workers than trainings); one for each cell's samples and their features (in parts, if there are
    many); one for its metrics and nearest images, joined to the samples where these are one job; one for its gallery
    where they are not; one for what needs no training: the features of the reference images with the floors and codes,
    and the forward processes.
    """
    missing = plan.missing()
    references = [*plan.references, *(baseline.task for baseline in plan.baselines)]
    references += _unique([cell.forward for cell in plan.selected() if cell.forward])
    jobs = [make_job("shared by all cells", references, missing, 2.0)]
    chosen = {id(cell) for cell in plan.selected()}
    several = len({cell.suite_cell.cell.seed for cell in plan.selected()}) > 1
    trajectories: dict[str, list[CellPlan]] = {}
    for cells in plan.trainings().values():
        wanted = [cell for cell in cells if id(cell) in chosen]
        if wanted:
            trajectories.setdefault(_trajectory(wanted[0]), []).extend(wanted)
    for cells in trajectories.values():
        jobs.extend(_training_jobs(_name(cells, several), cells, missing, apart=num_workers > len(trajectories)))
    for cell in plan.selected():
        jobs.extend(_sampling_jobs(_name([cell], several), cell, missing))
    done: set[str] = set()
    for job in jobs:  # a task that two jobs would make stays with the first; the other waits for it
        again = [task for task in job.tasks if task.key in done]
        job.tasks = [task for task in job.tasks if task.key not in done]
        job.needs |= {task.key for task in again}
        done |= {task.key for task in job.tasks}
    return [job for job in jobs if job.tasks]


def _training_jobs(name: str, cells: list[CellPlan], missing: dict[str, Task], apart: bool) -> list[Job]:
    """The trainings of a trajectory, shorter ones first, and what evaluates them by arithmetic and scores."""
    ordered = sorted(cells, key=lambda cell: cell.train.spec["steps"])
    weight = 10.0 + ordered[-1].train.spec["steps"]
    trains = sorted((task for cell in ordered for task in cell.trains()), key=lambda task: task.spec["steps"])
    scores = _unique([task for cell in ordered for tasks in [*cell.score.values(), cell.fit_scores] for task in tasks])
    fits = [cell.fit for cell in ordered if cell.fit]
    likelihoods = _unique([*fits, *(task for cell in ordered for task in cell.likelihood.values())])
    landscapes = _unique([cell.landscape for cell in ordered if cell.landscape])
    if not apart:
        return [make_job(name, _unique([*trains, *scores, *likelihoods, *landscapes]), missing, weight)]
    parts = [scores[i : i + CHUNKS_PER_JOB] for i in range(0, len(scores), CHUNKS_PER_JOB)]
    scoring = [make_job(name, part, missing, 5.0) for part in parts]
    around = [make_job(name, [landscape], missing, 6.0) for landscape in landscapes]
    after = [*scoring, *around, make_job(name, likelihoods, missing, 4.0)]
    return [make_job(name, _unique(trains), missing, weight), *after]


def _unique(tasks: list[Task]) -> list[Task]:
    return list({task.key: task for task in tasks}.values())


def _trajectory(cell: CellPlan) -> str:
    """What a training shares with longer and shorter ones: they run in order, each going on from the last."""
    return repr((cell.train.spec["training"], cell.train.inputs))


def _name(cells: list[CellPlan], several_seeds: bool) -> str:
    """The first of the cells in words, its seed where there are several, and how many more."""
    first = cells[0].suite_cell
    seed = f", seed {first.cell.seed}" if several_seeds else ""
    return first.label + seed + (f" (+{len(cells) - 1})" if len(cells) > 1 else "")


def _sampling_jobs(name: str, cell: CellPlan, missing: dict[str, Task]) -> list[Job]:
    metrics = [*cell.quality.values(), *cell.nearest.values()]
    gallery = [cell.gallery] if cell.gallery else []
    per_chunk = [[sample] for sample in cell.samples]
    for task in cell.features:  # beside the chunk they are features of
        chunk = [sample.key for sample in cell.samples].index(task.inputs["images"][1])
        per_chunk[chunk].append(task)
    parts = [per_chunk[i : i + CHUNKS_PER_JOB] for i in range(0, len(per_chunk), CHUNKS_PER_JOB)]
    jobs = [make_job(name, [t for chunk in part for t in chunk], missing, 1.0) for part in parts]
    if len(jobs) == 1:
        return [make_job(name, [*(t for chunk in per_chunk for t in chunk), *gallery, *metrics], missing, 1.0)]
    return [*jobs, make_job(name, gallery, missing, 1.0), make_job(name, metrics, missing, 0.5)]
