"""The application: every command registers itself in a file of its own."""

from __future__ import annotations

import importlib

import typer

app = typer.Typer(
    name="ddpm-bench",
    help="Ask a question about denoising diffusion models in a TOML file; get an answer with error bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    "run", "plan", "report", "evaluate", "status", "logs", "list", "show", "new", "ui", "track", "weights", "data",
    "stage",
)  # fmt: skip

for _command in COMMANDS:
    importlib.import_module(f"ddpm_bench.cli.{_command}").add_to(app)
