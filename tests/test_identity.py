"""Canonical identities: equal for what is equal, different for what differs, stable over time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_bench import registry
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.losses.vlb import Vlb
from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.weightings.snr import Snr
from ddpm_bench.identity import canonical, content_key, dumps

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def reordered(value: Any, random: Any) -> Any:
    """The same value with every dictionary in another order and lists as tuples."""
    if isinstance(value, dict):
        items = [(key, reordered(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    return tuple(reordered(item, random) for item in value) if isinstance(value, list) else value


@given(trees, st.randoms())
def test_the_order_of_keys_does_not_matter(value, random):
    assert dumps(value) == dumps(reordered(value, random))


@given(trees)
def test_a_manifest_gives_the_key_again(value):
    """JSON text and back: what is recomputed from a manifest is what the plan computed."""
    assert dumps(json.loads(dumps(value))) == dumps(value)


@given(trees, trees)
def test_different_values_have_different_texts(one, other):
    # Python's == says that 1, 1.0 and True are equal; the canonical form tells them apart.
    if repr(canonical(one)) != repr(canonical(other)) and one != other:
        assert dumps(one) != dumps(other)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"a": [float("-inf")]}, object(), {1, 2}, b"x", Path("x"), 1j]
)
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(TypeError, match="has no canonical form"):
        canonical(value)


@dataclass(frozen=True, kw_only=True)
class Old:
    """A specification."""

    eta: float = 1.0
    limit: float | None = None
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class New(Old):
    """The same with a field added later."""

    extra: str = field(default="as before", metadata={"omit_at": "as before"})


def test_whole_numbers_are_numbers_where_the_annotation_says_so():
    assert dumps(Old(eta=1, limit=2)) == dumps(Old(eta=1.0, limit=2.0)) == '{"count":1,"eta":1.0,"limit":2.0}'
    assert dumps(Old(count=2)) == '{"count":2,"eta":1.0,"limit":null}'


def test_annotations_need_not_be_strings():
    annotations = {"eta": float, "limit": float | None, "count": int}
    bare = dataclass(frozen=True)(type("Bare", (), {"__annotations__": annotations, "eta": 1, "limit": 2, "count": 3}))
    assert dumps(bare()) == '{"count":3,"eta":1.0,"limit":2.0}'


def test_a_field_added_later_keeps_old_keys():
    assert dumps(New()) == dumps(Old())
    assert dumps(New(extra="else")) == '{"count":1,"eta":1.0,"extra":"else","limit":null}'


def test_entries_are_named_and_versioned():
    assert canonical(Simple(weighting=Snr())) == {
        "name": "simple",
        "version": 1,
        "weighting": {"name": "snr", "version": 1},
    }
    assert canonical([Cosine(s=1), {"loss": Vlb()}]) == [
        {"name": "cosine", "version": 1, "s": 1.0, "max_beta": 0.999},
        {"loss": {"name": "vlb", "version": 1, "variance": None, "first_step": None}},
    ]


def test_the_key_is_pinned():
    """Moves only together with IDENTITY_VERSION: every artifact on every disk is found by it."""
    text = '{"identity":1,"inputs":{"data":"d"},"spec":{"a":[1,2.5,null,true],"ü":"é"},"stage":"train","version":3}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert content_key("train", 3, {"ü": "é", "a": (1, 2.5, None, True)}, {"data": "d"}) == expected
    assert expected == "3d4180e459162fb74005fe46a9a7df992785db80b309d3736eb4f0547c0b5d53"


def test_every_part_of_the_key_counts():
    base = ("train", 1, {"a": 1}, {"data": "d"})
    others = [
        ("score", *base[1:]),
        ("train", 2, *base[2:]),
        ("train", 1, {"a": 2}, base[3]),
        (*base[:3], {"data": "e"}),
    ]
    assert len({content_key(*arguments) for arguments in [base, *others]}) == 5  # type: ignore[arg-type]


PLUGIN = '''
from dataclasses import dataclass
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.registry import register

@register
@dataclass(frozen=True, kw_only=True)
class Mine(Schedule):
    """A schedule."""

    value: float = 0.1{change}
'''


@pytest.mark.parametrize(
    ("name", "change", "same"),
    [
        ("comment", "  # a comment\n\n", True),
        ("field", "\n    other: float = 0.2", False),
        ("constant", "\n\nCONSTANT = 3", False),
    ],
)
def test_the_code_of_a_plugin_is_part_of_its_identity(tmp_path, name, change, same):
    digests = []
    for stem, text in (
        (f"identity_test_{name}_before", PLUGIN.format(change="")),
        (f"identity_test_{name}_after", PLUGIN.format(change=change)),
    ):
        path = tmp_path / f"{stem}.py"
        path.write_text(text, encoding="utf-8")
        registry.load_plugin_file(path)
        digests.append(canonical(registry.get("schedule", stem)())["source"])
        del registry._registered["schedules", stem]  # other tests walk over what is registered
    assert all(len(digest) == 64 for digest in digests)
    assert (digests[0] == digests[1]) is same
