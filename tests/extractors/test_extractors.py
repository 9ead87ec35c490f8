import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch

from ddpm_bench.extractors import Extractor, file_digest, full_precision, metric_word, weights_root
from ddpm_bench.registry import get, names


def test_label_appends_parameters_that_are_not_defaults():
    cls = get("extractors", "efficientnet_lite0")
    assert cls().label == "efficientnet_lite0"
    assert cls(input_size=64).label == "efficientnet_lite0"
    assert cls(input_size=112).label == "efficientnet_lite0_112"


def test_label_of_another_package_is_a_metric_word():
    @dataclass(frozen=True, kw_only=True)
    class Odd(Extractor):
        """Odd."""

        layer: str = "a"
        scale: float = 1.0

    Odd.name = "some-package/Odd-net"
    assert Odd(layer="Block.3", scale=0.5).label == "odd_net_block_3_0_5"


@pytest.mark.parametrize("name", names("extractors"))
def test_every_label_fits_into_a_metric_name(name):
    assert re.fullmatch("[a-z0-9_]+", get("extractors", name)().label)


def test_metric_word():
    assert metric_word("Ab-c.ñ/1") == "ab_c___1"


def test_file_digest_follows_a_changed_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert file_digest(path) == hashlib.sha256(b"three").hexdigest()


def test_full_precision_switches_tensor_float_off_and_back_on():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = True, True
    try:
        with full_precision():
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, False)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (True, True)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def test_weights_root_is_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("DDPM_BENCH_WEIGHTS", str(tmp_path))
    assert weights_root() == tmp_path
    monkeypatch.delenv("DDPM_BENCH_WEIGHTS")
    assert weights_root().parts[-3:] == (".cache", "ddpm-bench", "weights")


def test_importing_extractors_and_metrics_needs_no_torch():
    """torch costs 2 seconds, torch_fidelity 4: a plan must not pay for them."""
    code = (
        "import sys; from ddpm_bench.registry import get, names\n"
        "for axis in ('extractors', 'metrics'):\n"
        "    for name in names(axis): get(axis, name)()\n"
        "import ddpm_bench.metrics._resolve\n"
        "print(sorted({'torch', 'torchvision', 'torch_fidelity'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
