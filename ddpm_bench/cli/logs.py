"""`ddpm-bench logs`: what the stages of a cell wrote, tracebacks included."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ddpm_bench.cli._options import DEFAULT_RUNS, Runs

ROUTINE = ("progress", "checkpoint")
"""Events of which only the last of a row is shown."""


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("logs")(command)


def command(
    cell: Annotated[str, typer.Argument(help="The id of a cell, as `status` shows it.")],
    suite: Annotated[str | None, typer.Option(help="The suite; the newest run that has the cell if left out.")] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """The log of a cell, stage by stage, with the traceback of a failure."""
    from ddpm_bench.cli._common import suite_name
    from ddpm_bench.collecting import Collector
    from ddpm_bench.errors import UserError, suggestion
    from ddpm_bench.records import read_plan
    from ddpm_bench.stages import log_file

    name = suite_name(suite, runs) if suite else _newest_with(cell, runs)
    plan = read_plan(runs, name)
    found = next((entry for entry in plan["cells"] if entry["id"] == cell), None)
    if found is None:
        raise UserError(f'suite "{name}" has no cell "{cell}"{suggestion(cell, [c["id"] for c in plan["cells"]])}')
    if found["reason"] is not None:
        print(f"illegal: {found['reason']}")
        return
    silent = True
    for stage, key in Collector(runs, plan).tasks(found):
        file = log_file(runs, stage, key)
        if file.is_file():
            silent = False
            print(f"── {stage} {key[:12]}")
            for line in event_lines(file.read_text(encoding="utf-8")):
                print(line)
    if silent:
        print(f'nothing of "{cell}" has begun; `ddpm-bench status {name}` shows how far the suite is')


def _newest_with(cell: str, runs: Path) -> str:
    from ddpm_bench.cli._common import suite_name

    files = sorted((runs / "suites").glob("*/plan.json"), key=lambda file: -file.stat().st_mtime)
    for file in files:
        if any(entry["id"] == cell for entry in json.loads(file.read_text(encoding="utf-8"))["cells"]):
            return file.parent.name
    return suite_name(None, runs)


def event_lines(text: str) -> list[str]:
    """The events of a log as lines for people; of progress and checkpoints in a row the last of each kind."""
    lines: list[str] = []
    row: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):  # cut off by the death of its process
            continue
        event: dict[str, Any] = json.loads(line)
        kind, shown = event["event"], _line(event)
        if kind in ROUTINE:
            row.pop(kind, None)
            row[kind] = shown
            continue
        lines += [*row.values(), shown]
        row = {}
        if "traceback" in event:
            lines.append(event["traceback"].rstrip())
    return [*lines, *row.values()]


def _line(event: dict[str, Any]) -> str:
    when = datetime.datetime.fromtimestamp(event["time"]).strftime("%Y-%m-%d %H:%M:%S")
    if event["event"] == "progress":
        speed = f", {event['per_second']:.3g} per second" if "per_second" in event else ""
        return f"{when}  progress    {event['done']} of {event['total']} {event['unit']}{speed}"
    hidden = ("time", "pid", "event", "traceback", "stage")
    rest = ", ".join(f"{name} {value}" for name, value in event.items() if name not in hidden)
    return f"{when}  {event['event']:10}  {rest}".rstrip()
