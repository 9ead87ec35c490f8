"""The reverse chain: nothing is copied from the host within a step; precision; dynamic thresholding."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddpm_bench.datasets.cifar10 import Cifar10
from ddpm_bench.registry import get, names
from ddpm_bench.stages._model import Model, build_network, load_model
from ddpm_bench.stages._sampling import ReverseChain
from tests.stages.workbench import Bench, reverse, training, with_head

T = 8


class HostWork(TorchDispatchMode):
    """Counts operations that read a tensor on the host, and copies from one device to another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        self.count += any(leaf.device.type == "cpu" for leaf in tensors)
        return function(*args, **(kwargs or {}))


def host_work(kept: tuple[int, ...], sampler: str, variance: str, thresholding: str, prediction: str) -> int:
    """Operations on the host in a whole walk on the meta device, where reading a value is an error."""
    make = with_head if variance == "learned_range" else training
    chosen = make(timesteps=T, prediction=get("predictions", prediction)())
    module = build_network(chosen, Cifar10(), (3, 4, 4), "cpu").to("meta").eval()
    model = Model(module, chosen, chosen.schedule.process(T), (3, 4, 4), 256, "meta")
    used = reverse(
        variance=get("variances", variance)(), sampler=get("samplers", sampler)(), timesteps=kept,
        thresholding=thresholding,
    )  # fmt: skip
    fit = torch.zeros(len(kept), dtype=torch.float64) if variance == "optimal" else None
    walked = ReverseChain(model, used, fit)
    index = torch.arange(3, device="meta")
    with HostWork() as seen:
        x_0 = walked.walk(*walked.noise(index))
    assert x_0.shape == (3, 3, 4, 4)
    return seen.count


@pytest.mark.parametrize("sampler", names("samplers"))
@pytest.mark.parametrize("variance", names("variances"))
def test_nothing_waits_for_the_device_within_a_step(
    sampler: str, variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More steps are no more work on the host: coefficients are numbers, tables lie on the device beforehand."""
    monkeypatch.setattr("ddpm_bench.stages._model.MAX_VALUES", {"meta": 2**22})
    monkeypatch.setattr("ddpm_bench.stages._model.precision", lambda options, device: nullcontext())
    for thresholding, prediction in (("clip", "epsilon"), ("dynamic", "v"), ("none", "mu"), ("clip", "x0")):
        two, all_of_them = (
            host_work(kept, sampler, variance, thresholding, prediction) for kept in ((1, 8), tuple(range(1, T + 1)))
        )
        assert two == all_of_them


def test_the_counter_sees_a_copy() -> None:
    with HostWork() as seen:
        torch.zeros(2).to("meta")
    assert seen.count > 0


def test_dynamic_thresholding_reaches_the_images(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "runs")
    model = bench.model(bench.data(), training(timesteps=T))
    images = {}
    for thresholding in ("clip", "none", "dynamic"):
        spec = {"reverse": reverse(thresholding=thresholding), "chunk": 0, "count": 4}
        images[thresholding] = np.load(bench.run("sample", spec, {"train": model}).path / "samples.npy")
    assert not np.array_equal(images["dynamic"], images["clip"])
    assert not np.array_equal(images["dynamic"], images["none"])


def test_precision_is_an_option_of_the_evaluation(tmp_path: Path) -> None:
    """bfloat16 has 8 bits: outputs of the order of 1 move by about 2⁻⁸, and by more than float32 could."""
    bench = Bench(tmp_path / "runs")
    artifact = bench.model(bench.data(), training(timesteps=T))
    x, t = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.full((5,), 3)
    outputs = {}
    for precision in (None, "float32", "bfloat16"):
        with torch.inference_mode():
            outputs[precision] = load_model(artifact, "ema", "cpu", precision=precision)(x, t)
        assert outputs[precision].dtype == torch.float32
    assert torch.equal(outputs[None], outputs["float32"])  # the training was in float32
    difference = (outputs["bfloat16"] - outputs["float32"]).abs().max() / outputs["float32"].abs().max()
    assert 1e-4 < float(difference) < 0.1
