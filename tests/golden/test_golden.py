"""Keys and numbers are what they were. Where one moves on purpose: raise the VERSION, `make golden`, CHANGELOG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden import write

HOW = "moved; if on purpose, raise the VERSION it belongs to and run `make golden`"


def stored(name: str) -> dict[str, Any]:
    return json.loads((write.FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write.keys(tmp_path_factory.mktemp("keys"))


def test_keys(keys: dict[str, str]) -> None:
    golden = stored("keys.json")
    moved = {name: (golden.get(name), keys.get(name)) for name in golden | keys if golden.get(name) != keys.get(name)}
    assert not moved, HOW


def test_keys_say_what_is_shared(keys: dict[str, str]) -> None:
    """The golden keys hold what the identity is for: not only that they stand still."""
    cell = "{}-{}-linear-simple-s0: {}".format
    for stage in ("train", "score, chunk 0"):
        assert keys[cell("epsilon", "beta", stage)] == keys[cell("epsilon", "beta_tilde", stage)]
    assert keys[cell("epsilon", "beta", "likelihood")] != keys[cell("epsilon", "beta_tilde", "likelihood")]
    # Predicting ε, L_simple is its own SNR-weighted form; every other variant is a training of its own.
    trainings = {name: key for name, key in keys.items() if name.startswith("training with")}
    assert trainings.pop("training with L_simple with SNR weighting") == keys[cell("epsilon", "beta", "train")]
    assert len({*trainings.values(), keys[cell("epsilon", "beta", "train")]}) == len(trainings) + 1


def test_tables() -> None:
    # The worst is the cosine's β_1 = 4e-5, a difference of two numbers near 1 that are each right to two units in
    # the last place: 2 · 2 · 1.1e-16 / 4e-5 = 1.1e-11. Sums of up to 1000 logarithms (|ln ᾱ_T| < 20) are right to
    # 1000 · 1.1e-16 · 20 = 2.2e-12. The tolerance is nine times the worst.
    golden, found = write.flatten(stored("numbers.json")["tables"]), write.flatten(write.tables())
    assert golden.keys() == found.keys()
    assert found == pytest.approx(golden, rel=1e-10, abs=1e-300), HOW


def test_draws() -> None:
    golden, found = stored("numbers.json")["draws"], write.draws()
    assert (found["derive_seed"], found["uniform"]) == (golden["derive_seed"], golden["uniform"]), HOW
    # log and cos in float64 may differ in their last bit between libraries, which moves a float32 by at most one unit.
    assert found["normal"] == pytest.approx(golden["normal"], rel=2**-23), HOW


def test_pipeline(tmp_path: Path) -> None:
    # x_t and x̂_0 are float32 of size up to 4, so x_0 − x̂_0 is off by at most about 4 · 4 · 2⁻²⁴ = 1e-6, where its root
    # mean square is 0.07 at t = 1 and larger later: its square is off by 3e-5, which is 1.2e-4 bits/dim of a mean cost
    # of 4 if every rounding had one sign. They have random signs, and 256 · 16 · 25 of them are averaged, so 1e-4 is
    # wide; another draw would move the total by its standard error, 3e-2.
    golden, found = stored("numbers.json")["pipeline"], write.pipeline(tmp_path)
    assert golden.keys() == found.keys()
    for variance, estimates in golden.items():
        assert found[variance] == pytest.approx(estimates, rel=0, abs=1e-4), HOW


def test_the_terms_add_up() -> None:
    for estimates in stored("numbers.json")["pipeline"].values():
        terms = [estimates[f"bits_per_dim_{name}"] for name in ("l_0", "mean_cost", "variance_cost", "l_T")]
        # Five float64 of size 4: 5 · 4 · 1.1e-16.
        assert sum(terms) == pytest.approx(estimates["bits_per_dim"], abs=1e-12)


def test_rewriting_prints_old_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("suite.toml", "gaussian.toml", "keys.json", "numbers.json"):
        (tmp_path / name).write_bytes((write.FOLDER / name).read_bytes())
    changed = stored("keys.json") | {"data": "0" * 64}
    (tmp_path / "keys.json").write_text(json.dumps(changed), encoding="utf-8")
    monkeypatch.setattr(write, "FOLDER", tmp_path)
    monkeypatch.setattr(write, "numbers", lambda runs: json.loads((tmp_path / "numbers.json").read_text()))
    data = json.loads(Path(__file__).with_name("keys.json").read_text(encoding="utf-8"))["data"]
    write.main()
    assert capsys.readouterr().out == (
        f"keys.json: 1 of {len(changed)} moved\n  data: {'0' * 64} → {data}\n"
        f"numbers.json: 0 of {len(write.flatten(json.loads((tmp_path / 'numbers.json').read_text())))} moved\n"
    )
    assert (tmp_path / "keys.json").read_bytes() == Path(__file__).with_name("keys.json").read_bytes()
