"""A directory is an axis, a file is an entry: what exists, found without importing it.

An entry is a frozen keyword-only dataclass below the base class of its axis: its fields are its TOML parameters, its
identity and its documentation. The name of its file is its registered name. Others add entries through the
entry-point group `ddpm_bench.<directory>` (named `package/name`) or a suite's `plugins = ["file.py"]`.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ddpm_bench.errors import UserError, suggestion
from ddpm_bench.identity import identity_fields


@dataclass(frozen=True)
class Axis:
    """One axis: its directory (and entry-point group), the package that holds it, and its key in a suite."""

    directory: str
    package: str
    key: str


AXES = {
    axis.directory: axis
    for axis in (
        Axis("schedules", "ddpm_bench.diffusion.schedules", "schedule"),
        Axis("predictions", "ddpm_bench.diffusion.predictions", "prediction"),
        Axis("variances", "ddpm_bench.diffusion.variances", "variance"),
        Axis("weightings", "ddpm_bench.diffusion.weightings", "weighting"),
        Axis("losses", "ddpm_bench.diffusion.losses", "loss"),
        Axis("samplers", "ddpm_bench.diffusion.samplers", "sampler"),
        Axis("estimators", "ddpm_bench.diffusion.estimators", "estimator"),
        Axis("networks", "ddpm_bench.networks", "network"),
        Axis("datasets", "ddpm_bench.datasets", "dataset"),
        Axis("extractors", "ddpm_bench.extractors", "extractor"),
        Axis("metrics", "ddpm_bench.metrics", "metric"),
        Axis("variants", "ddpm_bench.variants", "variant"),
    )
}

_registered: dict[tuple[str, str], Any] = {}
_plugin_files: dict[str, bytes] = {}
"""Module name → the text of a user's own file as it was run."""

T = TypeVar("T")


class Entry:
    """Base of all entries. `class Schedule(Entry, axis="schedules")` makes the base class of an axis."""

    axis: ClassVar[str]
    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised by hand when the numbers of this entry move; part of every key it enters."""
    symbol: ClassVar[str | None] = None
    """How labels write the entry (ε for epsilon); None: its name."""

    def __init_subclass__(cls, axis: str | None = None, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if axis is not None:
            cls.axis = axis

    def identity(self) -> dict[str, Any]:
        """Name, version and parameters; for an entry that is not ddpm_bench's own also the digest of its code."""
        identity = {"name": self.name, "version": self.version, **identity_fields(self)}
        if not type(self).__module__.startswith("ddpm_bench."):
            identity["source"] = source_digest(type(self))  # type: ignore[arg-type]  # a class is hashable
        return identity

    def parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults: what a label shows."""
        found = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            if default is dataclasses.MISSING or value != default:
                found[field.name] = value
        return found

    def refuse(self, cell: Any) -> str | None:
        """Why this entry makes the cell (a `spec.Cell`) illegal, or None. Every entry of a cell is asked."""
        return None


@cache
def source_digest(cls: type) -> str:
    """SHA-256 of the syntax tree of the module that defines the class: comments and layout do not count.

    A plugin's is taken when it registers: of the code that runs, whatever becomes of its file.
    """
    tree = ast.parse(_plugin_files.get(cls.__module__) or inspect.getsource(sys.modules[cls.__module__]))
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def axis_of(name: str) -> Axis:
    """The axis by its directory ("schedules") or its suite key ("schedule"). Raises UserError."""
    for axis in AXES.values():
        if name in (axis.directory, axis.key):
            return axis
    raise UserError(f'unknown axis "{name}"{suggestion(name, [*AXES, *(a.key for a in AXES.values())])}')


def register(thing: T) -> T:
    """Register an entry class (or a variant function) under the name of its file. Goes above `@dataclass`.

    Raises TypeError for a class without axis base, a variant that asks for arguments, a missing docstring, or a name
    that is taken.
    """
    module, who = thing.__module__, f"{thing.__module__}.{thing.__qualname__}"  # type: ignore[attr-defined]
    if not isinstance(thing, type):
        axis = "variants"
        if inspect.signature(thing).parameters:  # type: ignore[arg-type]
            raise TypeError(f"{who}: a variant is a function without arguments that returns {{short name: value}}")
    elif not issubclass(thing, Entry) or not hasattr(thing, "axis"):
        raise TypeError(f"{who} has no axis; subclass Schedule, Loss, … of ddpm_bench")
    else:
        axis = thing.axis
        if not dataclasses.is_dataclass(thing) or not thing.__dataclass_params__.frozen:
            raise TypeError(f"{who} is no frozen dataclass; put @register above @dataclass(frozen=True, kw_only=True)")
    written = inspect.cleandoc(thing.__doc__ or "")
    if not written or written.startswith(f"{thing.__name__}("):  # type: ignore[attr-defined]
        raise TypeError(f"{who} needs a written docstring")
    name = module.rpartition(".")[2]
    package = None if module.startswith("ddpm_bench.") else _packages().get(module.partition(".")[0])
    if package is not None and module not in _plugin_files:
        name = f"{package}/{name}"
    if isinstance(thing, type) and (package is not None or module in _plugin_files):
        source_digest(thing)
    own = f"{AXES[axis].package}.{name}"
    taken = _registered.get((axis, name))
    if module != own and name in _own_names(AXES[axis]):
        raise TypeError(f'{axis}: the name "{name}" of {who} is taken by {own}')
    if taken is not None and (taken.__module__, taken.__qualname__) != (module, thing.__qualname__):  # type: ignore[attr-defined]
        raise TypeError(f'{axis}: the name "{name}" of {who} is taken by {taken.__module__}.{taken.__qualname__}')
    thing.name = name  # type: ignore[attr-defined]
    _registered[axis, name] = thing
    return thing


def _forget(module: str) -> None:
    """Take back a module and what it registered: it failed half-way, or its file was edited."""
    sys.modules.pop(module, None)
    _plugin_files.pop(module, None)
    for place in [place for place, thing in _registered.items() if thing.__module__ == module]:
        del _registered[place]


@cache
def _own_names(axis: Axis) -> tuple[str, ...]:
    spec = importlib.util.find_spec(axis.package.partition(".")[0])
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0], *axis.package.split(".")[1:])
    return tuple(sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")))


@cache
def _entry_points(axis: Axis) -> dict[str, EntryPoint]:
    found = {}
    for point in entry_points(group=f"ddpm_bench.{axis.directory}"):
        package = point.dist.name if point.dist else point.module.partition(".")[0]
        found[f"{package}/{point.name}"] = point
    return found


@cache
def _packages() -> dict[str, str]:
    """Top-level module → the package that has entry points in it and names what is registered there."""
    points = [(name, point) for axis in AXES.values() for name, point in _entry_points(axis).items()]
    return {point.module.partition(".")[0]: name.partition("/")[0] for name, point in points}


def origin(axis_name: str, name: str) -> str:
    """Where an entry is, `package.module[:object]`; imports none. Raises KeyError for a name that is not registered."""
    axis = axis_of(axis_name)
    if name in _own_names(axis):
        return f"{axis.package}.{name}"
    if name in _entry_points(axis):
        return _entry_points(axis)[name].value
    loaded = _registered[axis.directory, name]
    return f"{loaded.__module__}:{loaded.__qualname__}"


def names(axis_name: str) -> list[str]:
    """The registered names of an axis: ddpm_bench's files, then entry points and loaded plugins. Imports none."""
    axis = axis_of(axis_name)
    own = _own_names(axis)
    others = {name for directory, name in _registered if directory == axis.directory} | set(_entry_points(axis))
    return [*own, *sorted(others - set(own))]


def get(axis_name: str, name: str) -> Any:
    """The entry class (or variant function), imported when first asked for.

    Raises UserError for an unknown name, and for a plugin that cannot be imported or is something else.
    """
    axis = axis_of(axis_name)
    if (axis.directory, name) not in _registered:
        if name in _own_names(axis):
            importlib.import_module(f"{axis.package}.{name}")
        elif name in _entry_points(axis):
            _load(axis, name, _entry_points(axis)[name])
        else:
            raise UserError(f'unknown {axis.key} "{name}"{suggestion(name, names(axis_name))}')
    return _registered[axis.directory, name]


def _load(axis: Axis, name: str, point: EntryPoint) -> None:
    """Import an entry point."""
    try:
        found = point.load()
    except Exception as cause:
        for module in {thing.__module__ for thing in _registered.values()} - sys.modules.keys():
            _forget(module)  # what was registered before it failed
        raise UserError(f'the plugin {axis.key} "{name}" cannot be imported: {_text(cause)}') from cause
    if (axis.directory, name) not in _registered:
        places = [f'the {axis_of(where).key} "{called}"' for (where, called), it in _registered.items() if it is found]
        raise UserError(
            f'the plugin {axis.key} "{name}": {point.value} is {places[0] if places else "not registered"}; an entry '
            "point leads to a registered class or function, in the group of its axis, and is called like its file"
        )


def _text(cause: Exception) -> str:
    return f"{type(cause).__name__}: {cause}"


def load_plugin_file(path: Path) -> None:
    """Run a user's own file (a suite's `plugins`), whose entries are named after it; again when it was edited.

    Raises UserError with the cause when it fails.
    """
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"plugin {path}: no such file")
    if not path.stem.isidentifier():
        raise UserError(f"plugin {path}: its entries are named after it, so its name is made of letters, digits and _")
    text, known = path.read_bytes(), sys.modules.get(path.stem)
    if getattr(known, "__file__", None) == str(path):
        if _plugin_files.setdefault(path.stem, text) == text:
            return
        _forget(path.stem)
    else:
        other = None if known is not None else importlib.util.find_spec(path.stem)
        if known is not None or (other is not None and other.origin != str(path)):
            raise UserError(f'plugin {path}: a module named "{path.stem}" exists already; rename the file')
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem], _plugin_files[path.stem] = module, text
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)  # no bytecode file: those of one second look alike
    except Exception as cause:
        _forget(path.stem)
        raise UserError(f"plugin {path} cannot be imported: {_text(cause)}") from cause


def field_documents(cls: type) -> dict[str, str]:
    """Field name → the docstring that stands below it in the source."""
    found = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        tree = ast.parse(inspect.cleandoc(inspect.getsource(base))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for node, after in zip(tree.body, tree.body[1:], strict=False):
            document = after.value if isinstance(after, ast.Expr) else None
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if isinstance(document, ast.Constant) and isinstance(document.value, str):
                found[node.target.id] = inspect.cleandoc(document.value)
    return found
