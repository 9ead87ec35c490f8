"""Bits/dim and quality over the number of training steps."""

from __future__ import annotations

from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.over_steps import Steps, draw_over
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.trainings import STEPS
from ddpm_bench.report.variants import Variant

PLACES = Steps(
    axis=STEPS, name="training_steps", what="training steps",
    sharing="the points of a line are places on one trajectory, so their differences are not those of independent "
    "trainings", count=lambda axes: int(axes[STEPS]),
)  # fmt: skip


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """One panel for each metric; None where the number of training steps does not vary."""
    return draw_over(view, groups, PLACES)
