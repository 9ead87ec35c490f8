"""The only door to torchvision, and to torch_fidelity, which imports it.

torchvision is used for reading files and for pictures, never for its compiled operators.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import PathFinder
from types import ModuleType

import torch

_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
"""Operators that torchvision's Python code describes to torch while it is imported, whether or not they were loaded."""

_declared: list[torch.library.Library] = []
"""Libraries must outlive the import: torch forgets their operators with them."""


def import_torchvision() -> ModuleType:
    """The module torchvision, imported also where its compiled operators do not fit the installed torch.

    A torchvision wheel built for CUDA beside a CPU build of torch cannot load its operators, and then its import fails
    with "operator torchvision::nms does not exist". Where they cannot be loaded, and only there, the names and
    signatures of those operators are declared to torch, without code: the import works and calling them raises
    NotImplementedError.
    """
    if "torchvision" not in sys.modules and not _load_operators():
        _declare_operators()
    return importlib.import_module("torchvision")


def import_torch_fidelity() -> ModuleType:
    """The module torch_fidelity, imported as `import_torchvision` imports torchvision."""
    import_torchvision()
    return importlib.import_module("torch_fidelity")


def _load_operators() -> bool:
    """Load torchvision's compiled operators as its import does; False where that fails."""
    package = importlib.util.find_spec("torchvision")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    extension = PathFinder.find_spec("_C", list(package.submodule_search_locations))
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True


def _declare_operators() -> None:
    missing = [name for name in _OPERATORS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(name + _OPERATORS[name])
        _declared.append(library)
