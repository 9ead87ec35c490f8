"""What a user did wrong, said once and clearly."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """The user's input is wrong: every problem found, one clear message each; the CLI ends with code 2.

    A message says what is wrong, where, and what to do. No traceback is shown for it.
    """

    def __init__(self, problems: str | Sequence[str]):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class FieldError(ValueError):
    """A value that its own type cannot rule out; raised in `__post_init__` with the name of the field."""

    def __init__(self, field: str, text: str):
        self.field, self.text = field, text
        super().__init__(f"{field}: {text}")


def require(condition: bool, field: str, text: str) -> None:
    """Raise FieldError(field, text) unless the condition holds."""
    if not condition:
        raise FieldError(field, text)


def suggestion(word: str, known: Sequence[str]) -> str:
    """The tail of an error about an unknown word: the nearest known one, or all of them."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(sorted(known))}" if known else ""


def count(number: int, noun: str) -> str:
    """1 seed, 2 seeds, 30,000 seeds."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
