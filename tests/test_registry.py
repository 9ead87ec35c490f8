"""What is registered, by whom, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import pytest

from ddpm_bench import registry
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.diffusion.schedules.cosine import Cosine
from ddpm_bench.diffusion.weightings.snr import Snr
from ddpm_bench.errors import UserError

OWN = [(axis, name) for axis in registry.AXES for name in registry.names(axis)]


@pytest.fixture(autouse=True)
def forget_plugins():
    """Other tests walk over what is registered."""
    before = set(registry._registered)
    yield
    for key in set(registry._registered) - before:
        if not registry._registered[key].__module__.startswith("ddpm_bench."):
            del registry._registered[key]


def python(code: str, *arguments: str, path: Path | None = None) -> str:
    """The output of a fresh process, where nothing is imported yet."""
    prefix = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else "import sys\n"
    run = subprocess.run([sys.executable, "-c", prefix + code, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_names_are_files_and_importing_none_of_them():
    code = (
        "from ddpm_bench import registry\n"
        "print(*registry.names('schedules')); print(*registry.names('prediction'))\n"
        "assert not {'torch', 'numpy', 'mlflow', 'scipy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    schedules, predictions = (line.split() for line in python(code).splitlines())
    assert {"linear", "cosine"} <= set(schedules)
    assert set(predictions) >= {"epsilon", "x0", "mu", "v"}
    assert not any(name.startswith("_") for name in schedules + predictions)


@pytest.mark.parametrize(("axis", "name"), OWN)
def test_every_file_registers_one_entry_with_its_name(axis, name):
    entry = registry.get(axis, name)
    assert entry.name == name
    assert registry.first_line(entry)
    if axis == "variants":
        assert isinstance(entry(), dict)
        return
    assert issubclass(entry, registry.Entry)
    assert entry.axis == axis
    assert is_dataclass(entry)
    assert entry.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(item.kw_only for item in fields(entry))


def test_an_axis_has_two_names():
    assert registry.axis_of("schedule") is registry.axis_of("schedules") is registry.AXES["schedules"]
    with pytest.raises(UserError, match='unknown axis "shedule"; did you mean "schedule"'):
        registry.axis_of("shedule")


def test_an_unknown_name_is_the_users_mistake():
    with pytest.raises(UserError, match='unknown schedule "cosin"; did you mean "cosine"'):
        registry.get("schedules", "cosin")
    for name in ("__init__", "_images", "", "../cosine"):
        with pytest.raises(UserError, match="unknown dataset"):
            registry.get("datasets", name)


def test_parameters_that_are_not_defaults():
    assert Cosine().parameters() == {}
    assert Cosine(s=0.008).parameters() == {}
    assert Cosine(s=1, max_beta=0.5).parameters() == {"s": 1, "max_beta": 0.5}
    assert Simple().parameters() == {}
    assert Simple(weighting=Snr()).parameters() == {"weighting": Snr()}


def test_the_class_must_be_a_dataclass_with_a_docstring_of_its_own():
    with pytest.raises(TypeError, match="not a dataclass; put @register above @dataclass"):

        @registry.register
        class Bare(Schedule, axis="bare"):
            """Documented."""

    class Undocumented(Schedule):
        value: float = 1.0

    with pytest.raises(TypeError, match="needs a written docstring"):
        registry.register(dataclass(frozen=True, kw_only=True)(Undocumented))

    with pytest.raises(TypeError, match="has no axis; subclass Schedule, Loss"):
        registry.register(dataclass(frozen=True)(type("Lost", (), {"__doc__": "Lost.", "__module__": __name__})))


def test_a_file_that_is_imported_twice_is_registered_once(plugin):
    path = plugin("registry_test_twice")
    registry.load_plugin_file(path)
    first = registry.get("schedules", "registry_test_twice")
    registry.load_plugin_file(path)
    assert registry.get("schedules", "registry_test_twice") is first
    assert registry.names("schedules").count("registry_test_twice") == 1


TEXT = '''
from dataclasses import dataclass
from ddpm_bench.diffusion.schedules import Schedule
from ddpm_bench.registry import register

@register
@dataclass(frozen=True, kw_only=True)
class Mine(Schedule):
    """A schedule."""
'''


@pytest.fixture
def plugin(tmp_path: Path):
    def write(name: str, text: str = TEXT, folder: str = ".") -> Path:
        path = tmp_path / folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("registry_test_syntax", "def", "cannot be imported: SyntaxError"),
        ("registry_test_missing", "import nothing_like_this", "No module named 'nothing_like_this'"),
        ("registry-test", TEXT, "its name is made of letters, digits and _"),
        ("registry.test", TEXT, "its name is made of letters, digits and _"),
        ("json", TEXT, 'a module named "json" exists already; rename the file'),
        ("cosine", TEXT, 'the name "cosine" of cosine is taken by ddpm_bench.diffusion.schedules.cosine'),
        ("sigmoid_of_nobody", TEXT + TEXT.replace("Mine", "Second"), "is taken by sigmoid_of_nobody.Mine"),
        ("registry_test_plain", TEXT.replace('"""A schedule."""', "pass"), "needs a written docstring"),
    ],
)
def test_a_plugin_file_that_fails_says_why_each_time(plugin, name, text, message):
    path = plugin(name, text)
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            registry.load_plugin_file(path)
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
    assert set(sys.modules) - before <= {"ddpm_bench.diffusion.schedules.cosine"}


def test_a_plugin_cannot_take_a_name_before_its_owner_is_imported(plugin):
    """In a fresh process cosine is known by its file only."""
    code = (
        "from pathlib import Path\nfrom ddpm_bench import registry\n"
        "try:\n    registry.load_plugin_file(Path(sys.argv[1]))\nexcept Exception as problem:\n    print(problem)\n"
        "assert registry.get('schedules', 'cosine').__module__ == 'ddpm_bench.diffusion.schedules.cosine'\n"
    )
    assert "is taken by ddpm_bench.diffusion.schedules.cosine" in python(code, str(plugin("cosine")))


def test_a_missing_plugin_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        registry.load_plugin_file(tmp_path / "none.py")


def test_two_plugin_files_of_one_name(plugin):
    registry.load_plugin_file(plugin("registry_test_pair", folder="a"))
    with pytest.raises(UserError, match="exists already; rename the file"):
        registry.load_plugin_file(plugin("registry_test_pair", folder="b"))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which a distribution with two entry points is installed, one of which cannot be imported."""
    package, information = tmp_path / "third_party", tmp_path / "third_party-1.0.dist-info"
    package.mkdir()
    information.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "square.py").write_text(TEXT, encoding="utf-8")
    (package / "broken.py").write_text("raise OSError('no luck')\n", encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text(
        "[ddpm_bench.schedules]\nsquare = third_party.square:Mine\nbroken = third_party.broken:Mine\n", encoding="utf-8"
    )
    return tmp_path


def test_entry_points_are_listed_without_importing_and_named_after_their_package(installed):
    code = (
        "from ddpm_bench import registry\n"
        "print(*registry.names('schedules'))\n"
        "assert 'third_party' not in sys.modules\n"
        "found = registry.get('schedules', 'third-party/square')\n"
        "print(found.name, sorted(found().identity()))\n"
        "for _ in range(2):\n"
        "    try:\n        registry.get('schedules', 'third-party/broken')\n"
        "    except registry.UserError as problem:\n        print(problem)\n"
        "print(registry.names('schedules').count('third-party/square'))\n"
    )
    listed, found, *failures, count = python(code, path=installed).splitlines()
    assert {"third-party/broken", "third-party/square", "cosine"} <= set(listed.split())
    assert found == "third-party/square ['name', 'source', 'version']"
    assert failures == ["the plugin schedule \"third-party/broken\" cannot be imported: OSError('no luck')"] * 2
    assert count == "1"


def test_a_suite_finds_an_entry_point(installed, tmp_path):
    (tmp_path / "x.toml").write_text(
        '[dataset]\nname = "digits"\n[diffusion]\nschedule = "third-party/broken"\n', encoding="utf-8"
    )
    code = (
        "from ddpm_bench import suite\n"
        "try:\n    suite.load(sys.argv[1])\nexcept suite.parts.UserError as problem:\n    print(problem)\n"
    )
    printed = python(code, str(tmp_path / "x.toml"), path=installed)
    assert (
        "diffusion.schedule: the plugin schedule \"third-party/broken\" cannot be imported: OSError('no luck')"
        in printed
    )
