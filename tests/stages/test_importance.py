"""A few sampled steps against all of them, through the stages, with networks whose errors are known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_bench.diffusion.estimators.importance import Importance
from ddpm_bench.networks.closed_form import ClosedForm
from ddpm_bench.registry import get
from ddpm_bench.spec import Reverse
from ddpm_bench.store import Artifact
from tests.laws import FINITE, normal
from tests.stages.closed_networks import NUM_DIMS, data_of, use
from tests.stages.slow_chain import full_chain
from tests.stages.workbench import Bench, reverse, table, training, with_head

T = 200
IMAGES = 128
CALLS = 20
LAW = normal(0.5, 0.7)
SAMPLED = Importance(calls_per_image=CALLS)
PARTS = ("_l_0", "_mean_cost", "_variance_cost", "_l_T")


def gaussian(bench: Bench, error: float = 0.003, seed: int = 0) -> tuple[Artifact, Artifact]:
    """The best network for normal data with the gain of its mean off by an error, and the data.

    A little of the mean of x_{t−1} is much of x̂_0, c_t being small: 0.003 adds 0.2 bits/dim, 0.05 tens of bits.
    """
    data = data_of(bench, LAW, train=400, test=IMAGES)
    return bench.model(data, training(timesteps=T, network=ClosedForm(relative_error=error), seed=seed)), data


def fixed(variance: str = "beta", **changes: Any) -> Reverse:
    return reverse(variance=get("variances", variance)(), thresholding="none", **changes)


def estimates(found: Artifact) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((found.path / "estimates.json").read_text())
    return read


def per_image(found: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """The bound of each image and its noise contrast."""
    return np.load(found.path / "per_image.npy").sum(1), np.load(found.path / "noise.npy")


def noise_error(contrast: np.ndarray) -> float:
    return math.sqrt(float(np.sum(contrast**2))) / len(contrast)


@pytest.mark.parametrize("error", [0.0, 0.003, 0.05])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde", "optimal"])
def test_it_agrees_with_all_steps(tmp_path: Path, variance: str, error: float) -> None:
    bench = Bench(tmp_path)
    z = []
    for seed in range(3):
        model, data = gaussian(bench, error, seed)
        full, few = (
            estimates(bench.likelihood(model, data, fixed(variance), estimator=estimator))
            for estimator in (None, SAMPLED)
        )
        for name in ("", "_mean_cost", "_network"):
            combined = math.hypot(full[name]["stderr_noise"], few[name]["stderr_noise"])
            z.append((few[name]["value"] - full[name]["value"]) / combined)
        # What does not depend on the network is the same number.
        assert few["_l_T"] == {**full["_l_T"], "protocol": few["_l_T"]["protocol"]}
        assert few["_variance_cost"]["value"] == pytest.approx(full["_variance_cost"]["value"], abs=1e-12)
        assert few["_variance_cost"]["stderr_noise"] == 0
    assert max(map(abs, z)) < 4
    assert math.sqrt(np.mean(np.square(z))) > 0.1  # the stated errors are no excuse


def test_its_items_add_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model, data = gaussian(bench)
    for used in (fixed(), fixed("optimal"), fixed(timesteps=(20, 80, 140, 200)), fixed(timesteps=(200,))):
        found = bench.likelihood(model, data, used, estimator=SAMPLED)
        record, terms = estimates(found), np.load(found.path / "per_image.npy")
        assert sum(record[name]["value"] for name in PARTS) == pytest.approx(record[""]["value"], abs=1e-9)
        for column, name in enumerate(PARTS):
            assert record[name]["value"] == pytest.approx(terms[:, column].mean(), abs=1e-12)
        assert record[""]["protocol"]["estimator"] == {"name": "importance", "calls_per_image": CALLS}


def test_the_table_has_the_steps_that_were_sampled(tmp_path: Path) -> None:
    """A row for t = 1 and each t that some image has; its numbers are means over the draws there."""
    bench = Bench(tmp_path)
    model, data = gaussian(bench)
    few = Importance(calls_per_image=6)
    (score,) = bench.score(model, data, estimator=few)
    rows = table(bench.likelihood(model, data, fixed(), estimator=few).path / "timesteps.csv")
    t, squared = (np.load(score.path / f"{name}.npy") for name in ("t", "squared_error_none"))
    assert [int(row["t"]) - 1 for row in rows] == [0, *np.unique(t)]
    assert 20 < len(rows) < T
    process = full_chain("cosine", T)
    for row in rows[1:]:
        here = t == row["t"] - 1
        error = squared[here].astype(float).mean() / NUM_DIMS
        i = int(row["t"]) - 1
        mean = process.posterior_x_0[i] ** 2 * error / (2 * process.beta[i]) / math.log(2)
        assert row["x0_mse"] == pytest.approx(error, rel=1e-12)
        assert row["kl_mean"] == pytest.approx(mean, rel=1e-9)
        assert row["kl"] == pytest.approx(row["kl_mean"] + row["kl_variance"], abs=1e-12)
        assert (row["stderr"] is None) == (here.sum() == 1)
        assert row["log_sigma2"] == pytest.approx(math.log(process.beta[i]), rel=1e-12)
        assert row["rate"] is None  # a sum over all later steps, which the table does not have
        assert row["distortion"] is None  # no levels


def test_calls_are_those_that_were_promised(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model, data = gaussian(bench)
    for calls in (6, CALLS):
        for kept in (None, (20, 80, 140, 200), (200,)):
            estimator = Importance(calls_per_image=calls)
            (score,) = bench.score(model, data, timesteps=kept, estimator=estimator)
            assert score.manifest["info"] == {"network_calls": calls * IMAGES}
            drawn = np.load(score.path / "squared_error_none.npy").shape[1]
            assert np.load(score.path / "x_0_first.npy").shape[1] + drawn == calls


def test_two_networks_share_their_draws_and_their_difference_is_known_better(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    models = [gaussian(bench, error)[0] for error in (0.003, 0.005)]
    data = gaussian(bench)[1]
    sampled = [bench.likelihood(model, data, fixed(), estimator=SAMPLED) for model in models]
    scores = [bench.score(model, data, estimator=SAMPLED)[0] for model in models]
    for name in ("t", "eps_norm", "probability", "control"):
        assert np.array_equal(*(np.load(score.path / f"{name}.npy") for score in scores))
    (first, first_noise), (second, second_noise) = map(per_image, sampled)
    difference, error = (second - first).mean(), noise_error(second_noise - first_noise)
    assert error < 0.5 * math.hypot(noise_error(first_noise), noise_error(second_noise))
    full = [per_image(bench.likelihood(model, data, fixed())) for model in models]
    (one, one_noise), (two, two_noise) = full
    wanted, wanted_error = (two - one).mean(), noise_error(two_noise - one_noise)
    assert abs(difference - wanted) < 4 * math.hypot(error, wanted_error)
    assert difference > 4 * error  # and it is seen: the second network is the worse one


def test_two_variances_of_one_network(tmp_path: Path) -> None:
    """The contrast of a difference is the difference of the contrasts: linear in the terms, the same draws."""
    bench = Bench(tmp_path)
    model, data = gaussian(bench)
    pairs = {
        name: [per_image(bench.likelihood(model, data, fixed(v), estimator=e)) for v in ("beta", "beta_tilde")]
        for name, e in (("full", None), ("few", SAMPLED))
    }
    differences = {name: (two[0] - one[0]).mean() for name, (one, two) in pairs.items()}
    errors = {name: noise_error(two[1] - one[1]) for name, (one, two) in pairs.items()}
    alone = {name: noise_error(one[1]) for name, (one, two) in pairs.items()}
    assert abs(differences["few"] - differences["full"]) < 4 * math.hypot(errors["few"], errors["full"])
    assert errors["few"] < alone["few"]


def test_another_seed_has_other_draws(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    models = [gaussian(bench, seed=seed) for seed in (0, 1)]
    first, second = (bench.score(model, data, estimator=SAMPLED)[0] for model, data in models)
    t = [np.load(score.path / "t.npy") for score in (first, second)]
    assert np.mean(t[0] == t[1]) < 0.2
    assert np.array_equal(*(np.load(score.path / "probability.npy") for score in (first, second)))


@pytest.mark.parametrize("kept", [None, tuple(range(1, T + 1, 3))])
def test_a_head_is_sampled_like_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: tuple[int, ...] | None
) -> None:
    """σ² of each value follows x_t, so the variance cost is sampled too; with it the whole agrees with all steps."""
    use(monkeypatch, FINITE, error=0.05)
    bench = Bench(tmp_path)
    used = reverse(variance=get("variances", "learned_range")(), timesteps=kept)
    z = []
    for seed in range(3):
        data = data_of(bench, FINITE, test=IMAGES)
        model = bench.model(data, with_head(timesteps=T, seed=seed))
        full, few = (bench.likelihood(model, data, used, estimator=estimator) for estimator in (None, SAMPLED))
        all_steps, sampled = estimates(full), estimates(few)
        for name in ("", "_variance_cost", "_mean_cost"):
            combined = math.hypot(all_steps[name]["stderr_noise"], sampled[name]["stderr_noise"])
            z.append((sampled[name]["value"] - all_steps[name]["value"]) / combined)
        assert sampled["_variance_cost"]["stderr_noise"] > 0
        assert sum(sampled[name]["value"] for name in PARTS) == pytest.approx(sampled[""]["value"], abs=1e-9)
    assert max(map(abs, z)) < 4
    every = {row["t"]: row for row in table(full.path / "timesteps.csv")}
    rows = table(few.path / "timesteps.csv")
    assert rows[0]["head"] == pytest.approx(every[1.0]["head"], abs=0.05)  # at t = 1 there are several draws as well
    for row in rows:
        assert row["head"] is not None
        assert row["log_sigma2"] is not None
        assert row["distortion"] == pytest.approx(127.5 * math.sqrt(row["x0_mse"]), rel=1e-9)  # levels; clipped
        assert row["rate"] is None


def test_a_short_chain_is_sampled_several_times(tmp_path: Path) -> None:
    """Fewer steps than calls: every later step is drawn more than once, and the answer is that of all steps."""
    bench = Bench(tmp_path)
    model, data = gaussian(bench)
    kept = (1, 67, 134, 200)
    full, few = (estimates(bench.likelihood(model, data, fixed(timesteps=kept), estimator=e)) for e in (None, SAMPLED))
    for name in ("", "_mean_cost"):
        combined = math.hypot(full[name]["stderr_noise"], few[name]["stderr_noise"])
        assert abs(full[name]["value"] - few[name]["value"]) < 4 * combined


def test_chunks_are_one_sample(tmp_path: Path) -> None:
    """The corrections are fitted over all images: the bound of an image depends on the others, its draws do not."""
    bench = Bench(tmp_path)
    data = data_of(bench, LAW, train=400, test=IMAGES + 12)
    model = bench.model(data, training(timesteps=T, network=ClosedForm(relative_error=0.003)))
    scores = bench.score(model, data, estimator=SAMPLED)
    assert [len(np.load(score.path / "t.npy")) for score in scores] == [IMAGES, 12]
    full, few = (estimates(bench.likelihood(model, data, fixed(), estimator=e))[""] for e in (None, SAMPLED))
    assert few["num_samples"] == full["num_samples"] == IMAGES + 12
    assert abs(full["value"] - few["value"]) < 4 * math.hypot(full["stderr_noise"], few["stderr_noise"])


def test_splits_have_steps_of_their_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    model, data = gaussian(bench)
    t = [
        np.load(bench.score(model, data, split=split, estimator=SAMPLED)[0].path / "t.npy")[:100]
        for split in ("test", "validation")
    ]
    assert np.mean(t[0] == t[1]) < 0.2
