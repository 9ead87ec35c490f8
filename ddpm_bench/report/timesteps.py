"""The tables over timesteps, put together for variants: means over their seeds, and what follows from the columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ddpm_bench.log_snr import COLUMNS, chain_length, log_beta_range, table_rows
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.variants import Variant


def over(table: pd.DataFrame, groups: Sequence[Variant], x: str) -> dict[str, pd.DataFrame]:
    """Key of the variant → means over its finished cells of every number of the table, by x; variants without rows are
    left out. A value that a seed lacks is averaged over the others."""
    keys = {cell["id"]: group.key for group in groups for cell in group.done}
    rows = table[table["cell_id"].isin(keys.keys())]
    if not len(rows):
        return {}
    numbers = rows.drop(columns=["cell_id", "seed", x]).astype(float)
    numbers.index = pd.MultiIndex.from_arrays([rows["cell_id"].map(keys), rows[x]], names=["variant", x])
    means = numbers.groupby(level=["variant", x], sort=True).mean()
    found = set(means.index.get_level_values("variant"))
    return {group.key: means.loc[group.key] for group in groups if group.key in found}


def log_snr_table(view: ResultsView) -> pd.DataFrame:
    """The columns of log_snr_kl.csv for the test split."""
    lengths = {cell["id"]: chain_length(cell["axes"]) for cell in view.cells if cell["train_key"]}
    rows = view.timestep_kl.to_dict("records")
    return pd.DataFrame(list(table_rows(rows, lengths)), columns=list(COLUMNS))


def log_sigma2_range(view: ResultsView, table: pd.DataFrame) -> pd.DataFrame:
    """ln σ² against its range at the steps after the first: cell_id, seed, t, log_sigma2, low (ln β̃), high (ln β) and
    position, 0 at β̃ and 1 at β. table: of one split."""
    lengths = {cell["id"]: chain_length(cell["axes"]) for cell in view.cells if cell["train_key"]}
    found = []
    for cell_id, rows in table.groupby("cell_id", sort=False):
        t, log_snr = rows["t"].to_numpy(), rows["log_snr"].to_numpy(float)
        low, high = log_beta_range(t, log_snr, lengths[str(cell_id)])
        chosen = rows["log_sigma2"].to_numpy(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            position = (chosen - low) / (high - low)
        part = rows[["cell_id", "seed", "t", "log_sigma2"]].assign(low=low, high=high, position=position)
        found.append(part.iloc[1:].dropna(subset=["position"]))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["cell_id"])


def fixed_cells(ranges: pd.DataFrame) -> set[str]:
    """Cells whose σ² is β or β̃ at every step: nothing was learned or fitted. ranges: `log_sigma2_range`.

    ln β and ln β̃ are known to 1e-12 at worst (λ to 4e-15 over steps of 2e-3).
    """
    found = set()
    for cell_id, rows in ranges.groupby("cell_id", sort=False):
        distances = [(rows["log_sigma2"] - rows[end]).abs().max() for end in ("low", "high")]
        if min(distances) < 1e-9:
            found.add(str(cell_id))
    return found
