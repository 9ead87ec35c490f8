"""Results: what the store holds for the cells of a suite, as results.json, results.csv and tables over timesteps.

results.json is the truth that the report and MLflow are made from. Nothing here needs torch but a cell's `model` and
`process`.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddpm_bench.collecting import SCHEMA, Collector
from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.protocols import varied_axes
from ddpm_bench.store import Artifact, write_json, write_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ddpm_bench.paired import PairedDifference

VOLATILE = ("created", "environment", "timings")
"""Entries of results.json (top level and in cells) that may differ between two runs of the same suite."""
TIDY = ("status", "reason", "train_key", "metric", "value", "stderr", "stderr_noise", "num_samples", "unit",
        "higher_is_better", "extractor", "n_generated", "n_reference", "reference_split")  # fmt: skip
TIMESTEP_COLUMNS = ("cell_id", "seed", "t", "kl", "stderr", "kl_variance", "kl_mean", "epsilon_mse", "x0_mse",
                    "log_snr", "log_sigma2", "head", "rate", "distortion")  # fmt: skip
TIMESTEP_FILES = {
    "test": "timestep_kl.csv", "validation": "timestep_kl_validation.csv", "train": "timestep_kl_train.csv",
}  # fmt: skip


def suite_folder(runs: Path, suite: str) -> Path:
    """Where the results of a suite lie."""
    return runs / "suites" / suite


def read_plan(runs: Path, suite: str) -> dict[str, Any]:
    """plan.json of a suite. Raises UserError when there is none."""
    file = suite_folder(runs, suite) / "plan.json"
    if not file.is_file():
        known = sorted(path.parent.name for path in (runs / "suites").glob("*/plan.json"))
        hint = suggestion(suite, known) if known else "; nothing has been run there yet"
        raise UserError(f'no suite "{suite}" under {runs}{hint}')
    plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if plan.get("schema") != SCHEMA:
        raise UserError(f"{file}: schema {plan.get('schema')} is not {SCHEMA}; run the suite again")
    return plan


def stable(results: dict[str, Any]) -> dict[str, Any]:
    """results.json without what may differ between two equal runs."""
    kept = {name: value for name, value in results.items() if name not in VOLATILE}
    kept["cells"] = [{k: v for k, v in cell.items() if k not in VOLATILE} for cell in results["cells"]]
    return kept


def update(runs: Path, suite: str, total_seconds: float | None = None) -> bool:
    """Bring results.json and the tables beside it to the state of the store; False if nothing had changed.

    total_seconds: how long the run that ends here took; given, it is written even if nothing else had changed.
    """
    folder = suite_folder(runs, suite)
    plan = read_plan(runs, suite)
    collector = Collector(runs, plan)
    found = collector.collect()
    found["claims"] = _judge(runs, plan, found["cells"])
    file = folder / "results.json"
    if file.is_file():
        old = json.loads(file.read_text(encoding="utf-8"))
        same = old.get("schema") == SCHEMA and stable(old) == stable(found) and (folder / "results.csv").is_file()
        if same and total_seconds is None:
            return False
    found["timings"] = {"total_seconds": total_seconds}
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    # results.json last: where it is new, the tables are.
    write_text(folder / "results.csv", _csv(*_tidy(found)))
    tables = _timestep_tables(plan, collector)
    for name in (*TIMESTEP_FILES.values(), "log_snr_kl.csv"):
        if name in tables:
            write_text(folder / name, tables[name])
        else:
            (folder / name).unlink(missing_ok=True)
    write_json(file, {"schema": SCHEMA, "suite": found["suite"], "title": found["title"], "created": created, **found})
    return True


def _judge(runs: Path, plan: dict[str, Any], cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The claims of the suite with their verdicts."""
    if not plan["claims"]:
        return []
    from ddpm_bench.claims import judge  # numpy and scipy, which importing this module does not need
    from ddpm_bench.paired import per_image

    found = judge(plan["claims"], cells, varied_axes(plan["axes"], cells), partial(per_image, runs))
    # as json has them: tuples would make equal results look changed
    judged: list[dict[str, Any]] = json.loads(json.dumps(found))
    return judged


def _timestep_tables(plan: dict[str, Any], collector: Collector) -> dict[str, str]:
    """File → text of the tables over timesteps: one for each split, and that of the test split over log SNR."""
    from ddpm_bench.log_snr import COLUMNS, chain_length, table_rows  # numpy, which importing this module does not need

    evaluation = plan["configuration"]["evaluation"]
    if "timestep_kl" not in evaluation["metrics"]:
        return {}
    splits = dict.fromkeys(["test", *evaluation["splits"]])
    rows = {split: list(collector.timesteps(split)) for split in splits}
    tables = {TIMESTEP_FILES[split]: _csv(list(TIMESTEP_COLUMNS), rows[split]) for split in splits}
    lengths = {cell["id"]: chain_length(cell["axes"]) for cell in plan["cells"] if "train" in cell}
    over_log_snr = table_rows([dict(zip(TIMESTEP_COLUMNS, row, strict=True)) for row in rows["test"]], lengths)
    return tables | {"log_snr_kl.csv": _csv(list(COLUMNS), list(over_log_snr))}


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue()


def _tidy(results: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """results.csv: one row per cell and metric."""
    axes = results["axes"]
    rows = []
    for cell in results["cells"]:
        head = [results["suite"], cell["id"], cell["label"], cell["seed"], *(cell["axes"].get(axis) for axis in axes)]
        for name, metric in cell["metrics"].items() or [(None, {})]:
            protocol = metric.get("protocol", {})
            reason = metric.get("reason") or cell["reason"]
            middle = [cell["status"], reason, cell["train_key"], name]
            values = [metric.get(key) for key in TIDY[4:-4]]
            rows.append([*head, *middle, *values, *(protocol.get(key) for key in TIDY[-4:])])
    return ["suite", "cell_id", "label", "seed", *axes, *TIDY], rows


@dataclass(frozen=True)
class ResultCell:
    """One cell of a suite's results."""

    runs: Path
    record: dict[str, Any]
    plugins: tuple[str, ...] = ()
    """The suite's own files, which its network and process may need."""

    def __getattr__(self, name: str) -> Any:
        record: dict[str, Any] = object.__getattribute__(self, "record")
        if name in record:
            return record[name]
        raise AttributeError(
            f"a cell has no {name!r}; it has {', '.join(record)}, samples(), model(), process, difference(), log()"
        )

    def _train(self) -> Artifact:
        place = self.record["artifacts"].get("train")
        if place is None:
            raise UserError(f"cell {self.record['id']} has no training yet (status {self.record['status']})")
        return Artifact(self.runs / place)

    def _load_plugins(self) -> None:
        from ddpm_bench.registry import load_plugin_file

        for file in self.plugins:
            load_plugin_file(Path(file))

    def samples(self) -> np.ndarray:
        """The generated images, uint8 levels [N, C, H, W], memory-mapped where one chunk holds them all."""
        import numpy as np

        places = self.record["artifacts"].get("samples", [])
        if not places:
            raise UserError(f"cell {self.record['id']} has no samples yet (status {self.record['status']})")
        chunks = [np.load(self.runs / place / "samples.npy", mmap_mode="r") for place in places]
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    def model(self, weights: str = "ema", device: str = "cpu") -> Any:
        """The trained network: model(x_t, t) → output, in evaluation mode; t is 0-based."""
        from ddpm_bench.stages._model import load_model

        self._load_plugins()
        return load_model(self._train().verify(), weights, device)

    @property
    def process(self) -> Any:
        """The forward process of the cell (`diffusion.process.Process`)."""
        from ddpm_bench.spec import rebuild_training

        self._load_plugins()
        training = rebuild_training(self._train().spec["training"])
        return training.schedule.process(training.timesteps)

    def difference(self, other: ResultCell, split: str = "test") -> PairedDifference:
        """This cell's bits/dim minus another's, image by image, with its standard errors."""
        from ddpm_bench.paired import paired_difference

        return paired_difference((self.runs, self.record), (other.runs, other.record), split)

    def log(self) -> list[dict[str, Any]]:
        """The events of the cell's training."""
        file = self.runs / self.record["log"]
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


class Results:
    """The results of a suite as they stand in results.json."""

    def __init__(self, runs: Path, suite: str):
        self.runs, self.suite, self.folder = runs, suite, suite_folder(runs, suite)
        file = self.folder / "results.json"
        if not file.is_file():
            read_plan(runs, suite)
            raise UserError(f'suite "{suite}" has no results yet under {runs}; run it first')
        self.data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if self.data.get("schema") != SCHEMA:
            raise UserError(f"{file}: schema {self.data.get('schema')} is not {SCHEMA}; run the suite again")

    @cached_property
    def cells(self) -> list[ResultCell]:
        """The cells, in the order of the suite."""
        plugins = tuple(read_plan(self.runs, self.suite)["plugins"])
        return [ResultCell(self.runs, record, plugins) for record in self.data["cells"]]

    @property
    def claims(self) -> list[dict[str, Any]]:
        """The verdicts of the suite's claims."""
        claims: list[dict[str, Any]] = self.data["claims"]
        return claims

    @cached_property
    def table(self) -> pd.DataFrame:
        """The tidy table: one row per cell and metric."""
        import pandas as pd

        return pd.read_csv(self.folder / "results.csv")

    @cached_property
    def timestep_kl(self) -> pd.DataFrame:
        """KL and errors of every cell at every t = 1…T of the test split, bits/dim."""
        import pandas as pd

        return pd.read_csv(self.folder / "timestep_kl.csv")

    @cached_property
    def log_snr_kl(self) -> pd.DataFrame:
        """KL and errors of every cell over log SNR: one grid for all schedules, bits/dim per unit of log SNR."""
        import pandas as pd

        return pd.read_csv(self.folder / "log_snr_kl.csv")
