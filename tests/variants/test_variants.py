"""Named variants: what each sets, and that each is a cell of a suite beside any other."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpm_bench import labels, registry, suite
from ddpm_bench.errors import UserError
from ddpm_bench.keys import SHORT
from ddpm_bench.planning import make_plan
from ddpm_bench.spec import bind, illegal
from tests.support import cli

NAMES = registry.names("variants")
BUDGET = {"timesteps", "sampling_steps", "seed"}

HEAD = """\
[dataset]
name = "digits"
[network]
name = "unet"
channels = 8
[diffusion]
timesteps = 50
[matrix]
prediction = ["x0"]
seed = [0, 1]
"""

# Read in the sources that the docstrings name: prediction, σ², schedule, loss.
PUBLISHED = {
    "ho2020": "ε, σ²=β, linear, L_simple",
    "ho2020_vlb": "ε, σ²=β, linear, L_vlb",
    "ho2020_mu": "μ, σ²=β, linear, L_vlb",
    "improved_ddpm": "ε, σ²=learned, cosine, L_hybrid",
    "improved_ddpm_vlb": "ε, σ²=learned, cosine, L_vlb(time_sampling=loss_second_moment)",
    "salimans_ho_v": "v, σ²=β, cosine, L_simple",
    "bagge_x0": "x₀, σ²=β̃, linear, L_simple",
}


def load(folder: Path, text: str, head: str = HEAD) -> suite.Suite:
    (folder / "x.toml").write_text(head + text, encoding="utf-8")
    return suite.load(folder / "x.toml")


def include(*names: str) -> str:
    return "".join(f'[[include]]\nvariant = "{name}"\n' for name in names)


def variants(found: suite.Suite) -> dict[str, suite.SuiteCell]:
    """The cells of seed 0 that a variant named."""
    return {cell.variant: cell for cell in found.cells if cell.variant and cell.cell.seed == 0}


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_sets_the_four_axes_and_the_sampler_and_no_budget(name: str) -> None:
    given = registry.get("variants", name)()
    assert {*labels.LEADING, "sampler"} <= given.keys() <= SHORT.keys() - BUDGET
    assert given is not registry.get("variants", name)()  # a suite may keep it
    assert json.loads(json.dumps(given)) == given  # what TOML could say


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_cites_the_place_and_says_what_it_leaves(name: str) -> None:
    text = inspect.cleandoc(registry.get("variants", name).__doc__)
    source = text.partition("Source: ")[2]
    assert any(mark in source for mark in ("§", "eq.", "Table"))
    assert "Left to the suite: T" in " ".join(text.split())


def test_the_variants_are_what_their_sources_describe(tmp_path: Path) -> None:
    found = variants(load(tmp_path, include(*NAMES)))
    assert {name: ", ".join(cell.label.split(", ")[:4]) for name, cell in found.items()} == PUBLISHED
    thresholding = {name for name, cell in found.items() if cell.cell.thresholding != "clip"}
    assert thresholding == {"ho2020_mu"}  # its raw output is the mean


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_overrides_the_base_tables_and_leaves_the_budget_alone(tmp_path: Path, name: str) -> None:
    base = '[reverse]\nsampling_steps = 7\nvariance = "optimal"\n'
    there = variants(load(tmp_path, base + include(name)))[name].cell
    here = variants(load(tmp_path, include(name)))[name].cell
    assert there.reverse.sampling_steps == 7
    assert (there.diffusion, there.reverse.variance) == (here.diffusion, here.reverse.variance)
    assert there.diffusion.timesteps == 50
    assert (there.network, there.training, there.dataset) == (here.network, here.training, here.dataset)


def test_every_variant_is_legal_beside_the_others_on_images_and_on_real_values(tmp_path: Path) -> None:
    gaussian = HEAD.replace('"digits"', '"gaussian"')
    for head in (HEAD, gaussian):
        found = variants(load(tmp_path, include(*NAMES), head))
        assert [illegal(cell.cell) for cell in found.values()] == [None] * len(NAMES)


def test_a_variant_has_the_seeds_of_the_matrix_and_shares_trainings_as_any_cell(tmp_path: Path) -> None:
    found = load(tmp_path, include(*NAMES))
    assert [(cell.variant, cell.cell.seed) for cell in found.cells[2:]] == [(n, s) for n in NAMES for s in (0, 1)]
    assert len({cell.id for cell in found.cells}) == len(found.cells)
    shared = [{cell.suite_cell.variant for cell in cells} for cells in make_plan(found, tmp_path).trainings().values()]
    # The x0 of the matrix has σ² = β, bagge_x0 has β̃: one training for each seed. No variant is another one.
    assert [names for names in shared if len(names) > 1] == [{None, "bagge_x0"}] * 2


def test_the_weighting_of_v_is_the_one_it_has_by_nature(tmp_path: Path) -> None:
    """The plain error of v and the weighting SNR + 1 written out are one training."""
    text = include("salimans_ho_v") + (
        '[[include]]\nprediction = "v"\nschedule = "cosine"\nloss = {name = "simple", weighting = "snr_plus_one"}\n'
    )
    cells = [cell.cell for cell in load(tmp_path, text).cells if cell.cell.seed == 0]
    assert bind(cells[1])[0] == bind(cells[2])[0]


def test_a_variant_that_is_in_the_matrix_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"include\[0\]: is a cell of the suite already; leave it out"):
        load(tmp_path, include("ho2020"), HEAD.replace('"x0"', '"epsilon"'))


def test_plan_and_show_on_the_command_line(tmp_path: Path) -> None:
    load(tmp_path, include("improved_ddpm", "ho2020_mu"))
    plan = cli("plan", "x.toml", cwd=tmp_path, COLUMNS="120")
    assert plan.returncode == 0, plan.stderr
    assert "6 cells, 6 trainings, 0 of them exist" in plan.stdout
    assert "mu-beta-linear-vlb-thresholding_none-s1" in plan.stdout
    shown = cli("show", "variant", "ho2020_mu", cwd=tmp_path).stdout
    assert shown.startswith("variant ho2020_mu\n\nThe baseline of DDPM that predicts μ̃")
    assert "Source: Ho et al. 2020, eq. 8" in shown
    assert '"thresholding": "none"' in shown


PLUGIN = '''
from ddpm_bench.registry import register

@register
def mine({arguments}):
    """Mine. Source: none."""
    return {value}
'''


@pytest.fixture
def forget() -> Iterator[None]:
    """Takes the variants of a test back: other tests walk over what is registered."""
    before = set(registry._registered)
    yield
    for place in [place for place in registry._registered if place not in before and place[1].startswith("variants_")]:
        del registry._registered[place]


@pytest.mark.usefixtures("forget")
@pytest.mark.parametrize(
    ("arguments", "value", "message"),
    [
        ("", '["prediction", "v"]', 'include[0].variant: "{name}" returns no table of short names but the list'),
        ("", "{}", 'include[0].variant: "{name}" returns no table of short names but the table {}'),
        ("", '{"timestep": 3}', 'include[0].variant: sets "timestep", which is no short name'),
        ("", '{"prediction": "w"}', 'include[0].variant: unknown prediction "w"'),
        ("steps=3", "{}", "a variant is a function without arguments"),
    ],
)  # fmt: skip
def test_a_variant_of_a_user_that_is_wrong_says_so(tmp_path: Path, arguments: str, value: str, message: str) -> None:
    name = f"variants_test_{hashlib.sha256((arguments + value).encode()).hexdigest()[:8]}"
    (tmp_path / f"{name}.py").write_text(PLUGIN.format(arguments=arguments, value=value), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(tmp_path, include(name), f'plugins = ["{name}.py"]\n{HEAD}')
    assert message.replace("{name}", name) in str(caught.value)
