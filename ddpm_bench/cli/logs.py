"""`ddpm-bench logs`: what the stages of a cell wrote, tracebacks included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ddpm_bench.cli.app import DEFAULT_RUNS, Runs


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("logs")(command)


def command(
    cell: Annotated[str, typer.Argument(help="The id of a cell, as `status` shows it.")],
    suite: Annotated[str | None, typer.Option(help="The suite; the newest run that has the cell if left out.")] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """The log of a cell, stage by stage, with the traceback of a failure."""
    from ddpm_bench.records import Collector, read_plan

    name = suite or _newest_with(cell, runs)
    plan = read_plan(runs, name)
    found = next((entry for entry in plan["cells"] if entry["id"] == cell), None)
    if found is None:
        from ddpm_bench.errors import UserError, suggestion

        known = [entry["id"] for entry in plan["cells"]]
        raise UserError(f'suite "{name}" has no cell "{cell}"{suggestion(cell, known)}')
    if found["reason"] is not None:
        print(f"illegal: {found['reason']}")
        return
    for stage, key in Collector(runs, plan).tasks(found):
        file = runs / "logs" / stage / f"{key}.jsonl"
        if file.is_file():
            print(f"── {stage} {key[:12]}")
            _print_events(file)


def _newest_with(cell: str, runs: Path) -> str:
    from ddpm_bench.cli._common import suite_name

    files = sorted((runs / "suites").glob("*/plan.json"), key=lambda file: -file.stat().st_mtime)
    for file in files:
        if any(entry["id"] == cell for entry in json.loads(file.read_text(encoding="utf-8"))["cells"]):
            return file.parent.name
    return suite_name(None, runs)


def _print_events(file: Path) -> None:
    import datetime

    previous = None
    for line in file.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "progress" and previous == "progress" and event["done"] < event["total"]:
            continue
        previous = event["event"]
        when = datetime.datetime.fromtimestamp(event.pop("time")).strftime("%H:%M:%S")
        traceback = event.pop("traceback", None)
        event.pop("pid")
        print(f"{when}  {event.pop('event'):10} " + "  ".join(f"{name}={value}" for name, value in event.items()))
        if traceback:
            print(traceback)
