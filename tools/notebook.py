"""Runs docs/notebook.ipynb and writes what it shows into it: `python -m tools.notebook`, after `make demo`.

A notebook is JSON; its code cells are Python. What a cell prints, the value of its last line and the figures that it
leaves open become its outputs, as Jupyter would have them. Jupyter itself is not needed.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"
DPI = 130
"""Of figures in the notebook; files have vectors."""


def read(file: Path = PAGE) -> dict[str, Any]:
    """The notebook."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Its code cells, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the code cells in order, in a folder; what they define. Their outputs are replaced."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with chdir(folder):
        for number, cell in enumerate(code_cells(notebook), start=1):
            cell["execution_count"] = number
            cell["outputs"] = _outputs("".join(cell["source"]), names, number)
    return names


def _outputs(source: str, names: dict[str, Any], number: int) -> list[dict[str, Any]]:
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        found.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)})
    found += [{"output_type": "display_data", "metadata": {}, "data": data} for data in _figures()]
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        found.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    return found


def _figures() -> list[dict[str, Any]]:
    """The open figures as PNG; they are closed."""
    import matplotlib.pyplot as plt

    found = []
    for index in plt.get_fignums():
        content = io.BytesIO()
        plt.figure(index).savefig(content, format="png", dpi=DPI, metadata={"Software": None})
        found.append({"image/png": base64.b64encode(content.getvalue()).decode(), "text/plain": ["<Figure>"]})
        plt.close(index)
    return found


def write(notebook: dict[str, Any], file: Path = PAGE) -> None:
    """Write the notebook, one line for each value: differences stay readable."""
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"
    page = read()
    execute(page, PAGE.parent)
    write(page)
    print(f"wrote {PAGE.relative_to(PAGE.parent.parent)}")
