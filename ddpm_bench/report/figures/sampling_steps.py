"""Bits/dim and quality over the number of reverse steps, which is that of network calls for an image."""

from __future__ import annotations

from ddpm_bench.log_snr import chain_length
from ddpm_bench.report.figures import Drawing
from ddpm_bench.report.figures.over_steps import Steps, draw_over
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant

STEPS = Steps(
    axis="sampling_steps", name="sampling_steps", what="reverse steps", count=chain_length,
    sharing="for the samplers of the package a step is one network call for an image; a training serves all of its "
    "line",
)  # fmt: skip


def draw(view: ResultsView, groups: list[Variant]) -> Drawing | None:
    """One panel for each metric; None where the number of reverse steps does not vary."""
    return draw_over(view, groups, STEPS)
