"""torchvision and torch_fidelity import whether or not torchvision's compiled operators fit the installed torch."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ddpm_bench import vision


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """The code in a new interpreter where every warning is an error."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["torchvision", "torch_fidelity"])
def test_imports_without_a_warning_in_a_fresh_interpreter(name):
    result = fresh(f"from ddpm_bench.vision import import_{name}; print(import_{name}().__name__)")
    assert (result.returncode, result.stdout) == (0, f"{name}\n"), result.stderr


def test_imports_where_the_operators_cannot_be_loaded():
    # The loader of torch refuses torchvision's library, as it does for a CUDA build beside a CPU build of torch.
    refuse = """
import torch
original = torch.ops.load_library
def load_library(path):
    if "torchvision" in str(path):
        raise OSError("libcudart.so.13: cannot open shared object file")
    original(path)
torch.ops.load_library = load_library
"""
    plain = fresh(refuse + "import torchvision")
    assert "operator torchvision::nms does not exist" in plain.stderr, "the fault that this module is for has gone"
    result = fresh(
        refuse
        + """
from ddpm_bench.vision import import_torchvision
import_torchvision()
try:
    torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except NotImplementedError:
    print("declared, not implemented")
"""
    )
    assert result.stdout == "declared, not implemented\n", result.stderr


def test_declares_nothing_where_the_operators_load(monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(vision, "_load_operators", lambda: True)
    monkeypatch.setattr(vision, "_declare_operators", lambda: pytest.fail("declared operators that exist"))
    imported = []
    monkeypatch.setattr(vision.importlib, "import_module", imported.append)
    vision.import_torchvision()
    assert imported == ["torchvision"]


def test_a_second_call_returns_the_same_module():
    assert vision.import_torchvision() is vision.import_torchvision() is sys.modules["torchvision"]


def test_what_the_project_uses_of_torchvision_works():
    torchvision = vision.import_torchvision()
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    tensor = torchvision.transforms.functional.pil_to_tensor(image)
    assert tensor.shape == (3, 4, 4)
    assert torchvision.utils.make_grid([tensor, tensor], padding=0).shape == (3, 4, 8)
