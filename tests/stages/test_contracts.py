"""What every stage owes: a VERSION, a run, and keys that can be recomputed from what its artifacts say."""

from __future__ import annotations

import importlib
import pkgutil
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import ddpm_bench.stages
from ddpm_bench.identity import canonical, content_key
from ddpm_bench.store import Artifact, Store
from tests.conftest import FinishedRun
from tests.support import artifacts

pytestmark = pytest.mark.xdist_group("runs")

HELPERS = {"runner"}
STAGES = sorted(
    item.name
    for item in pkgutil.iter_modules(ddpm_bench.stages.__path__)
    if not item.name.startswith("_") and item.name not in HELPERS
)


def test_the_stages() -> None:
    known = {"data", "spectrum", "train", "score", "fit", "likelihood", "sample", "features", "quality", "baseline",
             "gallery", "nearest", "forward", "landscape"}  # fmt: skip
    assert known <= set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_a_version_and_a_run(stage: str) -> None:
    module = importlib.import_module(f"ddpm_bench.stages.{stage}")
    assert isinstance(module.VERSION, int)
    assert module.VERSION >= 1
    assert list(signature(module.run).parameters) == ["context"]
    assert "Writes" in module.run.__doc__  # which files, in which form
    assert module.__doc__.startswith(f"Stage {stage}:")


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_calls_another(stage: str) -> None:
    """They share helpers and pure functions, never a `run`."""
    module = importlib.import_module(f"ddpm_bench.stages.{stage}")
    runs = {importlib.import_module(f"ddpm_bench.stages.{other}").run for other in STAGES if other != stage}
    assert not runs & {value for value in vars(module).values() if callable(value)}
    modules = {value for value in vars(module).values() if type(value).__name__ == "module"}
    assert not modules & {importlib.import_module(f"ddpm_bench.stages.{other}") for other in STAGES}


def identity(store: Store, place: Any) -> Any:
    """How an input enters a key: the data by the digest of their content, everything else by its key."""
    if isinstance(place[0], list):
        return [identity(store, item) for item in place]
    stage, key = place
    return store.get(stage, key).manifest["info"]["digest"] if stage == "data" else key


def test_every_key_can_be_recomputed_from_its_manifest(finished_tiny: FinishedRun) -> None:
    store = Store(finished_tiny.runs / "store")
    found = sorted(artifacts(finished_tiny.runs))
    assert {stage for stage, _ in found} == {
        "data", "train", "score", "likelihood", "sample", "baseline", "gallery", "nearest", "forward",
    }  # fmt: skip
    for stage, key in found:
        manifest = store.get(stage, key).manifest
        inputs = {name: identity(store, place) for name, place in manifest["inputs"].items()}
        assert content_key(stage, manifest["version"], manifest["spec"], inputs) == key, stage
        assert manifest["key"] == key
        assert manifest["stage"] == stage
        assert canonical(manifest["spec"]) == manifest["spec"]


def test_a_key_hashes_everything_but_what_is_recorded(finished_tiny: FinishedRun) -> None:
    store = Store(finished_tiny.runs / "store")
    stage, key = next(item for item in sorted(artifacts(finished_tiny.runs)) if item[0] == "train")
    manifest = store.get(stage, key).manifest
    inputs = {name: identity(store, place) for name, place in manifest["inputs"].items()}
    assert "micro_batch" in manifest["recorded"]
    assert "micro_batch" not in manifest["spec"]["training"]["options"]
    others = {
        content_key(stage, manifest["version"] + 1, manifest["spec"], inputs),
        content_key(stage, manifest["version"], {**manifest["spec"], "steps": 41}, inputs),
        content_key(stage, manifest["version"], manifest["spec"], {"data": "another digest"}),
        content_key("score", manifest["version"], manifest["spec"], inputs),
    }
    assert len(others | {key}) == 5


def test_every_file_is_in_its_manifest(finished_tiny: FinishedRun) -> None:
    for stage, key in artifacts(finished_tiny.runs):
        artifact = Artifact(Path(finished_tiny.runs / "store" / stage / key)).verify()
        files = {file.name for file in artifact.path.iterdir()} - {"manifest.json"}
        assert files == set(artifact.manifest["files"])
        assert files
