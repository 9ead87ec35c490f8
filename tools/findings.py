"""docs/findings.md from docs/findings.md.in and the results.json of the shipped reports: no number is typed in.

python -m tools.findings            writes the page
python -m tools.findings --check    exit code 1 and the differing lines if the page is not what the results say
"""

from __future__ import annotations

import difflib
import json
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ddpm_bench.report import words
from ddpm_bench.statistics import t_half_width

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE, PAGE = ROOT / "docs" / "findings.md.in", ROOT / "docs" / "findings.md"


class Evidence:
    """The results of a shipped suite, asked by the template."""

    def __init__(self, data: dict[str, Any]):
        self.data = data
        self.claims: list[dict[str, Any]] = data["claims"]
        self.cells: list[dict[str, Any]] = data["cells"]

    @property
    def num_trainings(self) -> int:
        """Trainings behind the cells."""
        return len({cell["train_key"] for cell in self.cells if cell["train_key"]})

    @property
    def num_seeds(self) -> int:
        """Seeds of the suite."""
        return len({cell["seed"] for cell in self.cells})

    def starting(self, start: str) -> list[dict[str, Any]]:
        """The claims whose statements begin like this."""
        return [claim for claim in self.claims if claim["statement"].startswith(start)]

    def claim(self, start: str) -> dict[str, Any]:
        """The one claim whose statement begins like this."""
        found = self.starting(start)
        if len(found) != 1:
            raise ValueError(f"{len(found)} claims of {self.data['suite']} begin with {start!r}, expected one")
        return found[0]

    def expect(self, start: str, verdict: str) -> str:
        """Nothing, where the claim has the verdict that the text beside it speaks of. Raises ValueError otherwise."""
        found = self.claim(start)["verdict"]
        if found != verdict:
            raise ValueError(f"{self.data['suite']}: {start!r} is {found}, the text says {verdict}: rewrite it")
        return ""

    def verdicts(self, verdict: str, family: str | None = None) -> int:
        """How many claims have a verdict."""
        return sum(claim["verdict"] == verdict and family in (None, claim["family"]) for claim in self.claims)

    def values(self, metric: str, **axes: str) -> list[float]:
        """The value of each seed of the one variant with these labels. Raises ValueError for none or several."""
        found = [cell for cell in self.cells if all(cell["axes"].get(k) == v for k, v in axes.items())]
        if len({cell["seed"] for cell in found}) != len(found) or not found:
            raise ValueError(f"{axes} is not one variant of {self.data['suite']}: {[cell['id'] for cell in found]}")
        return [cell["metrics"][metric]["value"] for cell in sorted(found, key=lambda cell: cell["seed"])]

    def mean(self, metric: str, **axes: str) -> float:
        """Over the seeds of a variant."""
        values = self.values(metric, **axes)
        return math.fsum(values) / len(values)

    def interval(self, metric: str, **axes: str) -> str:
        """Mean ± half width of the 95 % t interval, as the report prints them."""
        mean, half = self.mean(metric, **axes), t_half_width(self.values(metric, **axes))
        digits = words.digits([half], [mean])
        return f"{mean:.{digits}f} ± {half:.{digits}f}"

    def landscapes(self, name: str) -> list[float]:
        """A number of every loss landscape."""
        return [cell["landscape"][name] for cell in self.cells if cell["landscape"]]

    def baseline(self, name: str, metric: str) -> float:
        """A baseline's value."""
        found = [item["value"] for item in self.data["baselines"] if (item["name"], item["metric"]) == (name, metric)]
        if len(found) != 1:
            raise ValueError(f"{len(found)} baselines {name!r} of {metric}, expected one")
        return float(found[0])

    def floor(self, metric: str) -> float:
        """The floor of a quality metric: real images in place of generated ones."""
        found = [item["value"] for item in self.data["baselines"]
                 if item["metric"] == metric and item["name"].startswith("floor")]  # fmt: skip
        return float(found[0])

    def table(self, family: str) -> str:
        """The claims of a family as a Markdown table."""
        lines = ["| claim | verdict | effect [95 %] | Holm p | sign-flip p |", "|---|---|---|---|---|"]
        for claim in self.claims:
            if claim["family"] == family:
                numbers = f"{p_value(claim['p_holm'])} | {p_value(claim['p_sign_flip'])}"
                lines.append(f"| {claim['statement']} | {claim['verdict']} | {effect(claim)} | {numbers} |")
        return "\n".join(lines)


def falling(values: list[float]) -> str:
    """Nothing, where each is less than the one before, as the text beside it says. Raises ValueError otherwise."""
    if values != sorted(set(values), reverse=True):
        raise ValueError(f"{values} do not fall, the text says so: rewrite it")
    return ""


def effect(claim: dict[str, Any]) -> str:
    """First side minus second side with its interval: −0.021 [−0.030, −0.012] bits/dim."""
    low, high = claim["interval"]
    digits = words.digits([(high - low) / 2], [claim["effect"]])
    unit = f" {claim['unit']}" if claim["unit"] == "bits/dim" else ""
    return f"{signed(claim['effect'], digits)} [{signed(low, digits)}, {signed(high, digits)}]{unit}"


def signed(value: float, digits: int = 3) -> str:
    """With a true minus sign, and a plus where it is positive."""
    return f"{value:+.{digits}f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """Two digits; tiny ones as a bound."""
    if p is None:
        return "—"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


@cache
def evidence(suite: str) -> Evidence:
    """The results of a shipped suite."""
    return Evidence(json.loads((ROOT / "reports" / suite / "results.json").read_text(encoding="utf-8")))


def render() -> str:
    """The page as the results say it."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals.update(evidence=evidence, effect=effect, falling=falling)
    environment.filters.update(signed=signed, p=p_value)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render()


def main() -> int:
    """Write or compare."""
    text = render()
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    written = PAGE.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        written.splitlines(), text.splitlines(), str(PAGE.relative_to(ROOT)), "what the results say", lineterm=""
    )
    for line in difference:
        print(line)
    return int(written != text)


if __name__ == "__main__":
    sys.exit(main())
