"""The page and the figure of the benchmark of bits/dim: what was estimated, put into tables and words."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from matplotlib.lines import Line2D

from benchmarks._evidence import PAIRS, SAMPLED, SHOWN, Evidence
from benchmarks._repeats import BUDGETS, CURVE, FULL, IMPORTANCE, PLAIN, UNIFORM
from ddpm_bench.environment import environment
from ddpm_bench.paired import QUANTILE
from ddpm_bench.report.figures import FAINT, export, legend, log_axis, new_figure, style
from ddpm_bench.report.figures.encoding import PALETTE
from ddpm_bench.report.words import mathtext

GOAL, GOAL_CALLS, GOAL_DIMS = 0.005, 50, 150_000
"""Half width of the 95 % interval in bits/dim, at these calls per image (T/20), for so many dimensions or more."""
SYMBOLS = {"beta": "β", "beta_tilde": "β̃", "optimal": "σ²=optimal"}


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A table in Markdown; the first column is text."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(item) for item in line) + " |" for line in lines)


def goal_table(found: list[Evidence]) -> str:
    """Half widths at the goal's number of calls for each σ², and what the images contribute."""
    goal = IMPORTANCE, GOAL_CALLS
    head = [
        "network",
        "N·D",
        "σ²",
        f"importance, {GOAL_CALLS} calls",
        "full",
        f"uniform t, {GOAL_CALLS} calls",
        "images",
    ]
    rows = [
        [
            item.title, f"{item.num_images * item.facts['num_dims']:,}", SYMBOLS[variance],
            *(f"±{QUANTILE * item.error(place, variance):.4f}" for place in (goal, item.full_place)),
            f"±{QUANTILE * item.error((UNIFORM, GOAL_CALLS), variance):.3f}",
            f"±{QUANTILE * item.image_error(variance):.3f}",
        ]
        for item in found for variance in SYMBOLS
    ]  # fmt: skip
    return table(head, rows)


def run_table(item: Evidence) -> str:
    """Every estimator once on the same images."""
    head = ["estimator", "calls per image", "of N·T", "bits/dim", "sd of the noise", "95 %", "minus `full`",
            "in its errors", "CPU seconds"]  # fmt: skip
    full, full_error = item.full.value[SHOWN].mean(), item.error(item.full_place)
    rows = []
    for place in [item.full_place, *SAMPLED]:
        estimated = item.full if place == item.full_place else item.once[place]
        value, error = estimated.value[SHOWN].mean(), item.error(place)
        difference = [f"{value - full:+.4f}", f"{(value - full) / math.hypot(error, full_error):+.1f}"]
        rows.append([
            place[0], place[1], f"{100 * place[1] / item.facts['timesteps']:.1f} %", f"{value:.4f}", f"{error:.5f}",
            f"±{QUANTILE * error:.4f}", *(["", ""] if place == item.full_place else difference),
            f"{item.seconds(place):.1f}",
        ])  # fmt: skip
    return table(head, rows)


def honesty_table(found: list[Evidence]) -> str:
    """Claimed and found standard deviations over the repeats."""
    head = ["network", "estimator", "calls", "R × n", "claimed", "found", "claimed / found", "sd of the means",
            "bias in its errors"]  # fmt: skip
    rows = []
    for item in found:
        for place in [item.full_place, *(place for place in SAMPLED if place[0] in (UNIFORM, IMPORTANCE))]:
            honesty, repeats = item.honesty(place), item.repeats[place]
            rows.append([
                item.title, *place, f"{len(repeats)} × {len(repeats[0].value[SHOWN])}",
                f"{honesty.claimed:.5f}", f"{honesty.found:.5f}", f"{honesty.ratio:.2f} ± {honesty.ratio_error:.2f}",
                *(["", ""] if place == item.full_place else [f"{honesty.of_means:.5f}", f"{honesty.bias:+.1f}"]),
            ])  # fmt: skip
    return table(head, rows)


def pair_table(found: list[Evidence]) -> str:
    """Differences of two σ² of one network, with their errors over the noise."""
    head = ["network", "difference", "estimator", "calls", "bits/dim", "sd of the noise", "if draws were not shared",
            "sd over images"]  # fmt: skip
    rows = []
    for item in found:
        for pair in PAIRS:
            for place, differences in item.pairs.items():
                one, apart = differences[pair], math.hypot(*(item.error(place, variance) for variance in pair))
                rows.append([
                    item.title, " minus ".join(SYMBOLS[variance] for variance in pair), *place, f"{one.value:+.4f}",
                    f"{one.stderr_noise:.5f}", f"{apart:.5f}", f"{one.stderr:.4f}",
                ])  # fmt: skip
    return table(head, rows)


def networks_table(found: list[Evidence]) -> str:
    """What was trained and evaluated."""
    head = ["network", "schedule", "T", "weights", "steps × batch", "images N", "network calls of `full`",
            f"of importance, {GOAL_CALLS}"]  # fmt: skip
    rows = []
    for item in found:
        facts = item.facts
        rows.append([
            item.title, facts["schedule"], facts["timesteps"], f"{facts['num_parameters']:,}",
            f"{facts['steps']} × {facts['batch_size']}", item.num_images, f"{facts['calls'][item.full_place]:,}",
            f"{facts['calls'][IMPORTANCE, GOAL_CALLS]:,}",
        ])  # fmt: skip
    return table(head, rows)


LOOK = {UNIFORM: PALETTE[0], PLAIN: PALETTE[1], CURVE: PALETTE[4], IMPORTANCE: PALETTE[2], FULL: PALETTE[3]}


def figure(found: list[Evidence]) -> str:
    """Standard deviation of the noise over calls per image as SVG: claimed (lines) and found in repeats (dots)."""
    with style():
        drawn = new_figure(8.6, 3.4)
        panels = drawn.subplots(1, len(found), sharey=True)
        for axes, item in zip(panels, found, strict=True):
            for label, colour in LOOK.items():
                places = [item.full_place] if label == FULL else [(label, calls) for calls in BUDGETS]
                calls = [place[1] for place in places]
                scale = [math.sqrt(len(item.repeats[place][0].value[SHOWN]) / item.num_images) for place in places]
                dots = [item.honesty(place).found * factor for place, factor in zip(places, scale, strict=True)]
                axes.plot(calls, [item.error(place) for place in places], color=colour, marker="_", ms=9)
                axes.plot(calls, dots, "o", color=colour, ms=3.4)
            axes.axhline(GOAL / QUANTILE, color=FAINT, linewidth=0.8, zorder=1)
            axes.annotate(
                f"±{GOAL:g} (95 %)", (1, GOAL / QUANTILE), xycoords=("axes fraction", "data"), xytext=(-2, 2),
                textcoords="offset points", ha="right", fontsize=7.5, color=FAINT,
            )  # fmt: skip
            axes.set_title(f"{item.title}, N = {item.num_images}")
            axes.set_xlabel("network calls per image")
            axes.set_xscale("log")
            axes.set_yscale("log")
            log_axis(axes.xaxis, 20, 1000)
        panels[0].set_ylabel("sd of the noise, bits/dim")
        everything = [float(y) for axes in panels for line in axes.lines for y in line.get_ydata()]
        log_axis(panels[0].yaxis, min(everything), max(everything))
        legend(
            drawn,
            [
                Line2D([], [], color=colour, label=mathtext(label).replace("p_t", "$p_t$"))
                for label, colour in LOOK.items()
            ],
        )
        return export(drawn)[0]


def answer(found: list[Evidence]) -> list[str]:
    """The findings in words."""
    goal, uniform, curve = (IMPORTANCE, GOAL_CALLS), (UNIFORM, GOAL_CALLS), (CURVE, GOAL_CALLS)
    large = [item for item in found if item.num_dims >= GOAL_DIMS]
    widest = max(QUANTILE * item.error(goal, variance) for item in large for variance in SYMBOLS)
    every = [item.honesty(place, variance) for item in found for place in SAMPLED for variance in SYMBOLS]
    ratios, biases = [one.ratio for one in every], [one.bias for one in every]
    seconds = ", ".join(
        f"{item.seconds(item.full_place):.0f} s and {item.seconds(goal):.1f} s ({item.title})" for item in found
    )

    def variances(other: tuple[str, int] | None) -> list[float]:
        """Variance of the other estimator (None: of `full`) over that of importance, for each network."""
        return [(item.error(other or item.full_place) / item.error(goal)) ** 2 for item in found]

    images = [(item.error(goal) / item.image_error(SHOWN)) ** 2 for item in found]
    return [
        f"The goal is **{'met' if widest <= GOAL else 'missed'}** on {' and '.join(item.title for item in large)}: at "
        f"most ±{widest:.4f} for the three σ².",
        "Claimed standard deviations over those found in repeats lie between "
        f"{min(ratios):.2f} and {max(ratios):.2f} for all sampled estimators, calls and σ².",
        f"{'A bias shows' if max(map(abs, biases)) > 3 else 'No bias shows'}: means over the repeats differ from "
        f"`full` by {min(biases):+.1f} to {max(biases):+.1f} standard errors. All of a network are compared with one "
        "evaluation by `full`, whose noise is the larger part of these errors: they rise and fall together.",
        f"The variance of `full` is {between(variances(None))} times that of importance at {GOAL_CALLS} calls, that of "
        f"uniform t {between(variances(uniform))} times. Without the control variate importance would have "
        f"{between(variances(curve))} times its variance.",
        f"One core needs for `full` and for importance at {GOAL_CALLS} calls: {seconds}.",
        f"The images matter more: the noise of {GOAL_CALLS} calls adds at most {100 * max(images):.1f} % to their own "
        "variance, so calls saved on t are better spent on more images. Between variants evaluated on the same images "
        "both parts shrink ([pairs](#pairs)).",
    ]


def between(values: list[float]) -> str:
    """The range of some numbers, two digits of each."""
    low, high = (float(f"{value:.2g}") for value in (min(values), max(values)))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def bullets(texts: list[str]) -> str:
    """A list in Markdown."""
    return "\n".join(textwrap.fill(f"- {text}", 120, subsequent_indent="  ", break_on_hyphens=False) for text in texts)


def methods(repeats: int) -> list[str]:
    """What the words of the tables mean."""
    return [
        "**full**: every t ≥ 2 with one ε, t = 1 twice.",
        "**uniform t**: t independent and uniform over 2…T, t = 1 twice. A baseline of this benchmark, not of the "
        "package.",
        f'**importance**: `evaluation.estimator = {{ name = "importance", calls_per_image = {GOAL_CALLS} }}`. "p_t '
        'alone" and "without its control variate" are the same draws with less arithmetic: without the fitted curve '
        "and the control variate |ε|² − D, or without the latter.",
        "**claimed**: the `stderr_noise` of results.json, from a contrast for each image. **found**: from the variance "
        f"of each image over {repeats} evaluations with other t and ε, put together for the mean over images.",
        "`full` and importance of the pipeline share two ε at t = 1, so in one evaluation they differ a little less "
        "than their errors say. The repeats share nothing.",
        "**CPU seconds** are those of one core for N images, from the repeats: choosing t, drawing ε, calling the "
        "network.",
    ]


def page(found: list[Evidence]) -> str:
    """docs/likelihood.md."""
    machine, symbol = environment(), SYMBOLS[SHOWN]
    repeats = len(found[0].repeats[IMPORTANCE, GOAL_CALLS])
    runs = "\n\n".join(f"### {item.title}, N = {item.num_images}\n\n{run_table(item)}" for item in found)
    return f"""# Bits/dim: precision and cost

`python -m benchmarks.likelihood` wrote this page and its figure.

![Standard deviation of the noise over network calls per image, for five estimators](likelihood_estimators.svg)

Lines: what one evaluation of N images claims with {symbol}; dots: what repeats found, scaled to N.

**Goal.** The noise of bits/dim within ±{GOAL:g} (95 %, images held fixed) at N·D ≥ {GOAL_DIMS:,} with {GOAL_CALLS}
network calls per image, 1/20 of N·T. Nothing comes on top: p_t follows from the schedule and the covariance of the
training images (a Wiener denoiser), without a pilot.

{bullets(answer(found))}

{goal_table(found)}

Half widths of 95 % intervals in bits/dim: over the noise on the N images, which falls with √(N·D); under images, over
images as a sample of a population.

## What is measured

{networks_table(found)}

ε-prediction, L_simple, EMA weights, clipped x̂_0, exact decoder, images of the test split. σ²=optimal is fitted to
validation images with `full`, once for all estimators; that is not counted here.

{bullets(methods(repeats))}

## One evaluation

With {symbol}; standard deviations as claimed.

{runs}

## Are the errors honest?

Standard deviations of the mean over n images with {symbol}, from R evaluations. The sd of the means, of R numbers, is
uncertain by about {100 / math.sqrt(2 * (repeats - 1)):.0f} %; it would show noise that images have in common. Bias:
the mean of the R evaluations minus `full` on the same images.

{honesty_table(found)}

## Pairs

Two σ² of one network, image by image (`cell.difference(other)`), N images.

{pair_table(found)}

## Repeat it

    python -m benchmarks.likelihood

Trainings and the pipeline's evaluations stay in runs/benchmarks; a second call makes the repeats alone. Measured on
{machine["processor"]}, {machine["cores"]} cores, with Python {machine["python"]}, torch {machine["packages"]["torch"]},
numpy {machine["packages"]["numpy"]}.
"""
