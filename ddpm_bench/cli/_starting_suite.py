"""The text of a suite to start from: commented, for any data set, small enough for minutes on a processor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from string import Template
from typing import Any

from ddpm_bench import registry
from ddpm_bench.cli._parameters import make, required
from ddpm_bench.datasets import Dataset, data_root
from ddpm_bench.errors import UserError
from ddpm_bench.metrics._resolve import DEFAULT_EXTRACTOR
from ddpm_bench.statistics import MIN_SEEDS
from ddpm_bench.toml import parse_value

SMALL = 16
"""Larger images are made this small where the data set can: minutes on a processor instead of hours."""
COLUMN = 37
"""Where comments begin."""
BOTTOM = 4
"""The U-Net halves images down to this height, or as far as they can be halved."""

SUITE = Template("""\
# ε or x₀, β or β̃? A suite to start from: it describes one variant, then says what varies. Every key that is left out
# has its default.
schema = 1                            # the format of this file
name = "$name"
title = "ε or x₀, β or β̃ on $dataset"

[dataset]                             # `ddpm-bench list datasets` has the others
$data

[network]                             # what is trained: `ddpm-bench show network unet`
name = "unet"
channels = 16
channel_multipliers = $multipliers
residual_blocks = 1
attention_resolutions = [$bottom]

[diffusion]                           # the forward process, what is predicted, what training minimises
timesteps = 100
schedule = "linear"                   # `ddpm-bench list schedules`, and so for every axis
loss = "simple"

[training]                            # the optimiser; what changes here trains anew
steps = 1000                          # a longer training goes on from a shorter one
batch_size = 128
learning_rate = 1e-3
warmup_steps = 50
ema_decay = 0.99                      # the averaged weights are the ones evaluated

[reverse]                             # how the trained network is used; what changes here is evaluated anew
sampler = "ancestral"

[evaluation]                          # one protocol for every variant
$metrics
images = 300                          # test images whose bits/dim are computed; "all" for a final answer

[matrix]                              # what varies: the cross product
prediction = ["epsilon", "x0"]
variance = ["beta", "beta_tilde"]     # σ² of the reverse process: both are evaluated from one training
seed = [0]                            # a verdict on a claim needs $seeds seeds: $seed_list

#[[exclude]]                          # leaves combinations out; without the # it holds
#prediction = "x0"
#variance = "beta_tilde"

#[[include]]                          # adds a variant beside the matrix, or a named one: variant = "improved_ddpm"
#prediction = "epsilon"
#variance = "optimal"

[[claim]]                             # what the results are asked, decided by paired differences over seeds
statement = "Predicting ε gives fewer bits/dim than predicting x₀"
metric = "bits_per_dim"
better = { prediction = "epsilon" }
than = { prediction = "x0" }
#where = { variance = "beta" }        # in these variants only
""")


def suite_text(name: str, dataset: str) -> tuple[str, str | None]:
    """The suite, and what to do where its data are not on this machine.

    dataset: a name or a table in TOML. Raises UserError where it is no data set, or lacks a parameter.
    """
    given = _table(dataset)
    table = _made_small(given)
    entry = _entry(table)
    missing = _missing(entry)
    _, height, width = entry.shape(data_root())
    halvings = 0
    while height % 2 == 0 and width % 2 == 0 and min(height, width) > BOTTOM:
        halvings, height, width = halvings + 1, height // 2, width // 2
    data = [f"{key} = {_toml(value)}" for key, value in table.items()]
    if table != given:
        own = "×".join(map(str, _entry(given).shape(data_root())[1:]))
        data[-1] = _commented(data[-1], f"left out: {own}, which takes much longer")
    text = SUITE.substitute(
        name=name,
        dataset=entry.name,
        data="\n".join([f"# {missing}", *data] if missing else data),
        multipliers=[1, *[2] * halvings],
        bottom=height,
        metrics=_metrics(entry),
        seeds=MIN_SEEDS,
        seed_list=list(range(MIN_SEEDS)),
    )
    return text, missing


def _table(text: str) -> dict[str, Any]:
    """The table [dataset] as it was given. Raises UserError where it is none, or a parameter is missing."""
    try:
        value = parse_value(text.strip() or '""')
    except ValueError as problem:
        raise UserError(f"--dataset: {problem}") from None
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise UserError(f"--dataset {text}: expected a name or a table {{ name = … }}")
    cls = registry.get("datasets", table["name"])
    lacking = ", ".join(f"{key} = …" for key in required(cls) if key not in table)
    if lacking:
        raise UserError(f"--dataset {text}: say which: '{{ name = \"{table['name']}\", {lacking} }}'")
    return table


def _made_small(table: dict[str, Any]) -> dict[str, Any]:
    """The table with a small size, where the data set has one, none was given and the images are larger."""
    has_size = any(field.name == "size" for field in fields(registry.get("datasets", table["name"])))
    if has_size and "size" not in table and max(_entry(table).shape(data_root())[1:]) > SMALL:
        return {**table, "size": SMALL}
    return table


def _entry(table: Mapping[str, Any]) -> Dataset:
    parameters = {key: value for key, value in table.items() if key != "name"}
    entry: Dataset = make(registry.get("datasets", table["name"]), parameters)
    return entry


def _missing(entry: Dataset) -> str | None:
    """What to do where the files of a data set are not on this machine."""
    try:
        entry.sources(data_root())
    except UserError as problem:
        if entry.published.downloader is None:
            return str(problem)
        return f"not on this machine: `ddpm-bench data fetch {entry.name}` downloads it"
    return None


def _metrics(entry: Dataset) -> str:
    """The lines of [evaluation]: quality in features that were made for the data, or else a distance that needs few
    images; none for data that are no images."""
    likelihood = ["bits_per_dim", "timestep_kl"]
    if entry.levels is None:
        return _commented(f"metrics = {_toml(likelihood)}", "real values: there is nothing to look at")
    made_for = (
        name for name in registry.names("extractors") if registry.get("extractors", name).classes_of == entry.name
    )
    extractor = next(made_for, None)
    quality = "kernel_distance" if extractor is None else "frechet_distance"
    why = "the features in which images are compared" if extractor is None else "few features, made for these data"
    lines = [
        f"metrics = {_toml([*likelihood, quality])}",
        _commented(f"extractor = {_toml(extractor or DEFAULT_EXTRACTOR)}", why),
        _commented("samples = 300", "generated images per variant"),
    ]
    return "\n".join(lines)


def _commented(line: str, comment: str) -> str:
    return f"{line:{COLUMN}} # {comment}"


def _toml(value: Any) -> str:
    """A value as TOML has it; its strings, numbers and lists are those of JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
