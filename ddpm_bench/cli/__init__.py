"""The command line: one file per command, each a thin layer over the Python functions.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys

from ddpm_bench.errors import UserError

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 75


def main() -> None:
    """The entry point: exit codes 0 done, 1 some cell failed, 2 wrong input, 75 interrupted and resumable."""
    from ddpm_bench.cli.app import app

    try:
        app()
    except UserError as problem:
        for text in problem.problems:
            print(text, file=sys.stderr)
        sys.exit(WRONG_INPUT)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(INTERRUPTED)
