"""From a suite file to cells, and every way in which that can fail."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddpm_bench import labels, registry, suite, toml
from ddpm_bench.errors import UserError
from ddpm_bench.identity import dumps
from ddpm_bench.spec import bind

HEAD = """\
[dataset]
name = "digits"

[network]
name = "unet"
channels = 16

[diffusion]
timesteps = 100
"""

Load = Callable[..., suite.Suite]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a suite from text, as x.toml of the working directory."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str, head: str = HEAD, **options: Any) -> suite.Suite:
        Path("x.toml").write_text(head + text, encoding="utf-8")
        return suite.load("x.toml", overrides, **options)

    return load


def problems(load: Load, text: str, *overrides: str, **options: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        load(text, *overrides, **options)
    return caught.value.problems


PLUGINS = {
    "suite_test_sampler": '''
from dataclasses import dataclass
from ddpm_bench.diffusion.samplers import Sampler
from ddpm_bench.registry import register

@register
@dataclass(frozen=True, kw_only=True)
class Quiet(Sampler):
    """Ignores the variance."""

    eta: float = 0.0
    uses_variance = False
''',
    "suite_test_head": '''
from dataclasses import dataclass
from ddpm_bench.diffusion.variances import Variance
from ddpm_bench.registry import register

@register
@dataclass(frozen=True, kw_only=True)
class Head(Variance):
    """Needs a head."""

    needs_head = True
''',
    "suite_test_variant": '''
from ddpm_bench.registry import register

@register
def variant():
    """Predicts v with a shifted cosine."""
    return {"prediction": "v", "schedule": {"name": "cosine", "s": 0.02}, "thresholding": "none"}
''',
    "suite_test_bad_variant": '''
from ddpm_bench.registry import register

@register
def variant():
    """Sets what is no short name."""
    return {"training.steps": 3}
''',
    "suite_test_extractor": '''
from dataclasses import dataclass
from ddpm_bench.extractors import Extractor
from ddpm_bench.registry import register

@register
@dataclass(frozen=True, kw_only=True)
class Pixels(Extractor):
    """Pixels."""
''',
}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The line of a suite that loads doubles: a sampler, a variance, variants, an extractor."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, text in PLUGINS.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    yield f"plugins = {json.dumps([str(folder / f'{name}.py') for name in PLUGINS])}\n"
    for key in [key for key in registry._registered if key[1].startswith("suite_test")]:
        del registry._registered[key]  # other tests walk over what is registered


# --- cells -----------------------------------------------------------------------------------------------------------


def test_a_suite_without_a_matrix_is_one_cell(load):
    found = load("")
    (cell,) = found.cells
    assert cell.id == "epsilon-beta-linear-simple-s0"
    assert cell.label == "ε, σ²=β, linear, L_simple"
    assert cell.axes == {
        "prediction": "epsilon",
        "variance": "beta",
        "schedule": "linear",
        "loss": "simple",
        "sampler": "ancestral",
        "sampling_steps": "all",
        "thresholding": "clip",
        "timesteps": "100",
    }
    assert (cell.cell.seed, cell.cell.diffusion.timesteps, cell.cell.network.channels) == (0, 100, 16)
    assert (cell.reason, cell.variant) == (None, None)
    assert (found.name, found.title, found.schema, found.axes, found.selected) == ("x", "x", 1, (), None)
    assert found.path == Path("x.toml")


def test_the_network_defaults_to_the_unet(load):
    assert load("", head='[dataset]\nname = "digits"\n').cells[0].cell.network.name == "unet"
    only_parameters = load("", head='[dataset]\nname = "digits"\n[network]\nchannels = 8\n').cells[0].cell.network
    assert (only_parameters.name, only_parameters.channels) == ("unet", 8)


PRODUCT = """
[matrix]
prediction = ["epsilon", "x0"]
seed       = [0, 1, 2]
variance   = ["beta", "beta_tilde"]
schedule   = ["linear", { name = "cosine", s = 0.01 }]
loss       = ["simple", { name = "simple", weighting = "snr" }, "vlb"]
[[exclude]]
variance = "beta_tilde"
schedule = "cosine"
"""


def test_the_cross_product(load):
    found = load(PRODUCT)
    # 2 · 2 · 2 · 3 = 24 combinations, of which a quarter is excluded, each with 3 seeds.
    assert len(found.cells) == 18 * 3
    assert found.axes == ("prediction", "variance", "schedule", "loss")
    assert [cell.id for cell in found.cells[:4]] == [
        "epsilon-beta-linear-simple-s0",
        "epsilon-beta-linear-simple-s1",
        "epsilon-beta-linear-simple-s2",
        "epsilon-beta-linear-simple_weighting_snr-s0",
    ]
    by_id = {cell.id: cell for cell in found.cells}
    cell = by_id["x0-beta-cosine_s_0.01-simple_weighting_snr-s2"]
    assert cell.label == "x₀, σ²=β, cosine(s=0.01), L_simple(weighting=snr)"
    assert cell.axes["loss"] == "simple(weighting=snr)"
    assert (cell.cell.seed, cell.cell.diffusion.schedule.s, cell.cell.diffusion.loss.weighting.name) == (2, 0.01, "snr")
    assert not any("beta_tilde-cosine" in name for name in by_id)


def test_symbols_of_labels(load):
    found = load('[matrix]\nprediction = ["epsilon", "x0", "mu", "v"]\nvariance = ["beta_tilde"]\nloss = ["vlb"]\n')
    assert [cell.label for cell in found.cells] == [f"{p}, σ²=β̃, linear, L_vlb" for p in ("ε", "x₀", "μ", "v")]


def test_any_dotted_key_can_vary(load):
    found = load(
        "[matrix]\nnetwork.channels = [8, 16]\ntraining.steps = [5]\nreverse.first_step = ['beta_tilde_2', 'beta_1']\n"
        '"diffusion.timesteps" = [50, 60]\nloss.weighting = ["none", "snr"]\n'
    )
    assert found.axes == ("network.channels", "reverse.first_step", "timesteps", "loss.weighting")
    assert len(found.cells) == 16
    assert {cell.cell.training.steps for cell in found.cells} == {5}
    last = found.cells[-1]
    assert (last.cell.network.channels, last.cell.reverse.first_step) == (16, "beta_1")
    assert (last.cell.diffusion.timesteps, last.cell.diffusion.loss.weighting.name) == (60, "snr")
    assert last.id == "epsilon-beta-linear-simple_weighting_snr-channels_16-first_step_beta_1-timesteps_60-s0"
    assert last.label.endswith("L_simple(weighting=snr), channels=16, first_step=beta_1, timesteps=60")
    assert last.axes["network.channels"] == "16"


def test_parameters_that_fit_only_together(load):
    # Neither 8 channels with groups = 16 nor 16 groups with 8 channels may be judged alone.
    weights = '[training]\nweight_decay = 0.1\n[matrix]\ntraining.optimizer = ["adamw"]\n'
    assert load(weights).cells[0].cell.training.weight_decay == 0.1
    found = problems(load, '[matrix]\ntraining.optimizer = ["adam", "adamw"]\ntraining.weight_decay = [0.0, 0.1]\n')
    assert found == ['x.toml:12: matrix.training.weight_decay: needs optimizer = "adamw"']


def test_values_are_paired_with_the_cells_of_equal_seed(load):
    keys = {}
    for cell in load('[matrix]\nvariance = ["beta", "beta_tilde"]\nseed = [0, 1]\n').cells:
        keys.setdefault(dumps(bind(cell.cell)[0]), []).append(cell.id)
    assert sorted(map(len, keys.values())) == [2, 2]


def test_schedules_of_the_same_betas_share_a_training(load):
    """`scale` multiplies by 1000/T: at T = 1000 it changes nothing, at T = 500 everything."""
    names = '["linear", {name = "linear", scale = false}]'
    cells = load(f"[matrix]\ntimesteps = [500, 1000]\nschedule = {names}\n").cells
    assert [cell.axes["schedule"] for cell in cells] == ["linear", "linear(scale=false)"] * 2
    short, short_unscaled, long, long_unscaled = (dumps(bind(cell.cell)[0]) for cell in cells)
    assert long == long_unscaled
    assert len({short, short_unscaled, long}) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed = 0", "matrix.seed: expected a list of values, got the integer 0; one value is [0]"),
        ("seed = []", "matrix.seed: is empty: nothing to run"),
        ("seed = [0, 1, 0]", "matrix.seed[2]: 0 stands in the list twice"),
        ("seed = [-1]", "matrix.seed[0]: must not be negative, got -1"),
        ("seed = [1.0]", "matrix.seed[0]: expected an integer, got the number 1.0"),
        (
            'schedule = ["cosine", {name = "cosine", s = 0.008}]',
            'matrix.schedule[1]: {name = "cosine", s = 0.008} stands in',
        ),
        ('schedule = [{name = "cosine", s = -1}]', "matrix.schedule[0].s: must be positive, got -1.0"),
        ('schedule = [{name = "cosine", z = 1}]', "matrix.schedule[0].z: unknown key; known: max_beta, s"),
        ('schedule = {name = "cosine"}', "matrix.schedule: expected a list of values"),
        ('predictions = ["x0"]', 'matrix.predictions: unknown key; did you mean "prediction"?'),
        ("training.stepz = [1]", 'matrix.training.stepz: unknown key; did you mean "training.steps"?'),
        ("network.channelz = [1]", 'matrix.network.channelz: unknown key: network "unet" has no parameter "channelz"'),
        ("timesteps.x = [1]", "matrix.timesteps.x: timesteps has no parameters"),
        ('dataset.name = ["digits"]', "matrix.dataset.name: dataset cannot vary: a suite has one data set"),
        ("evaluation.samples = [1]", "matrix.evaluation.samples: evaluation cannot vary"),
        (
            'prediction = ["x0"]\ndiffusion.prediction = ["v"]',
            "matrix.diffusion.prediction: prediction varies already in",
        ),
        ('loss = ["vlb"]\nloss.weighting = ["snr"]', None),  # TOML itself refuses
        (
            'loss = ["vlb"]\ndiffusion.loss.weighting = ["snr"]',
            "matrix.diffusion.loss.weighting: loss.weighting varies",
        ),
        ("training.steps = [-1]", "matrix.training.steps: must not be negative, got -1"),
        ("network.dropout = [2.0]", "matrix.network.dropout: dropout: must lie in"),
        ("timesteps = [0, 100]", "matrix.timesteps: must be at least 1, got 0"),
    ],
)
def test_what_is_wrong_with_the_matrix(load, line, message):
    if message is None:
        assert problems(load, f"[matrix]\n{line}\n")[0].startswith("x.toml:12: not valid TOML")
        return
    (found,) = problems(load, f"[matrix]\n{line}\n")
    assert found.startswith(f"x.toml:{11 + line.count(chr(10))}: {message}")


def test_the_matrix_must_be_a_table(load):
    assert problems(load, "", head=f"matrix = 3\n{HEAD}") == [
        "x.toml:1: matrix: expected a table of lists, got the integer 3"
    ]


# --- ids and labels --------------------------------------------------------------------------------------------------


def test_ids_that_look_alike_get_a_digest(load):
    found = load(
        '[matrix]\n"loss" = [{name = "vlb", first_step = "beta_1"}, {name = "vlb", first_step = "beta_tilde_2"}]\n'
    )
    assert [cell.id for cell in found.cells] == [
        "epsilon-beta-linear-vlb_first_step_beta_1-s0",
        "epsilon-beta-linear-vlb_first_step_beta_tilde_2-s0",
    ]
    channels = load(
        "[matrix]\nnetwork.channel_multipliers = [[1, 2], [12], [1, 2, 2]]\n"
        "network.attention_resolutions = [[], [-1], [1]]\n"
    )
    ids = [cell.id for cell in channels.cells]
    assert len(set(ids)) == 9
    assert all(suite.parts.SAFE_NAME.fullmatch(name) for name in ids)


def test_a_long_id_is_cut(load):
    many = ", ".join(str(2**power) for power in range(40))
    (one, other) = (
        cell.id for cell in load(f"[matrix]\nnetwork.attention_resolutions = [[{many}], [{many}, 1]]\n").cells
    )
    assert one != other
    assert max(len(one), len(other)) <= labels.MAX_ID + 20


def test_two_axes_that_end_alike_keep_their_tables():
    assert labels.short_keys(("a.x", "b.x", "c.y")) == {"a.x": "a.x", "b.x": "b.x", "c.y": "y"}


numbers = st.floats(1e-4, 0.5, allow_subnormal=False)
schedules = st.one_of(
    st.just("linear"),
    st.builds(lambda s: {"name": "cosine", "s": s}, numbers),
    st.builds(lambda s, cap: {"name": "cosine", "s": s, "max_beta": cap}, numbers, numbers),
)
losses = st.sampled_from(["simple", {"name": "simple", "weighting": "snr"}, "vlb", {"name": "vlb", "variance": "beta"}])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.lists(schedules, min_size=1, max_size=4, unique_by=dumps),
    st.lists(losses, min_size=1, max_size=4, unique_by=dumps),
    st.lists(st.integers(21, 2000), min_size=1, max_size=2, unique=True),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=2, unique=True),
)
def test_ids_and_labels_are_unique(load, schedule, loss, timesteps, seed):
    lists = {"schedule": schedule, "loss": loss, "timesteps": timesteps, "seed": seed}
    try:
        found = load('on_illegal = "skip"\n' + HEAD, *(f"matrix.{key}={show(v)}" for key, v in lists.items()), head="")
    except UserError as problem:
        if not re.search("stands in the list twice|every cell", str(problem)):  # two spellings of one, nothing legal
            raise
        return
    assert len(found.cells) == len(schedule) * len(loss) * len(timesteps) * len(seed)
    assert len({cell.id.lower() for cell in found.cells}) == len(found.cells)
    assert len({(cell.label, cell.cell.seed) for cell in found.cells}) == len(found.cells)
    assert len({(tuple(cell.axes.items()), cell.cell.seed) for cell in found.cells}) == len(found.cells)
    assert all(suite.parts.SAFE_NAME.fullmatch(cell.id) for cell in found.cells)


def show(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {show(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(show, value)) + "]" if isinstance(value, list) else json.dumps(value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    st.permutations(["prediction", "variance", "schedule", "loss"]),
    st.permutations(["name", "s", "max_beta"]),
    st.randoms(),
)
def test_the_order_of_keys_and_the_kind_of_numbers_do_not_matter(load, axes, parameters, random):
    given = {"name": "cosine", "s": 0.5, "max_beta": 0.75}
    values: dict[str, Any] = {"prediction": ["x0"], "variance": ["beta_tilde"], "loss": ["vlb"]}
    values["schedule"] = [{key: given[key] for key in parameters}]
    rate = random.choice(["1", "1.0", "10e-1"])
    sections = [
        f"[training]\nlearning_rate = {rate}\n",
        '[network]\nname = "unet"\nchannels = 16\n',
        '[dataset]\nname = "digits"\n',
    ]
    random.shuffle(sections)
    text = "".join(sections) + "[matrix]\n" + "".join(f"{axis} = {show(values[axis])}\n" for axis in axes)
    (cell,) = load(text, head="").cells
    expected = load(
        "[training]\nlearning_rate = 1.0\n[matrix]\nprediction = ['x0']\nvariance = ['beta_tilde']\nloss = ['vlb']\n"
        "schedule = [{name = 'cosine', s = 0.5, max_beta = 0.75}]\n",
        head='[dataset]\nname = "digits"\n[network]\nname = "unet"\nchannels = 16\n',
    ).cells[0]
    assert dumps(bind(cell.cell)) == dumps(bind(expected.cell))
    assert (cell.id, cell.label) == (expected.id, expected.label)


# --- exclude and include ---------------------------------------------------------------------------------------------


def test_exclude_that_matches_nothing_or_everything(load):
    matrix = '[matrix]\nprediction = ["epsilon", "x0"]\n[[exclude]]\n'
    assert problems(load, matrix + 'prediction = "mu"\n') == [
        "x.toml:12: exclude[0]: matches no cell: prediction is epsilon or x0 here"
    ]
    assert problems(load, matrix + 'variance = "beta"\n') == ["x.toml:12: exclude: leaves no cell"]
    assert "expected [[exclude]] tables" in problems(load, '[exclude]\nprediction = "x0"\n')[0]


def test_include_is_crossed_with_seeds_only(load):
    found = load(
        '[matrix]\nprediction = ["x0"]\ntimesteps = [50, 60]\nseed = [3, 4]\n'
        '[[include]]\nprediction = "v"\nloss = "vlb"\n'
    )
    assert [cell.id for cell in found.cells] == [
        *(f"x0-beta-linear-simple-timesteps_{t}-s{s}" for t, s in itertools.product((50, 60), (3, 4))),
        *(f"v-beta-linear-vlb-timesteps_100-s{s}" for s in (3, 4)),
    ]
    assert found.axes == ("prediction", "timesteps", "loss")


def test_include_names_a_variant(load, plugins):
    found = load('[[include]]\nvariant = "suite_test_variant"\n', head=plugins + HEAD)
    assert [cell.variant for cell in found.cells] == [None, "suite_test_variant"]
    assert found.axes == ("prediction", "schedule", "thresholding")
    assert found.cells[1].label == "v, σ²=β, cosine(s=0.02), L_simple, thresholding=none (suite_test_variant)"
    assert found.cells[0].label == "ε, σ²=β, linear, L_simple, thresholding=clip"
    assert found.cells[1].cell.diffusion.timesteps == 100  # what a variant does not name is the base's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('prediction = "epsilon"', "x.toml:11: include[0]: is a cell of the suite already; leave it out"),
        ('thresholding = "clip"', "x.toml:11: include[0]: is a cell of the suite already; leave it out"),
        ("", 'x.toml:11: include[0]: is empty; name a variant = "…" or short names'),
        ("seed = 3", "x.toml:12: include[0].seed: unknown key; every seed of the matrix is used"),
        ("training.steps = 3", "x.toml:12: include[0].training: unknown key"),
        ('prediction = "x3"', 'x.toml:12: include[0].prediction: unknown prediction "x3"'),
        ('variant = "no"', 'x.toml:12: include[0].variant: unknown variant "no"'),
        ("variant = 3", "x.toml:12: include[0].variant: expected a name, got the integer 3"),
        ('variant = "suite_test_variant"\nloss = "vlb"', "x.toml:11: include[0]: names a variant and short names"),
        ('variant = "suite_test_bad_variant"', 'x.toml:12: include[0].variant: sets "training.steps", which is no'),
    ],
)
def test_what_is_wrong_with_an_include(load, plugins, text, message):
    (found,) = problems(load, f"[[include]]\n{text}\n", head=plugins + HEAD)
    assert found.startswith(message)


# --- illegal cells ---------------------------------------------------------------------------------------------------

ILLEGAL = """
[matrix]
variance = ["beta", "suite_test_head"]
loss = ["simple", "vlb"]
prediction = ["x0", "v"]
seed = [0, 1]
"""


def test_illegal_cells_are_errors_said_once(load, plugins):
    found = problems(load, '[matrix]\ntimesteps = [15, 20, 100]\nschedule = ["linear", "cosine"]\nseed = [0, 1]\n')
    assert len(found) == 2  # T = 15 and T = 20 have reasons of their own, each for two seeds
    assert found[0].startswith(
        "x.toml:12: matrix.schedule: illegal, 2 of 12 cells (timesteps = 15, schedule = linear): the scaled linear"
    )
    assert found[0].endswith('; exclude it, or on_illegal = "skip" lists it as illegal')


def test_illegal_cells_can_be_listed(load, plugins):
    found = load(ILLEGAL, head=f'on_illegal = "skip"\n{plugins}{HEAD}')
    reasons = {cell.id: cell.reason for cell in found.cells if cell.reason}
    assert len(found.cells) == 16
    assert set(reasons) == {f"{p}-suite_test_head-linear-simple-s{s}" for p in ("x0", "v") for s in (0, 1)}
    assert set(reasons.values()) == {"loss simple with variance suite_test_head: nothing trains the variance head"}


def test_illegal_cells_can_be_excluded(load, plugins):
    found = load(ILLEGAL + '[[exclude]]\nvariance = "suite_test_head"\nloss = "simple"\n', head=plugins + HEAD)
    assert len(found.cells) == 12


def test_a_suite_of_illegal_cells_is_an_error_anyway(load):
    (found,) = problems(load, "", "diffusion.timesteps=20", head=f'on_illegal = "skip"\n{HEAD}')
    assert "illegal, every cell: the scaled linear schedule needs more than 20 timesteps" in found


def test_a_sampler_that_ignores_the_variance_keeps_the_first(load, plugins):
    text = '[matrix]\nsampler = ["ancestral", "suite_test_sampler"]\nvariance = ["beta", "beta_tilde"]\n'
    text += 'loss = ["simple", "vlb"]\n'
    found = load(text, head=f'on_illegal = "skip"\n{plugins}{HEAD}')
    reasons = {cell.id: cell.reason for cell in found.cells if cell.reason}
    # With vlb the variance decides the training, so both cells stand.
    assert reasons == {
        "epsilon-beta_tilde-linear-simple-sampler_suite_test_sampler-s0": "sampler suite_test_sampler ignores σ²: "
        "the images are those with variance beta"
    }


def test_on_illegal_has_two_values(load):
    assert problems(load, "", head=f'on_illegal = "drop"\n{HEAD}') == [
        'x.toml:1: on_illegal: expected "error" or "skip", got the string "drop"'
    ]


# --- the rest of the file --------------------------------------------------------------------------------------------


def test_five_mistakes_are_five_messages(load):
    text = (
        "[training]\nbatch_sise = 128\nsteps = 10.5\n[trainig]\nsteps = 1\n"
        '[matrix]\nprediction = ["epsilon", "x00"]\n[[exclude]]\nprediction = "mu"\n'
    )
    assert problems(load, text) == [
        'x.toml:11: training.batch_sise: unknown key; did you mean "batch_size"?',
        "x.toml:12: training.steps: expected an integer, got the number 10.5",
        'x.toml:13: trainig: unknown table; did you mean "training"?',
        'x.toml:16: matrix.prediction[1]: unknown prediction "x00"; did you mean "x0"?',
        "x.toml:17: exclude[0]: matches no cell: prediction is epsilon here",
    ]


def test_a_selector_is_not_blamed_for_the_typo_in_the_matrix(load):
    text = '[matrix]\nprediction = ["epsilonn", "x0"]\n[[exclude]]\nprediction = "epsilon"\n'
    assert [item.partition(": ")[0] for item in problems(load, text)] == ["x.toml:11"]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("", 'x.toml:1: dataset: the table is missing: which data? [dataset] name = "…"'),
        ("[dataset]\nsize = 3\n", "x.toml:1: dataset: expected a name or a table {name = …}, got the table {size = 3}"),
        ('[dataset]\nname = "digit"\n', 'x.toml:1: dataset: unknown dataset "digit"; did you mean "digits"?'),
        ('[dataset]\nname = "digits"\nsizze = 3\n', 'x.toml:3: dataset.sizze: unknown key; did you mean "size"?'),
        ("training = 3\n" + HEAD, "x.toml:1: training: expected a table, got the integer 3"),
        ("schema = 2\n" + HEAD, "x.toml:1: schema: this ddpm-bench reads schema 1, got the integer 2"),
        ("schema = true\n" + HEAD, "x.toml:1: schema: this ddpm-bench reads schema 1, got the boolean true"),
        ('name = "a/b"\n' + HEAD, 'x.toml:1: name: "a/b" cannot name a directory'),
        ('name = ".."\n' + HEAD, 'x.toml:1: name: ".." cannot name a directory'),
        ("name = 3\n" + HEAD, "x.toml:1: name: expected a string, got the integer 3"),
        ("title = 3\n" + HEAD, "x.toml:1: title: expected a string, got the integer 3"),
        ("timesteps = 3\n" + HEAD, 'x.toml:1: timesteps: unknown key; did you mean "diffusion.timesteps"?'),
        ("seed = 3\n" + HEAD, 'x.toml:1: seed: unknown key; did you mean "matrix.seed"?'),
        ("plugins = 3\n" + HEAD, "x.toml:1: plugins: expected a list of files, got the integer 3"),
        ("plugins = [3]\n" + HEAD, "x.toml:1: plugins[0]: expected the path of a file, got the integer 3"),
        (HEAD + "[evaluation]\nsamples = 0\n", "x.toml:11: evaluation.samples: must be at least 1, got 0"),
        (HEAD + "[evaluation]\nmetrics = []\n", "x.toml:11: evaluation.metrics: is empty"),
        (HEAD + '[evaluation]\nmetrics = ["bits"]\n', 'x.toml:11: evaluation.metrics: unknown metric "bits"'),
        (HEAD + '[evaluation]\nextractor = "eff"\n', 'x.toml:11: evaluation.extractor: unknown extractor "eff"'),
        (HEAD + "[evaluation]\nextractor = []\n", "x.toml:11: evaluation.extractor: is empty"),
        (
            HEAD + '[evaluation]\nextractors = ["x"]\n',
            'x.toml:11: evaluation.extractors: unknown key; did you mean "extractor"?',
        ),
        (
            HEAD + '[evaluation]\nextractor = ["efficientnet_lite0", {name = "efficientnet_lite0"}]\n',
            'x.toml:11: evaluation.extractor[1]: {name = "efficientnet_lite0"} stands in the list twice',
        ),
        ("evaluation = 3\n" + HEAD, "x.toml:1: evaluation: expected a table, got the integer 3"),
        (HEAD + "[reverse]\nsampling_steps = 101\n", "x.toml:1"),
    ],
)
def test_what_is_wrong_with_a_suite(load, head, message):
    (found,) = problems(load, "", head=head)
    assert found.startswith(message)


def test_names_of_a_suite(load):
    assert load("", head=f'name = "a.b-c_1"\ntitle = "T"\n{HEAD}').name == "a.b-c_1"
    named = load("", head=f'name = "a"\n{HEAD}', name="b")
    assert (named.name, named.title, named.configuration["name"]) == ("b", "b", "b")
    (found,) = problems(load, "", name="../b")
    assert found.startswith('--name ../b: "../b" cannot name a directory')


def test_a_suite_that_extends_another_has_its_own_name(load):
    Path("base.toml").write_text(f'name = "base"\ntitle = "Base"\n{HEAD}[training]\nsteps = 7\n', encoding="utf-8")
    found = load("", head='extends = "base.toml"\n[training]\nbatch_size = 9\n')
    assert (found.name, found.title) == ("x", "x")
    assert (found.cells[0].cell.training.steps, found.cells[0].cell.training.batch_size) == (7, 9)
    assert found.configuration["extends"] == ["base.toml"]
    Path("base.toml").write_text(f"{HEAD}[training]\nstepz = 7\n", encoding="utf-8")
    assert problems(load, "", head='extends = "base.toml"\n[training]\nbatch_sise = 9\n') == [
        'x.toml:3: training.batch_sise: unknown key; did you mean "batch_size"?',
        'base.toml:11: training.stepz: unknown key; did you mean "steps"?',
    ]


def test_plugins_lie_beside_the_file_that_names_them(load):
    Path("deep").mkdir()
    text = PLUGINS["suite_test_sampler"]
    Path("deep/suite_test_nearby.py").write_text(text, encoding="utf-8")
    Path("deep/base.toml").write_text(f'plugins = ["suite_test_nearby.py"]\n{HEAD}', encoding="utf-8")
    found = load('[reverse]\nsampler = "suite_test_nearby"\n', head='extends = "deep/base.toml"\n')
    assert found.plugins == (Path("deep/suite_test_nearby.py"),)
    assert found.cells[0].axes["sampler"] == "suite_test_nearby"


def test_a_plugin_that_fails_says_why_each_time(load):
    Path("suite_test_broken.py").write_text("import does_not_exist\n", encoding="utf-8")
    for _ in range(2):
        (found,) = problems(load, "", head=f'plugins = ["suite_test_broken.py"]\n{HEAD}')
        assert found.startswith("x.toml:1: plugins[0]: plugin ")
        assert "No module named 'does_not_exist'" in found
    assert "no such file" in problems(load, "", head=f'plugins = ["none.py"]\n{HEAD}')[0]


def test_the_configuration_is_complete_json(load, plugins):
    found = load(
        '[matrix]\nnetwork.channels = [8]\nschedule = [{name = "cosine", s = 1}]\n[[exclude]]\nvariance = "beta"\n'
        '[[include]]\nprediction = "v"\n[evaluation]\nextractor = "efficientnet_lite0"\n',
        "training.steps=5",
        head=f"schema = 1\n{HEAD}",
    )
    configuration = json.loads(json.dumps(found.configuration))
    assert configuration == found.configuration
    assert configuration["dataset"]["name"] == "digits"
    assert configuration["diffusion"]["schedule"] == {"name": "linear", "first": 1e-4, "last": 0.02, "scale": True}
    assert configuration["training"]["steps"] == 5
    assert configuration["matrix"] == {"network.channels": [8], "schedule": [{"name": "cosine", "s": 1}]}
    assert configuration["evaluation"]["extractor"][0]["name"] == "efficientnet_lite0"
    assert configuration["exclude"] == [{"variance": "beta"}]
    assert configuration["include"] == [{"prediction": "v"}]


def test_evaluation(load):
    found = load(
        '[evaluation]\nmetrics = ["bits_per_dim", "kernel_distance"]\n'
        'extractor = ["efficientnet_lite0", {name = "efficientnet_lite0", input_size = 96}]\n'
        'splits = ["test", "train"]\n'
    )
    assert [item.input_size for item in found.evaluation.extractors] == [64, 96]
    assert [item.name for item in found.resolved_metrics] == [
        "bits_per_dim",
        "kd_efficientnet_lite0",
        "kd_efficientnet_lite0_96",
    ]
    assert found.evaluation.splits == ("test", "train")


# --- --set and --only ------------------------------------------------------------------------------------------------


def test_set_reaches_tables_and_matrix(load):
    found = load(
        '[matrix]\nprediction = ["x0"]\n', "training.steps=3", 'matrix.prediction=["v", "mu"]', "matrix.timesteps=[30]"
    )
    assert [cell.id for cell in found.cells] == ["v-beta-linear-simple-s0", "mu-beta-linear-simple-s0"]
    assert {(cell.cell.training.steps, cell.cell.diffusion.timesteps) for cell in found.cells} == {(3, 30)}
    assert found.overrides == ("training.steps=3", 'matrix.prediction=["v", "mu"]', "matrix.timesteps=[30]")


def test_problems_of_set_are_located(load):
    assert problems(load, "", "training.steps=x", "training.stepz=3") == [
        '--set training.steps=x: training.steps: expected an integer, got the string "x"',
        '--set training.stepz=3: training.stepz: unknown key; did you mean "steps"?',
    ]


def test_set_of_what_the_matrix_varies_is_refused(load):
    matrix = "[matrix]\ntimesteps = [50, 60]\n"
    assert problems(load, matrix, "diffusion.timesteps=30") == [
        "--set diffusion.timesteps=30: diffusion.timesteps: has no effect: the matrix varies timesteps; "
        "set matrix.timesteps=[…]"
    ]
    assert problems(load, '[matrix]\nloss = ["vlb"]\n', "diffusion.loss.weighting=snr")
    # An include takes it from the base tables.
    assert (
        load(f'{matrix}[[include]]\nprediction = "v"\n', "diffusion.timesteps=30").cells[-1].axes["timesteps"] == "30"
    )


def test_a_document_can_be_loaded(load):
    load("")
    document = toml.apply(toml.read("x.toml"), ["training.steps=4"])
    found = suite.load(document, ["training.batch_size=5"])
    assert found.overrides == ("training.steps=4", "training.batch_size=5")
    assert (found.cells[0].cell.training.steps, found.cells[0].cell.training.batch_size) == (4, 5)


def test_only_selects_ids_and_keeps_all_cells(load):
    found = load(
        PRODUCT, only=["prediction=x0,seed=1,loss={name='simple',weighting='snr'}", "prediction=x0,loss=vlb,seed=2"]
    )
    assert len(found.cells) == 54
    assert found.selected is not None
    assert sorted(found.selected) == sorted(
        [f"x0-{rest}-simple_weighting_snr-s1" for rest in ("beta-linear", "beta-cosine_s_0.01", "beta_tilde-linear")]
        + [f"x0-{rest}-vlb-s2" for rest in ("beta-linear", "beta-cosine_s_0.01", "beta_tilde-linear")]
    )
    assert found.overrides[-1] == "--only prediction=x0,loss=vlb,seed=2"


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("prediction=mu", "--only prediction=mu: matches no cell: prediction is epsilon or x0 here"),
        ("predicton=x0", '--only predicton=x0: predicton: unknown key; did you mean "prediction"?'),
        ("prediction=x9", '--only prediction=x9: prediction: unknown prediction "x9"; known: '),
        ("x0", '--only x0: expected key=value,…, got "x0"'),
    ],
)
def test_what_is_wrong_with_only(load, only, message):
    (found,) = problems(load, PRODUCT, only=[only])
    assert found.startswith(message)


# --- claims and references -------------------------------------------------------------------------------------------

MATRIX = (
    '[matrix]\nprediction = ["epsilon", "x0"]\nloss = ["simple", {name = "simple", weighting = "snr"}]\nseed = [0, 1]\n'
)
CLAIM = '[[claim]]\nstatement = "S"\nmetric = "bits_per_dim"\n'
QUALITY = '[evaluation]\nmetrics = ["bits_per_dim", "kernel_distance"]\nsplits = ["test", "train"]\n'


def test_claims_are_bound_to_cells(load):
    found = load(
        MATRIX
        + QUALITY
        + '[[claim]]\nstatement = "S"\nsource = "P"\nmetric = "kernel_distance"\nbetter = {prediction = "epsilon"}\n'
        'than = {prediction = "x0"}\nwhere = {loss = {name = "simple", weighting = "snr"}}\n'
        '[[claim]]\nstatement = "E"\nmetric = "bits_per_dim_train"\n'
        'equivalent = [{loss.weighting = "snr"}, {loss.weighting = "none"}]\n'
        "margin = 1\n"
    )
    one, two = found.claims
    assert (one.statement, one.source, one.metric, one.axes) == ("S", "P", "kd_efficientnet_lite0", ("prediction",))
    assert one.better is not None
    assert one.than is not None
    assert one.better.cells == tuple(f"epsilon-beta-linear-simple_weighting_snr-s{s}" for s in (0, 1))
    assert one.than.cells == tuple(f"x0-beta-linear-simple_weighting_snr-s{s}" for s in (0, 1))
    assert one.where == {"loss": {"name": "simple", "weighting": "snr"}}
    assert (one.equivalent, one.margin) == (None, None)
    assert (two.metric, two.axes, two.margin, two.better) == ("bits_per_dim_train", ("loss.weighting",), 1.0, None)
    assert two.equivalent is not None
    assert [len(side.cells) for side in two.equivalent] == [4, 4]
    assert json.loads(json.dumps(one.to_json()))["than"]["selector"] == {"prediction": "x0"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[claim]]\nmetric = "bits_per_dim"\nbetter = {seed = 0}\nthan = {seed = 1}\n',
            '14: claim[0]: "statement" is missing',
        ),
        (CLAIM, "14: claim[0]: needs either better and than, or equivalent and margin"),
        (CLAIM + 'better = {prediction = "x0"}\n', '14: claim[0]: "than" is missing'),
        (
            CLAIM + 'better = {prediction = "x0"}\nthan = {prediction = "mu"}\n',
            "18: claim[0].than: matches no cell: prediction is",
        ),
        (
            CLAIM + 'better = {prediction = "x0"}\nthan = {prediction = "x7"}\n',
            '18: claim[0].than.prediction: unknown prediction "x7"',
        ),
        (
            CLAIM + 'better = {prediction = "x0"}\nthan = {seed = 1}\n',
            "18: claim[0].than: selects a cell that the other side",
        ),
        (
            CLAIM + 'better = {prediction = "x0"}\nthan = {prediction = "epsilon"}\nwhere = {prediction = "x0"}\n',
            '18: claim[0].than: matches no cell of those that "where" leaves',
        ),
        (
            CLAIM + "better = {seed = 0}\nthan = {seed = 1}\nwhere = {timesteps = 7}\n",
            "19: claim[0].where: matches no cell",
        ),
        (
            CLAIM + "better = {seed = 0}\nthan = {seed = 1}\nmargin = 0.1\n",
            "19: claim[0].margin: belongs to equivalent",
        ),
        (
            CLAIM + "better = {seed = 0}\nthan = {seed = 1}\nbeter = 1\n",
            '19: claim[0].beter: unknown key; did you mean "better"?',
        ),
        (CLAIM + "equivalent = [{seed = 0}, {seed = 1}]\n", '14: claim[0]: "margin" is missing'),
        (CLAIM + "equivalent = [{seed = 0}, {seed = 1}]\nmargin = 0\n", "18: claim[0].margin: must be positive, got 0"),
        (
            CLAIM + "equivalent = [{seed = 0}]\nmargin = 1\n",
            "17: claim[0].equivalent: expected a list of two selectors",
        ),
        (CLAIM + "equivalent = [{seed = 0}, {}]\nmargin = 1\n", "17: claim[0].equivalent[1]: is empty"),
        (
            CLAIM + 'better = {seed = 0}\nthan = {seed = 1}\ndataset = "cifar10"\n',
            '19: claim[0].dataset: "cifar10" is not the data',
        ),
        ('[claim]\nstatement = "S"\n', "14: claim: expected [[claim]] tables, got the table"),
    ],
)
def test_what_is_wrong_with_a_claim(load, text, message):
    (found,) = problems(load, MATRIX + text)
    assert found.startswith(f"x.toml:{message}")


@pytest.mark.parametrize(
    ("metric", "meant"),
    [
        ("bits_per_dim", "bits_per_dim"),
        ("bits_per_dim_l_0", "bits_per_dim_l_0"),
        ("bits_per_dim_train", "bits_per_dim_train"),
        ("kernel_distance", "kd_efficientnet_lite0"),
        ("kd_efficientnet_lite0_test", "kd_efficientnet_lite0_test"),
        ("kd_efficientnet_lite0_n360", "kd_efficientnet_lite0_n360"),
        ("bits_per_dim_validation", None),
        ("bits_per_dim_tran", None),
        ("kd_efficientnet_lite0_train", None),
        ("frechet_distance", None),
        ("timestep_kl", None),
    ],
)
def test_the_metric_of_a_claim_is_a_result_of_the_suite(load, metric, meant):
    text = MATRIX + QUALITY.replace('"kernel', '"timestep_kl", "kernel') + CLAIM.replace("bits_per_dim", metric)
    text += "better = {seed = 0}\nthan = {seed = 1}\n"
    if meant is not None:
        assert load(text).claims[0].metric == meant
        return
    (found,) = problems(load, text)
    assert found.startswith(f'x.toml:19: claim[0].metric: "{metric}" is not measured by this suite')


def test_a_generic_metric_needs_one_extractor(load, plugins):
    text = QUALITY + 'extractor = ["efficientnet_lite0", "suite_test_extractor"]\n' + MATRIX
    claim = CLAIM.replace("bits_per_dim", "{}") + "better = {{seed = 0}}\nthan = {{seed = 1}}\n"
    (found,) = problems(load, text + claim.format("kernel_distance"), head=plugins + HEAD)
    assert found.endswith(
        'claim[0].metric: "kernel_distance" is measured with several extractors; say which: '
        "kd_efficientnet_lite0, kd_suite_test_extractor"
    )
    assert (
        load(text + claim.format("kd_suite_test_extractor"), head=plugins + HEAD).claims[0].metric
        == "kd_suite_test_extractor"
    )


REFERENCE = '[[reference]]\ndataset = "digits"\nmetric = "bits_per_dim"\nvalue = 3\nsource = "P, Table 1"\n'


def test_references(load):
    text = REFERENCE + 'protocol = "test split"\nchecked = 2026-01-02\nwhere = {prediction = "x0", seed = 1}\n'
    (found,) = load(MATRIX + text).references
    assert found.to_json() == {
        "dataset": "digits",
        "metric": "bits_per_dim",
        "value": 3.0,
        "source": "P, Table 1",
        "cells": ("x0-beta-linear-simple-s1", "x0-beta-linear-simple_weighting_snr-s1"),
        "protocol": "test split",
        "checked": "2026-01-02",
        "where": {"prediction": "x0", "seed": 1},
    }
    assert len(load(MATRIX + REFERENCE).references[0].cells) == 8


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"digits"', '"cifar10"', '15: reference[0].dataset: "cifar10" is not the data set of the suite, digits'),
        ('"bits_per_dim"', '"fid"', '16: reference[0].metric: "fid" is not measured by this suite'),
        ("value = 3", 'value = "3"', '17: reference[0].value: expected a number, got the string "3"'),
        ("source", "sauce", '18: reference[0].sauce: unknown key; did you mean "source"?'),
        (
            "value = 3",
            "value = 3\nchecked = 4",
            "18: reference[0].checked: expected a date, text, true or false, got the",
        ),
        (
            "value = 3",
            "value = 3\nprotocol = 4",
            "18: reference[0].protocol: expected text or a table, got the integer 4",
        ),
        ("value = 3", "value = 3\nwhere = {seed = 9}", "18: reference[0].where: matches no cell: seed is 0 or 1 here"),
    ],
)
def test_what_is_wrong_with_a_reference(load, old, new, message):
    found = problems(load, MATRIX + REFERENCE.replace(old, new))
    assert any(item.startswith(f"x.toml:{message}") for item in found)


def test_statements_about_a_replaced_data_set_are_left_out(load):
    text = MATRIX + REFERENCE + CLAIM + 'dataset = "digits"\nbetter = {seed = 0}\nthan = {seed = 1}\n'
    text += CLAIM.replace('"S"', '"anywhere"') + "better = {seed = 0}\nthan = {seed = 1}\n"
    found = load(text, "dataset.name=fashion_mnist", "network.channel_multipliers=[1]")
    assert found.references == ()
    assert [claim.statement for claim in found.claims] == ["anywhere"]
    assert found.skipped_notes == (
        'claim "S" is about digits, which --set replaced by fashion_mnist: left out',
        "reference bits_per_dim = 3.0 of P, Table 1 is about digits, which --set replaced by fashion_mnist: left out",
    )
    assert load(text).skipped_notes == ()
    # A third data set is a mistake of the suite, whatever is set.
    other = text.replace('[[reference]]\ndataset = "digits"', '[[reference]]\ndataset = "cifar10"')
    assert (
        '"cifar10" is not the data set'
        in problems(load, other, "dataset.name=fashion_mnist", "network.channel_multipliers=[1]")[0]
    )


def test_set_that_empties_a_claim_says_the_way_out(load):
    text = MATRIX + CLAIM + 'better = {prediction = "epsilon"}\nthan = {prediction = "x0"}\n'
    (found,) = problems(load, text, 'matrix.prediction=["x0"]')
    assert found.endswith("matches no cell: prediction is x0 here; --set 'claim=[]' leaves all of them out")
    assert load(text, 'matrix.prediction=["x0"]', "claim=[]").claims == ()


# --- the shipped schedule of problems --------------------------------------------------------------------------------


def test_problems_come_in_the_order_of_the_lines_and_once(load):
    text = '[matrix]\nprediction = ["epsilon", "x9"]\nvariance = ["beta", "beta_tilde"]\nseed = [0, 1, 2, 3]\n'
    text += 'loss = ["simple", "vlb"]\n'
    found = problems(load, text + "[training]\nsteps = -1\nzeal = 1\n")
    assert [int(item.split(":")[1]) for item in found] == [11, 16, 17]
    assert len(set(found)) == 3


def test_registered_names_are_what_the_plugins_added(load, plugins):
    load("", head=plugins + HEAD)
    assert "suite_test_sampler" in registry.names("samplers")
