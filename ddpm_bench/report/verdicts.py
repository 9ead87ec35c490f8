"""The verdicts of the claims in words: what was found, with how much evidence, and what would settle it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ddpm_bench.report import words
from ddpm_bench.statistics import MOST_SEEDS

Claim = dict[str, Any]

ORDER = ("supported", "contradicted", "inconclusive", "untestable")
MOST_CONTEXTS = 3
"""Contexts of the other sign that are named."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim. found: what was measured, in the direction of better (metric, size, interval); evidence: (what, how
    much); remarks: sentences on contexts of the other sign, on what is left out, on what would settle it."""

    number: int
    verdict: str
    statement: str
    source: str
    found: tuple[str, str, str] | None
    evidence: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


def verdicts(claims: Sequence[Claim]) -> list[Verdict]:
    """The claims in the order of the suite."""
    return [
        Verdict(
            number=index + 1,
            verdict=claim["verdict"],
            statement=claim["statement"],
            source=claim["source"] or "",
            found=found(claim),
            evidence=tuple(_evidence(claim)),
            remarks=tuple(_remarks(claim)),
        )
        for index, claim in enumerate(claims)
    ]


def counts(claims: Sequence[Claim]) -> list[tuple[str, int]]:
    """(verdict, how many) of those that occur."""
    given = [claim["verdict"] for claim in claims]
    return [(verdict, given.count(verdict)) for verdict in ORDER if verdict in given]


def advantage(claim: Claim, value: float) -> float:
    """A difference (first side − second side) so turned that a positive one says the first side is better."""
    return value if claim["higher_is_better"] else -value


def interval(claim: Claim) -> tuple[float, float] | None:
    """The 95 % interval of the advantage, None with fewer than two seeds."""
    if claim["interval"] is None:
        return None
    low, high = sorted(advantage(claim, end) for end in claim["interval"])
    return low, high


def quantity(claim: Claim) -> str:
    """The metric with its unit, where its name does not say it."""
    title, unit = words.metric(claim["metric"]), claim["unit"] or ""
    return title if not unit or unit in title else f"{title} [{unit}]"


def decimals(claim: Claim) -> int:
    """Of the numbers of a claim: two digits of the interval's half width, one more where the effect would vanish."""
    ends, value = claim["interval"], abs(claim["effect"])
    chosen = words.digits([(ends[1] - ends[0]) / 2] if ends else [], [value])
    return chosen + (0 < value < 0.5 * 10**-chosen)


def found(claim: Claim) -> tuple[str, str, str] | None:
    """("bits/dim", "better by 0.12", "(95 % interval 0.05 to 0.19)"): of the first side."""
    if claim["effect"] is None:
        return None
    value, ends, places = advantage(claim, claim["effect"]), interval(claim), decimals(claim)
    size = f"{'better' if value >= 0 else 'worse'} by {words.number(abs(value), places)}"
    if claim["kind"] == "equivalent":
        size += f" for {_first_side(claim)}"
    if value < 0 and ends:
        ends = -ends[1], -ends[0]
    tail = [f"95 % interval {words.number(ends[0], places)} to {words.number(ends[1], places)}"] if ends else []
    tail += [f"margin ±{claim['margin']:g}"] if claim["margin"] else []
    return quantity(claim), size, f"({'; '.join(tail)})" if tail else ""


def _first_side(claim: Claim) -> str:
    """What an equivalence names first: ε, σ²=β."""
    selector = claim["equivalent"][0]["selector"]
    if all(isinstance(value, str) for value in selector.values()):
        return ", ".join(words.phrase(axis, value) for axis, value in selector.items())
    return "the first side"


def _evidence(claim: Claim) -> list[tuple[str, str]]:
    rows = [("", words.count(claim["num_seeds"], "seed"))] if claim["num_seeds"] else []
    if claim["contexts"] > 1:
        rows.append(("", words.count(claim["contexts"], "context")))
    if claim["p_holm"] is not None:
        size = claim["family_size"]
        family = f" ({words.count(size, 'claim')} {claim['family']})" if size > 1 else f" (alone {claim['family']})"
        rows.append(("Holm p", p_value(claim["p_holm"]) + family))
    elif claim["p"] is not None:
        rows.append(("p", p_value(claim["p"])))
    if claim["p_sign_flip"] is not None:
        rows.append(("sign-flip p", p_value(claim["p_sign_flip"])))
    if claim["num_seeds"] == 1 and claim["differences"] and (ends := claim["differences"][0]["image_interval"]):
        low, high = sorted(advantage(claim, end) for end in ends)
        text = f"{words.number(low, 4)} to {words.number(high, 4)}"
        rows.append(("advantage over other images of this one training", text))
    return rows


def p_value(value: float) -> str:
    """Two digits; very small ones as a bound."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _remarks(claim: Claim) -> list[str]:
    remarks = []
    turned = [item for item in claim["context_effects"] if item["sign_differs"]]
    if turned:
        named = [f"{_context(item['context'])} ({_signed(claim, item['effect'])})" for item in turned[:MOST_CONTEXTS]]
        more = f" and {len(turned) - MOST_CONTEXTS} more" if len(turned) > MOST_CONTEXTS else ""
        remarks.append(
            f"The sign differs in {len(turned)} of {words.count(claim['contexts'], 'context')}: "
            f"{'; '.join(named)}{more}."
        )
    if claim.get("unmatched"):
        one = claim["unmatched"] == 1
        contexts = words.count(claim["unmatched"], "context")
        remarks.append(f"{contexts} that one side or a seed lacks {'is' if one else 'are'} left out.")
    if claim["reason"]:
        text = claim["reason"].replace(claim["metric"], words.metric(claim["metric"]))
        remarks.append(f"{text[0].upper()}{text[1:].removesuffix('.')}.")
    elif claim["verdict"] == "inconclusive":
        needed = claim["seeds_needed"]
        remarks.append(
            f"With this effect and this spread, {needed:,} seeds would settle it with 80 % probability."
            if needed
            else f"With this effect and this spread, not even {MOST_SEEDS:,} seeds would settle it."
        )
    return remarks


def _context(context: dict[str, str]) -> str:
    return ", ".join(words.phrase(axis, label) for axis, label in context.items())


def _signed(claim: Claim, effect: float) -> str:
    value = advantage(claim, effect)
    return ("better by " if value > 0 else "worse by ") + words.number(abs(value), decimals(claim))
