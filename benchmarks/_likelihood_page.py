"""The page and the figure of the benchmark of bits/dim: what was estimated, put into tables and words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from benchmarks._repeats import BUDGETS, CURVE, FULL, IMPORTANCE, PLAIN, UNIFORM, Estimated
from ddpm_bench.environment import environment
from ddpm_bench.paired import QUANTILE, PairedDifference
from ddpm_bench.report.figures import FAINT, export, legend, log_axis, new_figure, style
from ddpm_bench.report.figures.encoding import PALETTE
from ddpm_bench.report.words import mathtext

GOAL, GOAL_CALLS, GOAL_DIMS = 0.005, 50, 150_000
"""Half width of the 95 % interval in bits/dim, at these calls per image (T/20), for so many dimensions or more."""
SYMBOLS = {"beta": "β", "beta_tilde": "β̃", "optimal": "σ²=optimal"}
SHOWN = "beta_tilde"
"""The σ² of the tables: of the three it weighs the network's errors the most."""
PAIRS = (("beta", "beta_tilde"), ("beta_tilde", "optimal"))
SAMPLED = [(label, calls) for label in (UNIFORM, PLAIN, CURVE, IMPORTANCE) for calls in BUDGETS]


def noise_error(contrast: np.ndarray) -> float:
    """Standard error over the noise of the mean over images held fixed."""
    return float(np.sqrt((contrast**2).sum())) / len(contrast)


def difference(estimated: Estimated, pair: tuple[str, str]) -> PairedDifference:
    """The difference of two σ², as `ddpm_bench.paired` has it for cells."""
    value, contrast = (found[pair[0]] - found[pair[1]] for found in (estimated.value, estimated.contrast))
    stderr = float(value.std(ddof=1)) / math.sqrt(len(value))
    return PairedDifference(*pair, "test", float(value.mean()), stderr, noise_error(contrast), len(value))


@dataclass(frozen=True)
class Honesty:
    """Repeats of one estimator on n images. claimed: root mean square of its noise errors; found: the same from the
    variance over repeats of each image; of_means: the standard deviation of the repeats' means; bias: mean over the
    repeats minus `full`, in units of its error; ratio, ratio_error: claimed / found."""

    claimed: float
    found: float
    of_means: float
    bias: float
    ratio: float
    ratio_error: float


@dataclass(frozen=True)
class Evidence:
    """All estimates of one trained network. full: of the pipeline; once: the sampled ones on the same images; repeats:
    on fewer images, with other draws each; pairs: estimator → pair → difference; facts: numbers about the network."""

    title: str
    facts: dict[str, Any]
    full: Estimated
    once: dict[tuple[str, int], Estimated]
    repeats: dict[tuple[str, int], list[Estimated]]
    pairs: dict[tuple[str, int], dict[tuple[str, str], PairedDifference]]

    @property
    def num_images(self) -> int:
        """N."""
        return len(self.full.value[SHOWN])

    def seconds(self, place: tuple[str, int]) -> float:
        """CPU time of one core for all N images."""
        repeats = self.repeats[place]
        return float(np.nanmean([item.seconds / len(item.value[SHOWN]) for item in repeats])) * self.num_images

    def error(self, place: tuple[str, int], variance: str = SHOWN) -> float:
        """Standard error over the noise on the N images, as the estimator claims it."""
        return noise_error((self.full if place == self.full_place else self.once[place]).contrast[variance])

    @property
    def full_place(self) -> tuple[str, int]:
        """Where `full` stands among the repeats."""
        return FULL, self.full.calls

    def image_error(self, variance: str) -> float:
        """Standard error over images as a sample of a population, without the noise of `full`."""
        value = self.full.value[variance]
        both = float(value.var(ddof=1)) / len(value)
        return math.sqrt(max(0.0, both - self.error(self.full_place, variance) ** 2))

    def honesty(self, place: tuple[str, int], variance: str = SHOWN) -> Honesty:
        """What the repeats say about the errors that the estimator claims."""
        repeats = self.repeats[place]
        values = np.stack([item.value[variance] for item in repeats])  # [R, n]
        squares = np.stack([item.contrast[variance] ** 2 for item in repeats])
        number, n = values.shape
        of_images, claims = values.var(axis=0, ddof=1), squares.mean(axis=0)
        found, claimed = (math.sqrt(x.sum()) / n for x in (of_images, claims))
        # Relative errors of two variances that are sums over independent images, halved for the standard deviations.
        spread = [float(x.std(ddof=1)) / math.sqrt(n) / float(x.mean()) / 2 for x in (of_images, claims)]
        means, reference = values.mean(axis=1), self.full.value[variance][:n]
        error = math.hypot(noise_error(self.full.contrast[variance][:n]), found / math.sqrt(number))
        return Honesty(
            claimed, found, float(means.std(ddof=1)), float(means.mean() - reference.mean()) / error,
            claimed / found, claimed / found * math.hypot(*spread),
        )  # fmt: skip


def table(head: list[str], rows: list[list[Any]]) -> str:
    """A table in Markdown; the first column is text."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(item) for item in line) + " |" for line in lines)


def goal_table(found: list[Evidence]) -> str:
    """Half widths at the goal's number of calls for each σ², and what the images contribute."""
    head = [
        "network", "σ²", f"importance, {GOAL_CALLS} calls", "full", "images", f"importance within ±{GOAL:g}",
    ]  # fmt: skip
    rows = [
        [
            item.title, SYMBOLS[variance],
            f"±{QUANTILE * item.error((IMPORTANCE, GOAL_CALLS), variance):.4f}",
            f"±{QUANTILE * item.error(item.full_place, variance):.4f}",
            f"±{QUANTILE * item.image_error(variance):.3f}",
            "yes" if QUANTILE * item.error((IMPORTANCE, GOAL_CALLS), variance) <= GOAL else "no",
        ]
        for item in found for variance in SYMBOLS
    ]  # fmt: skip
    return table(head, rows)


def run_table(item: Evidence) -> str:
    """Every estimator once on the same images."""
    head = ["estimator", "calls per image", "of N·T", "bits/dim", "sd of the noise", "95 %", "minus full", "in its errors",
            "CPU seconds"]  # fmt: skip
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
    head = [
        "network",
        "estimator",
        "calls",
        "R × n",
        "claimed",
        "found",
        "claimed / found",
        "of the means",
        "bias / error",
    ]
    rows = []
    for item in found:
        for place in [item.full_place, *SAMPLED]:
            honesty, repeats = item.honesty(place), item.repeats[place]
            rows.append([
                item.title, place[0], place[1], f"{len(repeats)} × {len(repeats[0].value[SHOWN])}",
                f"{honesty.claimed:.5f}", f"{honesty.found:.5f}", f"{honesty.ratio:.2f} ± {honesty.ratio_error:.2f}",
                f"{honesty.of_means:.5f}", "" if place == item.full_place else f"{honesty.bias:+.1f}",
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
                    item.title, " − ".join(SYMBOLS[variance] for variance in pair), *place, f"{one.value:+.4f}",
                    f"{one.stderr_noise:.5f}", f"{apart:.5f}", f"{one.stderr:.4f}",
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
        legend(drawn, [Line2D([], [], color=colour, label=mathtext(label)) for label, colour in LOOK.items()])
        return export(drawn)[0]


def networks_table(found: list[Evidence]) -> str:
    """What was trained and evaluated."""
    head = ["network", "schedule", "T", "weights", "steps × batch", "images N", "dimensions N·D", "calls of full",
            f"calls of importance, {GOAL_CALLS}"]  # fmt: skip
    rows = []
    for item in found:
        facts = item.facts
        rows.append([
            item.title, facts["schedule"], facts["timesteps"], f"{facts['num_parameters']:,}",
            f"{facts['steps']} × {facts['batch_size']}", item.num_images, f"{item.num_images * facts['num_dims']:,}",
            f"{facts['calls'][item.full_place]:,}", f"{facts['calls'][IMPORTANCE, GOAL_CALLS]:,}",
        ])  # fmt: skip
    return table(head, rows)


def answer(found: list[Evidence]) -> str:
    """The findings in words."""
    large = [item for item in found if item.num_images * item.facts["num_dims"] >= GOAL_DIMS]
    goal = (IMPORTANCE, GOAL_CALLS)
    lines = []
    for item in large:
        widths = {SYMBOLS[v]: QUANTILE * item.error(goal, v) for v in SYMBOLS}
        verdict = "Met" if max(widths.values()) <= GOAL else "Missed"
        each = ", ".join(f"±{width:.4f} with {name}" for name, width in widths.items())
        lines.append(
            f"- **{verdict}** for {item.title} (N·D = {item.num_images * item.facts['num_dims']:,}): {each}. `full` has "
            f"±{QUANTILE * item.error(item.full_place):.4f} with {SYMBOLS[SHOWN]} after {item.full.calls} calls per image, "
            f"uniform t at {GOAL_CALLS} calls ±{QUANTILE * item.error((UNIFORM, GOAL_CALLS)):.3f}."
        )
    for item in found:
        if item not in large:
            lines.append(
                f"- {item.title} has too few dimensions for that ({item.num_images * item.facts['num_dims']:,}): "
                f"±{QUANTILE * item.error(goal):.4f} with {SYMBOLS[SHOWN]}, where `full` has "
                f"±{QUANTILE * item.error(item.full_place):.4f}."
            )
    seconds = [
        f"{item.seconds(item.full_place):.0f} s against {item.seconds(goal):.1f} s ({item.title})" for item in found
    ]
    ratios = [item.honesty((label, calls), v).ratio for item in found for label, calls in SAMPLED for v in SYMBOLS]
    biases = [item.honesty((label, calls), v).bias for item in found for label, calls in SAMPLED for v in SYMBOLS]
    images = [f"±{QUANTILE * item.image_error(SHOWN):.3f} ({item.title})" for item in found]
    gain = [(item.error((UNIFORM, GOAL_CALLS)) / item.error(goal)) ** 2 for item in found]
    control = [(item.error((CURVE, GOAL_CALLS)) / item.error(goal)) ** 2 for item in found]
    lines += [
        f"- Time of `full` against `importance` at {GOAL_CALLS} calls, one core: {', '.join(seconds)}.",
        f"- The claimed errors are honest: claimed / found lies between {min(ratios):.2f} and {max(ratios):.2f} over all "
        f"sampled estimators, calls, σ² and both networks; means over the repeats differ from `full` by "
        f"{min(biases):+.1f} to {max(biases):+.1f} of their errors (one draw of `full` for each network, so these "
        "numbers go up and down together).",
        f"- At {GOAL_CALLS} calls importance sampling has 1/{min(gain):.0f} to 1/{max(gain):.0f} of the variance of uniform t;"
        f" its control variate divides the variance by {min(control):.1f} to {max(control):.1f}.",
        f"- The images contribute far more than the noise: {', '.join(images)} with {SYMBOLS[SHOWN]}. Calls saved on t are "
        "better spent on more images; between variants evaluated on the same images most of that cancels (see Pairs).",
    ]
    return "\n".join(lines)


def page(found: list[Evidence]) -> str:
    """docs/performance.md."""
    machine = environment()
    repeats = len(found[0].repeats[IMPORTANCE, GOAL_CALLS])
    runs = "\n\n".join(f"### {item.title}, N = {item.num_images}\n\n{run_table(item)}" for item in found)
    return f"""# Bits/dim: precision and cost

`python -m benchmarks.likelihood` wrote this page and its figure.

![Standard deviation of the noise over network calls per image, for five estimators](likelihood_estimators.svg)

Lines: what one evaluation of all N images claims with {SYMBOLS[SHOWN]}; dots: what repeats found, scaled to N.

The goal: the noise of bits/dim within ±{GOAL:g} (95 %, on fixed images) at N·D ≥ {GOAL_DIMS:,} with {GOAL_CALLS} network calls
per image, 1/20 of N·T. Nothing is added to these calls: p_t comes from the schedule and the covariance of the training
images (a Wiener denoiser), without a pilot.

{answer(found)}

{goal_table(found)}

Half widths of 95 % intervals in bits/dim: over the noise on the N images, and, under images, over images as a sample of a
population.

## What is measured

{networks_table(found)}

ε-prediction, L_simple, EMA weights, clipped x̂_0, the exact decoder, test images. σ²=optimal is fitted on validation images
with `full`; that costs every estimator the same and is left out here.

- `full`: every t ≥ 2 with one ε, t = 1 twice. uniform t: independent t, uniform over 2…T, t = 1 twice; a baseline of this
  benchmark alone. importance: `evaluation.estimator = {{ name = "importance", calls_per_image = {GOAL_CALLS} }}`.
- "p_t alone" and "without its control variate" take the same draws as importance and leave out its fitted curve with
  its control variate |ε|² − D, or the control variate alone.
- An estimator claims its noise from a contrast for each image (ddpm_bench/diffusion/estimators). The repeats find it:
  {repeats} evaluations of the same images with other t and ε, the variance of each image over them, summed.
- `full` and importance of the pipeline share the ε of two draws at t = 1, which makes their difference a little smaller than
  its error says. The repeats share nothing.
- CPU seconds are of one core, for all N images, from the repeats: choosing t, drawing ε and calling the network.

## One evaluation

With {SYMBOLS[SHOWN]}; the standard deviation is the claimed one.

{runs}

## Are the errors honest?

Standard deviations of a mean over n images with {SYMBOLS[SHOWN]}, from R repeats. "of the means": of the R means, known to
about {100 / math.sqrt(2 * (repeats - 1)):.0f} %; it would show noise that images share, which "found" cannot.

{honesty_table(found)}

## Pairs

Two σ² of one network, image by image (`cell.difference(other)`); N images.

{pair_table(found)}

## Repeat it

    python -m benchmarks.likelihood

Trainings and the pipeline's evaluations are kept in runs/benchmarks; a second call makes the repeats alone. Measured on
{machine["processor"]} ({machine["cores"]} cores) with Python {machine["python"]}, torch {machine["packages"]["torch"]} and
numpy {machine["packages"]["numpy"]}; the values move in their last digits elsewhere, the seconds altogether.
"""
