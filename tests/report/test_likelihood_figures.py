"""Figures and sentences about the bound: their numbers are those of the results, and what is absent stays absent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ddpm_bench.report import illegal, orderings, timesteps
from ddpm_bench.report.figures import (
    Drawing,
    curves,
    decomposition,
    log_snr_kl,
    rate_distortion,
    sampling_steps,
    share,
    timestep_kl,
    training_steps,
    variance_range,
)
from ddpm_bench.report.source import ResultsView
from ddpm_bench.report.trainings import trainings
from ddpm_bench.report.variants import Variant, variants
from tests.make_results import Writer
from tests.report.conftest import Example


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> ResultsView:
    """56 legal variants and 40 illegal ones, of one seed each."""
    folder = tmp_path_factory.mktemp("many")
    Writer(folder, 96, 1, matrix="variants").write()
    return ResultsView(folder, "digits_variants")


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> ResultsView:
    """Three variances × five numbers of reverse steps, two seeds."""
    folder = tmp_path_factory.mktemp("chains")
    Writer(folder, 30, 2, matrix="steps").write()
    return ResultsView(folder, "digits_steps")


def legal(view: ResultsView) -> list[Variant]:
    return [group for group in variants(view) if not illegal.is_illegal(group)]


def drawn(module, view: ResultsView, groups: list[Variant] | None = None) -> Drawing:
    found = module.draw(view, groups or legal(view))
    assert found is not None
    assert len(found.alternative) > 30
    assert found.caption.endswith(".")
    return found


def rows_of(view: ResultsView, group: Variant) -> list[pd.DataFrame]:
    """The rows of timestep_kl.csv of each of its cells."""
    table = pd.read_csv(view.folder / "timestep_kl.csv")
    return [table[table["cell_id"] == cell["id"]].set_index("t") for cell in group.cells]


def value(view: ResultsView, group: Variant, name: str) -> float:
    values = [cell["metrics"][name]["value"] for cell in group.cells]
    return math.fsum(values) / len(values)


# A handful of variants where drawing all 56 would add nothing but time.


def some(view: ResultsView) -> list[Variant]:
    return [group for group in legal(view) if group.axes.get("prediction", "epsilon") in ("epsilon", "v")][::3]


def test_itemised_numbers_are_those_of_the_results(chains: ResultsView):
    drawing = drawn(decomposition, chains)
    table = drawing.data.set_index("variant")
    parts = ["bits_per_dim_l_0", "bits_per_dim_mean_cost", "bits_per_dim_variance_cost", "bits_per_dim_l_T"]
    for group in legal(chains):
        row = table.loc[group.label]
        for name in [*parts, "bits_per_dim", "bits_per_dim_network", *(f"{part}_train" for part in parts)]:
            assert row[name] == value(chains, group, name)
        # sums of four means of two: at most ten roundings of numbers below 50
        assert math.fsum(row[parts]) == pytest.approx(row["bits_per_dim"], abs=1e-13)
        for name in ("stderr", "stderr_noise"):
            errors = [cell["metrics"]["bits_per_dim"][name] for cell in group.cells]
            assert row[name] == pytest.approx(math.sqrt(sum(error**2 for error in errors) / 2), rel=1e-14)
    assert list(drawing.headings) == [
        *parts, "bits_per_dim", "bits_per_dim_network", "bits_per_dim_train", "stderr", "stderr_noise",
    ]  # fmt: skip
    assert "root mean square over the seeds" in drawing.note
    share_of_network = table["bits_per_dim_network"] / table["bits_per_dim"]
    least, most = (f"{100 * bound:.0f}" for bound in (share_of_network.min(), share_of_network.max()))
    assert f"network's part, {least} to {most} % of the whole" in drawing.caption


def test_results_without_network_part_and_errors_of_noise_say_nothing_of_them(tmp_path: Path):
    folder = Writer(tmp_path, 4, 2).write()
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for cell in data["cells"]:
        cell["metrics"] = {
            name: record | {"stderr_noise": None}
            for name, record in cell["metrics"].items()
            if "network" not in name and "train" not in name
        }
    (folder / "results.json").write_text(json.dumps(data), encoding="utf-8")
    view = ResultsView(tmp_path, "digits_ablation")
    drawing = drawn(decomposition, view)
    assert not {"bits_per_dim_network", "bits_per_dim_train", "stderr_noise"} & set(drawing.headings)
    assert "network" not in drawing.caption + drawing.note
    assert "noise" not in drawing.note


def test_the_density_over_log_snr_integrates_to_the_terms(many: ResultsView):
    groups = some(many)
    drawing = drawn(log_snr_kl, many, groups)
    for group in groups:
        (rows,) = rows_of(many, group)
        density = drawing.data.set_index("log_snr")[f"kl_density of {group.label}"].dropna()
        # The intervals around the grid's points reach at most half of one beyond the chain's ends, or fall short of
        # them by as much: a quarter of a unit of the densest part.
        assert 0.5 * density.sum() == pytest.approx(rows["kl"].iloc[1:].sum(), abs=0.26 * density.max())
        # at a point within one wide step: that step's term over its width
        width = rows["log_snr"].iloc[0] - rows["log_snr"].iloc[1]
        assert width > 1
        inside = [x for x in density.index if rows["log_snr"].iloc[1] + 0.25 <= x <= rows["log_snr"].iloc[0] - 0.25]
        for point in inside:
            assert density[point] == pytest.approx(rows["kl"].iloc[1] / width, rel=1e-12)
    schedules = {str(group.axes["schedule"]) for group in groups}
    assert schedules == {"linear", "cosine"}  # which share the grid: neither has a column of its own points
    assert (np.diff(drawing.data["log_snr"]) == 0.5).all()


def test_shares_end_at_all_but_the_prior(many: ResultsView):
    groups = some(many)
    drawing = drawn(share, many, groups)
    table = drawing.data.set_index("t")
    for group in groups:
        (rows,) = rows_of(many, group)
        total, prior = value(many, group, "bits_per_dim"), value(many, group, "bits_per_dim_l_T")
        first, last = table[group.label].iloc[0], table[group.label].iloc[-1]
        # sums of 100 terms, in another order
        assert first == pytest.approx(100 * rows["kl"].iloc[0] / total, rel=1e-12)
        assert last == pytest.approx(100 * (1 - prior / total), rel=1e-12)


def test_rate_and_distortion_are_the_columns(many: ResultsView):
    groups = some(many)
    drawing = drawn(rate_distortion, many, groups)
    table = drawing.data.set_index("t")
    for group in groups:
        (rows,) = rows_of(many, group)
        for name in ("rate", "distortion"):
            assert table[f"{name} of {group.label}"].tolist() == rows[name].tolist()
        # the rate at t = 1 and L_0 are bits/dim
        total = rows["rate"].iloc[0] + rows["kl"].iloc[0]
        assert total == pytest.approx(value(many, group, "bits_per_dim"), rel=1e-12)


def test_data_without_levels_have_no_distortion(tmp_path: Path):
    folder = Writer(tmp_path, 4, 2).write()
    table = pd.read_csv(folder / "timestep_kl.csv").assign(rate="", distortion="")
    table.to_csv(folder / "timestep_kl.csv", index=False)
    view = ResultsView(tmp_path, "digits_ablation")
    assert rate_distortion.draw(view, legal(view)) is None


def test_a_chain_of_one_step_and_a_negative_density(tmp_path: Path):
    """A single row has no width in log SNR; L_0 of a density decoder may be negative, which leaves no shares."""
    Writer(tmp_path, 4, 2).write()
    view = ResultsView(tmp_path, "digits_ablation")
    groups = legal(view)
    whole = view.timestep_kl
    view.__dict__["timestep_kl"] = whole[whole["t"] == 1]
    for cell in view.cells:
        cell["axes"]["timesteps"] = "1"
    assert log_snr_kl.draw(view, groups) is None
    assert variance_range.draw(view, groups) is None
    assert len(drawn(share, view, groups).data) == 1
    view = ResultsView(tmp_path, "digits_ablation")
    view.__dict__["timestep_kl"] = whole.assign(kl=whole["kl"].where(whole["t"] > 1, -1.5))
    assert share.draw(view, groups) is None
    assert len(drawn(timestep_kl, view, groups).data) == 100


def test_positions_of_the_variance_are_those_of_head_and_fit(many: ResultsView):
    drawing = drawn(variance_range, many)
    shown = [group for group in legal(many) if group.label in drawing.data]
    assert {group.axes["variance"] for group in shown} == {"learned_range", "optimal"}
    assert len(shown) == 24
    for group in shown:
        (rows,) = rows_of(many, group)
        position = drawing.data.set_index("t")[group.label]
        assert position.index.tolist() == list(range(2, 101))
        if group.axes["variance"] == "learned_range":
            # ln β − ln β̃ shrinks to 1e-4 where ln σ² is of the size 5: 5 · 4e-16 / 1e-4 and what λ loses
            np.testing.assert_allclose(position, (rows["head"].iloc[1:] + 1) / 2, atol=1e-8)
        else:
            assert rows["head"].isna().all()
            alpha_bar = 1 / (1 + np.exp(-rows["log_snr"].to_numpy()))
            beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
            beta_tilde = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta
            expected = (rows["log_sigma2"].iloc[1:] - np.log(beta_tilde)) / np.log(beta / beta_tilde)
            np.testing.assert_allclose(position, expected, atol=1e-6)  # the oracle's 1 − ᾱ loses more


def test_sections_of_axes_that_do_not_vary_are_absent(example: Example, many: ResultsView):
    view = ResultsView(example.runs, example.suite)
    assert variance_range.draw(view, legal(view)) is None  # β and β̃ alone
    assert sampling_steps.draw(view, legal(view)) is None
    assert sampling_steps.draw(many, legal(many)) is None
    assert 'id="sampling_steps"' not in example.html
    assert 'id="variance_range"' not in example.html
    table = view.timestep_kl
    view.__dict__["timestep_kl"] = table[:0]
    for module in (timestep_kl, log_snr_kl, share, rate_distortion, variance_range):
        assert module.draw(view, legal(view)) is None
    assert orderings.sentences(view) == []


def test_metrics_over_the_number_of_steps(chains: ResultsView):
    drawing = drawn(sampling_steps, chains)
    assert drawing.data["metric"].unique().tolist() == [
        "bits_per_dim", "kd_efficientnet_lite0", "fd_efficientnet_lite0",
    ]  # fmt: skip
    assert sorted(drawing.data["steps"].unique()) == [5, 10, 20, 50, 100]
    assert len(drawing.data) == 3 * 3 * 5
    for group in legal(chains):
        steps = 100 if group.axes["sampling_steps"] == "all" else int(group.axes["sampling_steps"])
        rows = drawing.data[drawing.data["steps"] == steps]
        rows = rows[rows["variant"] == group.label.split(",")[0]].set_index("metric")
        for name, found in rows["value"].items():
            assert found == value(chains, group, str(name))
    assert "95 % t interval over seeds" in drawing.caption


def test_metrics_over_the_number_of_training_steps(chains: ResultsView):
    """The same numbers, said to come from trainings of that length: a figure of their own."""
    of_chains = drawn(sampling_steps, chains)
    chains.data["axes"] = ["training.steps" if name == "sampling_steps" else name for name in chains.data["axes"]]
    for cell in chains.cells:
        steps = cell["axes"]["sampling_steps"]
        cell["axes"] |= {"training.steps": "100" if steps == "all" else steps, "sampling_steps": "all"}
    assert sampling_steps.draw(chains, legal(chains)) is None
    drawing = drawn(training_steps, chains)
    assert drawing.name == "training_steps"
    assert "training steps" in drawing.title
    columns = ["metric", "steps", "value"]
    assert drawing.data[columns].equals(of_chains.data[columns])


def test_illegal_combinations_are_listed_by_reason(many: ResultsView, example: Example):
    groups = illegal.by_reason(many, variants(many))
    held = [cell for cell in many.cells if cell["status"] == "illegal"]
    assert {group.reason: group.cells for group in groups} == {
        reason: sum(cell["reason"] == reason for cell in held) for reason in {cell["reason"] for cell in held}
    }
    assert sum(group.cells for group in groups) == len(held) == 40
    which = {group.reason.split(":")[0]: group.which for group in groups}
    assert which["L_vlb with σ²=optimal"] == "σ²=optimal, L_vlb, any prediction and schedule"
    assert all(len(group.labels) == 8 for group in groups)
    page = example.html
    assert "2 cells of 18 were not run" in page
    assert page.count("does not train the variance head") == 1 + 2 + 1  # the list, two rows of the cells, a grid's note


def test_illegal_combinations_that_are_no_product_are_named(many: ResultsView):
    for cell in many.cells:
        if cell["status"] == "illegal":
            cell["reason"] = "one reason for all"
    (group,) = illegal.by_reason(many, variants(many))
    assert (group.which, len(group.labels), group.cells) == ("", 40, 40)
    assert "ε, σ²=β, linear, L_hybrid" in group.labels


def excess(view: ResultsView) -> float:
    """The largest excess of a fitted σ² over β and β̃ on the validation split, from the files alone."""
    table = pd.read_csv(view.folder / "timestep_kl_validation.csv").set_index(["cell_id", "t"])["kl"]
    found = []
    for cell in view.cells:
        if cell["status"] == "done" and cell["axes"]["variance"] == "optimal":
            for fixed in ("beta", "beta_tilde"):
                other = cell["id"].replace("optimal", fixed)
                found.append(max(table[cell["id"]].iloc[1:] - table[other].iloc[1:]))
    return max(found)


def test_sentences_of_theory_bear_their_numbers(many: ResultsView):
    fitted, cost = orderings.sentences(many)
    printed = f"{excess(many):.1e}".replace("-", "−")
    assert excess(many) <= 0
    assert "(validation), σ²=optimal has the smallest term at every t ≥ 2: in 16 pairs" in fitted
    assert f"largest excess is {printed} bits/dim." in fitted
    assert cost.startswith("The variance cost is equal for equal schedules and fixed σ²: largest difference 0 bits/dim")
    assert "over 32 cells" in cost


def test_an_ordering_that_does_not_hold_is_said_to_fail(tmp_path: Path):
    folder = Writer(tmp_path, 30, 2, matrix="steps").write()
    table = pd.read_csv(folder / "timestep_kl_validation.csv")
    spoiled = table["cell_id"].str.contains("optimal-linear-simple-sampling_steps_5-s0") & (table["t"] == 100)
    table.loc[spoiled, "kl"] += 0.25
    table.to_csv(folder / "timestep_kl_validation.csv", index=False)
    fitted, *_ = orderings.sentences(ResultsView(tmp_path, "digits_steps"))
    # ten pairs of chains × two variances, 4 + 9 + 19 + 49 + 99 later terms, two seeds, two fixed variances
    assert (
        "should have the smallest term at every t ≥ 2 but exceeds a fixed σ² of the same training in 2 of 720" in fitted
    )
    assert "(20 pairs), by up to 2.5e−01 bits/dim" in fitted


def test_chains_of_other_spacing_are_other_chains(tmp_path: Path):
    """Variances of a shorter chain depend on which t it keeps: their costs are not compared."""
    folder = Writer(tmp_path, 30, 2, matrix="steps").write()
    data = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for cell in data["cells"]:
        cell["axes"]["reverse.spacing"] = ("linspace", "trailing")[cell["seed"]]
    (folder / "results.json").write_text(json.dumps(data), encoding="utf-8")
    sentences = orderings.sentences(ResultsView(tmp_path, "digits_steps"))
    assert not any("variance cost" in sentence for sentence in sentences)


def test_a_fit_on_other_images_promises_nothing(tmp_path: Path):
    folder = Writer(tmp_path, 30, 2, matrix="steps").write()
    text = (folder / "results.json").read_text(encoding="utf-8")
    (folder / "results.json").write_text(text.replace('"num_images": 144', '"num_images": 100'), "utf-8")
    view = ResultsView(tmp_path, "digits_steps")
    assert not any("fitted" in sentence for sentence in orderings.sentences(view))


def test_means_over_seeds_use_the_seeds_that_have_a_value():
    table = pd.DataFrame(
        {"cell_id": ["a", "a", "b"], "seed": [0, 0, 1], "t": [1, 3, 1], "kl": [1.0, 5.0, 3.0], "head": [math.nan] * 3}
    )
    cells = tuple({"id": name, "seed": seed, "status": "done"} for seed, name in enumerate("ab"))
    group = Variant(axes={"loss": "x"}, label="x", cells=cells)
    found = timesteps.over(table, [group], "t")["x"]
    assert found["kl"].tolist() == [2.0, 5.0]
    assert found.index.tolist() == [1, 3]
    assert timesteps.over(table[:0], [group], "t") == {}


def test_many_trainings_are_drawn_in_panels(many: ResultsView):
    """40 trainings: no panel has more lines than can be told apart, and no two in one look alike."""
    found, missing = trainings(many)
    assert (len(found), missing) == (40, 0)
    encoding = curves.encoding_of(found, legal(many))
    units = list(dict.fromkeys(item.unit for item in found))
    for band in curves.bands_of(found, list(curves.VALIDATION), units, encoding):
        assert len(band) <= 4
        for panel in filter(None, band):
            looks = [str(encoding.looks[index]) for index in panel.chosen]
            assert len(set(looks)) == len(looks) <= 16
