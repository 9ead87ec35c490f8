"""Pictures of each variant's chain and of what its samples are near to: x̂₀ over t, interpolations, nearest images."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_bench.report.figures.samples import TILE, WIDTH, strip
from ddpm_bench.report.shares import Shares, make_shares
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Cell, Variant

MAX_SHOWN = 8
"""Variants with pictures: nobody compares more of them by eye."""
MAX_VALUES = 2_500_000
"""Values in all pictures: large images are shown of fewer variants, so that the page stays below some megabytes."""
IMAGES = 80
"""About as many images are shown of a variant."""
GAP = 3
"""White pixels between two images."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A row of images. heading: what it shows, where a variant has several kinds of rows."""

    png: bytes
    width: int
    height: int
    alternative: str
    heading: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant. ticks: what stands above the columns of each of its pictures."""

    variant: Variant
    cell: str
    pictures: list[Picture]
    ticks: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One kind of picture, a row for each variant. pitch: pixels from one image to the next."""

    name: str
    title: str
    caption: str
    rows: list[Row]
    pitch: int

    @property
    def abreast(self) -> int:
        """Pictures of a variant side by side."""
        return max(1, WIDTH // max(picture.width for row in self.rows for picture in row.pictures))


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The figures, the shares of samples nearer to training images than unseen images are, and what is left out."""

    figures: list[Figure]
    shares: Shares | None
    note: str


def draw(view: ResultsView, groups: list[Variant]) -> Gallery | None:
    """The galleries of the seed that most variants have one of (the smallest of equals); None without any."""
    found: dict[int, list[tuple[Variant, Cell]]] = {}
    for group in groups:
        for cell in group.cells:
            if _folder(view, cell["artifacts"].get("gallery")) or cell["artifacts"].get("nearest"):
                found.setdefault(cell["seed"], []).append((group, cell))
    if not found:
        return None
    seed = min(found, key=lambda item: (-len(found[item]), item))
    levels, (channels, height, width) = view.data["data"]["levels"], view.data["data"]["shape"]
    fitting = MAX_VALUES // (IMAGES * channels * height * width)
    shown = found[seed][: max(1, min(fitting, MAX_SHOWN))]
    draft = _Draft(view, levels, max(1, math.ceil(TILE / height)), width)
    drafts = [_progressive(draft, shown, seed), _interpolation(draft, shown, seed), _nearest(draft, shown, seed)]
    note = ""
    if len(found[seed]) > len(shown):
        note = (
            f"Pictures of the first {len(shown)} of {len(found[seed])} variants; "
            "ddpm-bench status --paths says where those of the others lie."
        )
    return Gallery(figures=[figure for figure in drafts if figure.rows], shares=make_shares(groups), note=note)


@dataclass(frozen=True)
class _Draft:
    """What turns arrays of levels into pictures. factor: how often a pixel is repeated."""

    view: ResultsView
    levels: int
    factor: int
    side: int

    @property
    def pitch(self) -> int:
        return self.side * self.factor + GAP

    def picture(self, images: np.ndarray, alternative: str, heading: str = "") -> Picture:
        """One row of images [n, C, H, W]."""
        pixels = strip(images, 0.0, self.levels - 1.0, self.factor, GAP)
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "PNG", optimize=True)
        height, width = pixels.shape[:2]
        return Picture(png=png.getvalue(), width=width, height=height, alternative=alternative, heading=heading)

    def load(self, folder: str | None, name: str) -> np.ndarray | None:
        """An array of an artifact; None when the store no longer holds it."""
        path = _folder(self.view, folder)
        return np.load(path / f"{name}.npy", mmap_mode="r") if path and (path / f"{name}.npy").is_file() else None


def _folder(view: ResultsView, place: str | None) -> Path | None:
    return view.runs / place if place and (view.runs / place).is_dir() else None


def _progressive(draft: _Draft, shown: list[tuple[Variant, Cell]], seed: int) -> Figure:
    rows = []
    for variant, cell in shown:
        images = draft.load(cell["artifacts"].get("gallery"), "progressive")
        if images is None:
            continue
        ticks = [str(t) for t in cell["gallery"]["timesteps"]]
        pictures = [
            draft.picture(of_one, f"Sample {i} of {variant.label}, seed {seed}: x̂₀ at t = {', '.join(ticks)}")
            for i, of_one in enumerate(images)
        ]
        rows.append(Row(variant=variant, cell=cell["id"], pictures=pictures, ticks=ticks))
    return Figure(
        name="progressive",
        title="Progressive generation",
        caption=f"x̂₀, what the network takes the finished image to be, at the t above each column: the first samples "
        f"of seed {seed}, from noise on the left to the sample on the right. The noise is the same in every row.",
        rows=rows,
        pitch=draft.pitch,
    )


def _interpolation(draft: _Draft, shown: list[tuple[Variant, Cell]], seed: int) -> Figure:
    rows = []
    for variant, cell in shown:
        images = draft.load(cell["artifacts"].get("gallery"), "interpolation")
        if images is None:
            continue
        pictures = [
            draft.picture(
                pair,
                f"From sample {2 * i} to sample {2 * i + 1} of {variant.label}, seed {seed}, in {len(pair)} images",
            )
            for i, pair in enumerate(images)
        ]
        rows.append(Row(variant=variant, cell=cell["id"], pictures=pictures))
    return Figure(
        name="interpolation",
        title="Interpolation between two noises",
        caption=f"Two samples of seed {seed} at the ends of each row. For those between, x_T and the noise of every "
        "step are cos(λπ/2) of the one and sin(λπ/2) of the other, λ in equal steps: each is N(0, I) again.",
        rows=rows,
        pitch=draft.pitch,
    )


def _nearest(draft: _Draft, shown: list[tuple[Variant, Cell]], seed: int) -> Figure:
    rows, spaces = [], dict[str, None]()
    for variant, cell in shown:
        neighbours = {
            space: images
            for space, folder in (cell["artifacts"].get("nearest") or {}).items()
            if (images := draft.load(folder, "images")) is not None
        }
        fitting = max(1, WIDTH // draft.pitch)
        samples = draft.view.samples(cell, min([fitting, *(len(images) for images in neighbours.values())]))
        if not neighbours or samples is None:
            continue
        spaces.update(dict.fromkeys(neighbours))
        count = len(samples)
        pictures = [draft.picture(samples, f"{count} samples of {variant.label}, seed {seed}", "samples")]
        pictures += [
            draft.picture(
                images[:count], f"The training images nearest to these samples, {in_space(space)}", in_space(space)
            )
            for space, images in neighbours.items()
        ]
        rows.append(Row(variant=variant, cell=cell["id"], pictures=pictures))
    return Figure(
        name="nearest",
        title="Nearest training images",
        caption=f"The first samples of seed {seed}, and below each the training image that is nearest to it "
        f"{' and '.join(in_space(space) for space in spaces)}: Euclidean distance, all images of the training split.",
        rows=rows,
        pitch=draft.pitch,
    )


def in_space(space: str) -> str:
    """Where distances are taken, in words."""
    return "in pixels" if space == "pixels" else f"in features of {space}"
