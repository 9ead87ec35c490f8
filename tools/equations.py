"""docs/equations.md from the docstrings of the mathematics: `python -m tools.equations` writes it.

What has a `Source:` line is on the page, with its docstring as it stands. The files are parsed, not imported.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "ddpm_bench"
PAGE = REPOSITORY / "docs" / "equations.md"
COMMAND = "python -m tools.equations"

READING_ORDER = ("process", "reverse", "gaussians", "likelihood", "respacing", "time_sampling", "wiener")
"""Modules of diffusion/; further ones follow by name."""
AXES = ("schedules", "predictions", "variances", "weightings", "losses", "samplers", "estimators")
"""Directories of diffusion/; further ones follow by name."""
BESIDE = ("log_snr", "statistics")
"""Modules of the package with mathematics of results, behind the metrics."""

INTRODUCTION = f"""# Equations

Every formula that ddpm-bench computes, where it is computed, and where it comes from. This page is made from the
docstrings by `{COMMAND}`; a test says when it is stale. Symbols, shapes and the index rule are those of the
legend.
"""


@dataclass(frozen=True)
class Item:
    """A docstring with its source. name: as code has it, `Process.snr`; entry: of an entry, its registered name."""

    name: str
    text: str
    source: str
    entry: str | None = None


@dataclass(frozen=True)
class Module:
    """What a module has for the page. text, source: of its own docstring, shown where it is more than a title;
    interface: of the base class of an axis."""

    file: Path
    text: str
    source: str
    items: list[Item]
    interface: str | None = None

    @property
    def on_page(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.items or self.source or self.interface)


def modules() -> list[tuple[str, list[Module]]]:
    """(heading, modules) in reading order, without those that have nothing to show."""
    diffusion = PACKAGE / "diffusion"
    plain = _ordered([path for path in diffusion.glob("*.py") if path.stem != "__init__"], READING_ORDER)
    axes = _ordered([path.parent for path in diffusion.glob("*/__init__.py")], AXES)
    groups = [(_title(path), [path]) for path in plain]
    groups += [(path.name.capitalize(), sorted(path.glob("*.py"))) for path in axes]
    groups += [("Metrics", sorted((PACKAGE / "metrics").glob("*.py")))]
    groups += [(_title(path), [path]) for name in BESIDE if (path := PACKAGE / f"{name}.py").is_file()]
    read = [(title, [module for path in paths if (module := read_module(path)).on_page]) for title, paths in groups]
    return [(title, found) for title, found in read if found]


def _ordered(paths: list[Path], order: tuple[str, ...]) -> list[Path]:
    return sorted(paths, key=lambda path: (order.index(path.stem) if path.stem in order else len(order), path.stem))


def _title(path: Path) -> str:
    """The heading of a module: its docstring up to the first colon, comma or full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    return re.split("[:,.]", docstring, maxsplit=1)[0]


def read_module(path: Path) -> Module:
    """The docstrings of a module that name a source, in its order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text, source = split_source(ast.get_docstring(tree) or "")
    bases = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and any(k.arg == "axis" for k in node.keywords)
    ]
    return Module(path, text, source, list(_items(tree, path)), _interface(bases[0]) if bases else None)


def split_source(docstring: str) -> tuple[str, str]:
    """(docstring without its source, the source on one line, "" where it names none).

    The source runs from `Source:` to the end of its paragraph.
    """
    before, found, after = docstring.partition("Source:")
    if not found:
        return docstring, ""
    source, _, rest = after.partition("\n\n")
    return "\n\n".join(part for part in (before.rstrip(), rest) if part), " ".join(source.split())


def _items(node: ast.Module | ast.ClassDef, path: Path, prefix: str = "") -> Iterator[Item]:
    """Public constants, functions and classes with a source, and those in classes."""
    for child, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name, docstring = child.name, ast.get_docstring(child) or ""
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            target = child.targets[0] if isinstance(child, ast.Assign) else child.target
            string = after.value if isinstance(after, ast.Expr) else None
            if not isinstance(target, ast.Name) or not isinstance(string, ast.Constant):
                continue
            name, docstring = target.id, str(string.value)
        else:
            continue
        text, source = split_source(docstring)
        if source and not name.startswith("_"):
            decorators = getattr(child, "decorator_list", [])
            registered = any(isinstance(item, ast.Name) and item.id == "register" for item in decorators)
            yield Item(prefix + name, text, source, path.stem if registered else None)
        if isinstance(child, ast.ClassDef):
            yield from _items(child, path, f"{prefix}{name}.")


def _interface(base: ast.ClassDef) -> str:
    """The docstring of the base class of an axis, and the first lines of the methods that an entry has to write."""
    lines = [ast.get_docstring(base) or "", ""]
    for method in base.body:
        if isinstance(method, ast.FunctionDef) and ast.unparse(method.body[-1]) == "raise NotImplementedError":
            arguments = ", ".join(argument.arg for argument in method.args.args[1:])
            lines.append(f"{method.name}({arguments})")
            lines.append(f"    {(ast.get_docstring(method) or '').splitlines()[0]}")
    return "\n".join(lines).rstrip()


def page() -> str:
    """The text of docs/equations.md."""
    legend = ast.get_docstring(ast.parse((PACKAGE / "diffusion" / "__init__.py").read_text(encoding="utf-8"))) or ""
    groups = modules()
    parts = [INTRODUCTION, _contents(groups), "## Legend\n", _block(legend)]
    for title, found in groups:
        parts.append(f"## {title}\n")
        for module in found:
            parts += _of_module(module)
    return "\n".join(parts)


def _contents(groups: list[tuple[str, list[Module]]]) -> str:
    """A list of the groups with links to their items."""
    seen: Counter[str] = Counter()
    lines = []
    for title, found in groups:
        links = []
        for item in (item for module in found for item in module.items):
            anchor = re.sub(r"[^\w -]", "", _heading(item)).replace(" ", "-").lower()  # as GitHub makes them
            repeated = f"-{seen[anchor]}" if seen[anchor] else ""
            seen[anchor] += 1
            links.append(f"[{item.entry or item.name}](#{anchor}{repeated})")
        lines += [f"- **{title}:**", *textwrap.wrap(", ".join(links), 118, initial_indent="  ", subsequent_indent="  ",
                                                    break_long_words=False, break_on_hyphens=False)]  # fmt: skip
    return "\n".join([*lines, ""])


def _heading(item: Item) -> str:
    return f"`{item.entry}`, class `{item.name}`" if item.entry else f"`{item.name}`"


def _link(file: Path) -> str:
    return f"[{file.relative_to(PACKAGE).as_posix()}](../{file.relative_to(REPOSITORY).as_posix()})"


def _of_module(module: Module) -> list[str]:
    parts = []
    if module.source or "\n\n" in module.text:  # more than a title
        source = f" Source: {module.source}" if module.source else ""
        parts += [_block(module.text), f"{_link(module.file)}.{source}\n"]
    if module.interface:
        parts += [_block(module.interface), f"{_link(module.file)}, what every entry has.\n"]
    for item in module.items:
        parts += [f"### {_heading(item)}\n", _block(item.text), f"{_link(module.file)}. Source: {item.source}\n"]
    return parts


def _block(text: str) -> str:
    return f"```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(REPOSITORY)}")
