"""One truth: the page, the CSV files and MLflow show what results.json says; quality equals torch-fidelity's own."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import ddpm_bench as db
from ddpm_bench.vision import import_torch_fidelity
from tests.conftest import FinishedRun
from tests.pages import Page
from tests.support import TINY, write_suite

pytestmark = pytest.mark.xdist_group("runs")


def test_the_page_shows_what_results_json_says(finished_tiny: FinishedRun) -> None:
    results = json.loads((finished_tiny.runs / "suites/tiny/results.json").read_text(encoding="utf-8"))
    found = Page((finished_tiny.reports / "tiny" / "index.html").read_text(encoding="utf-8")).values_of_cells()
    metrics = {cell["id"]: cell["metrics"] for cell in results["cells"]}
    shown = {(cell, metric) for cell, metric, _ in found}
    assert shown == {(cell, metric) for cell, values in metrics.items() for metric in values}
    for cell, metric, value in found:
        assert json.loads(value) == metrics[cell][metric]["value"], (cell, metric)


def test_mlflow_has_what_results_json_says(finished_tiny: FinishedRun) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's and SQLAlchemy's own deprecations
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{finished_tiny.runs / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("tiny")
        runs = {run.data.tags.get("ddpm_bench.cell"): run for run in client.search_runs([experiment.experiment_id])}
        results = db.results("tiny", runs=finished_tiny.runs)
        assert set(runs) == {None, *(cell.id for cell in results.cells)}  # None: the parent
        for cell in results.cells:
            logged = runs[cell.id].data.metrics
            for name, metric in cell.metrics.items():
                assert logged[f"eval/{name}"] == metric["value"]
            history = client.get_metric_history(runs[cell.id].info.run_id, "eval/timestep_kl")
            table = results.timestep_kl.query("cell_id == @cell.id")
            assert {point.step: point.value for point in history} == dict(zip(table["t"], table["kl"], strict=True))


def test_python_functions(finished_tiny: FinishedRun) -> None:
    results = db.results("tiny", runs=finished_tiny.runs)
    assert len(results.table) == sum(len(cell.metrics) for cell in results.cells)
    cell = results.cells[0]
    samples = cell.samples()
    assert samples.dtype == np.uint8
    assert samples.shape == (20, 1, 8, 8)
    assert samples.max() <= 16  # levels of the digits
    assert isinstance(samples, np.memmap)
    model, process = cell.model(), cell.process
    x_t = torch.zeros(3, 1, 8, 8)
    assert model(x_t, torch.tensor([0, 5, 9])).shape == (3, 1, 8, 8)
    assert len(process) == 10
    assert next(iter(cell.log()))["event"] == "start"


@pytest.mark.slow  # about 40 s: the extractor looks at 1693 images twice
def test_quality_equals_torch_fidelity_called_outside(tmp_path: Path) -> None:
    text = TINY.replace('["bits_per_dim", "timestep_kl"]', '["kernel_distance", "frechet_distance"]')
    text = text.replace("samples = 20", "samples = 130").replace('["epsilon", "x0"]', '["epsilon"]')
    suite = db.load_suite(write_suite(tmp_path, text.replace('["beta", "beta_tilde"]', '["beta"]')))
    cell = db.run(suite, runs=tmp_path / "runs", reports=tmp_path / "reports").results.cells[0]
    fidelity = import_torch_fidelity()

    from ddpm_bench.extractors.efficientnet_lite0 import EfficientNetLite0

    loaded = EfficientNetLite0().load("cpu")

    class Extractor(fidelity.FeatureExtractorBase):  # type: ignore[misc,name-defined]
        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "features"

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (loaded(images)[0],)

    class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __init__(self, levels: np.ndarray) -> None:
            scaled = np.rint(levels.astype(np.float64) * 255 / 16).astype(np.uint8)
            self.images = torch.from_numpy(np.repeat(scaled, 3, axis=1))

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> torch.Tensor:
            return self.images[i]

    fidelity.register_feature_extractor("consistency", Extractor)
    data = next((tmp_path / "runs" / "store" / "data").glob("[0-9a-f]*"))
    for split, suffix in (("train", ""), ("test", "_test")):
        reference = np.load(data / f"{split}.npy")
        want = fidelity.calculate_metrics(
            input1=Images(cell.samples()[:130]), input2=Images(reference), feature_extractor="consistency",
            fid=True, kid=True, kid_subset_size=130, rng_seed=0, cuda=False, cache=False, save_cpu_ram=True,
            verbose=False, batch_size=16,
        )  # fmt: skip
        measured = cell.metrics[f"kd_efficientnet_lite0{suffix}"]["value"]
        # Features of one image differ by the batch it stands in (about 1e-5 of their range); both distances are sums
        # over 1280 features, so the differences stay below 1e-3 of them.
        assert measured == pytest.approx(want["kernel_inception_distance_mean"], rel=1e-3)
        measured = cell.metrics[f"fd_efficientnet_lite0{suffix}"]["value"]
        assert measured == pytest.approx(want["frechet_inception_distance"], rel=1e-3)
        assert cell.metrics[f"fd_efficientnet_lite0{suffix}"]["protocol"]["rank_deficient"]
