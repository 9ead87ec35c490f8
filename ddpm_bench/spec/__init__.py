"""What a cell is: one variant with its data, network and training, and how its parts enter identities.

The tables of a suite are dataclasses (tables.py); a cell holds one of each (cell.py). `bind` turns a cell into what is
hashed (binding.py): `Training` (all that changes the weights) and `Reverse` (how the weights are used). Cells that
differ only in `Reverse` share a training.
"""

from ddpm_bench.spec.binding import (
    Reverse,
    Training,
    bind,
    chain,
    plain,
    rebuild,
    rebuild_reverse,
    rebuild_training,
)
from ddpm_bench.spec.cell import Cell, illegal
from ddpm_bench.spec.tables import Diffusion, Evaluation, Landscape, ReverseOptions, TrainingOptions

__all__ = [
    "Cell",
    "Diffusion",
    "Evaluation",
    "Landscape",
    "Reverse",
    "ReverseOptions",
    "Training",
    "TrainingOptions",
    "bind",
    "chain",
    "illegal",
    "plain",
    "rebuild",
    "rebuild_reverse",
    "rebuild_training",
]
