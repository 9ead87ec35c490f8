"""What is registered, by whom, and what is refused."""

from __future__ import annotations

import inspect
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
    assert inspect.cleandoc(entry.__doc__)
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
    with pytest.raises(TypeError, match=r"Bare is no frozen dataclass; put @register above @dataclass\("):

        @registry.register
        class Bare(Schedule, axis="bare"):
            """Documented."""

    class Undocumented(Schedule):
        value: float = 1.0

    with pytest.raises(TypeError, match="needs a written docstring"):
        registry.register(dataclass(frozen=True, kw_only=True)(Undocumented))

    for base in (object, registry.Entry):
        lost = type("Lost", (base,), {"__doc__": "Lost.", "__module__": __name__})
        with pytest.raises(TypeError, match="Lost has no axis; subclass Schedule, Loss"):
            registry.register(dataclass(frozen=True)(lost))

    with pytest.raises(TypeError, match="is no frozen dataclass"):
        registry.register(dataclass(type("Loose", (Schedule,), {"__doc__": "Loose.", "__module__": __name__})))


def test_a_variant_is_a_function_without_arguments():
    def asks(steps: int = 3) -> dict[str, int]:
        """Documented."""
        return {"timesteps": steps}

    with pytest.raises(TypeError, match=r"asks: a variant is a function without arguments"):
        registry.register(asks)


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
        ("cosine", TEXT, 'the name "cosine" of cosine.Mine is taken by ddpm_bench.diffusion.schedules.cosine'),
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
    assert name == "cosine" or name not in registry.names("schedules")  # one that fails half-way leaves nothing behind


def test_a_plugin_cannot_take_a_name_before_its_owner_is_imported(plugin):
    """In a fresh process cosine is known by its file only."""
    code = (
        "from pathlib import Path\nfrom ddpm_bench import registry\n"
        "try:\n    registry.load_plugin_file(Path(sys.argv[1]))\nexcept Exception as problem:\n    print(problem)\n"
        "assert registry.get('schedules', 'cosine').__module__ == 'ddpm_bench.diffusion.schedules.cosine'\n"
    )
    assert "is taken by ddpm_bench.diffusion.schedules.cosine" in python(code, str(plugin("cosine")))


def test_a_plugin_file_that_was_edited_is_loaded_again(plugin):
    """As in a notebook; a module that keeps its old code would be hashed with its new text."""
    text = TEXT + "    value: float = 1.0\n"
    path = plugin("registry_test_edited", text)
    registry.load_plugin_file(path)
    first = registry.get("schedules", "registry_test_edited")
    plugin("registry_test_edited", "# A comment.\n" + text.replace("\n\n", "\n\n\n"))
    registry.load_plugin_file(path)
    second = registry.get("schedules", "registry_test_edited")
    assert second is not first
    assert second().identity() == first().identity()
    plugin("registry_test_edited", text.replace("1.0", "2.0"))  # of the same size, perhaps within the same second
    registry.load_plugin_file(path)
    third = registry.get("schedules", "registry_test_edited")()
    assert third.value == 2.0
    assert third.identity()["source"] != second().identity()["source"]
    plugin("registry_test_edited", "raise OSError('no luck')")
    with pytest.raises(UserError, match="cannot be imported: OSError: no luck"):
        registry.load_plugin_file(path)
    assert "registry_test_edited" not in registry.names("schedules")
    plugin("registry_test_edited", text)
    registry.load_plugin_file(path)
    assert registry.get("schedules", "registry_test_edited")().identity() == first().identity()


def test_a_missing_plugin_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        registry.load_plugin_file(tmp_path / "none.py")


def test_two_plugin_files_of_one_name(plugin):
    registry.load_plugin_file(plugin("registry_test_pair", folder="a"))
    with pytest.raises(UserError, match="exists already; rename the file"):
        registry.load_plugin_file(plugin("registry_test_pair", folder="b"))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which a distribution is installed, most of whose entry points are mistakes."""
    package, information = tmp_path / "third_party", tmp_path / "third_party-1.0.dist-info"
    package.mkdir()
    information.mkdir()
    modules = {
        "__init__": "",
        "square": TEXT,
        "broken": "raise OSError('no luck')\n",
        "halfway": TEXT + "raise OSError('no luck')\n",
        "bare": "class Mine: pass\n",
        "renamed": TEXT,
    }
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n", encoding="utf-8")
    (information / "entry_points.txt").write_text(
        "[ddpm_bench.schedules]\n"
        + "".join(f"{name} = third_party.{name}:Mine\n" for name in modules if name not in ("__init__", "renamed"))
        + "other = third_party.renamed:Mine\n"
        + "[ddpm_bench.weightings]\nsquare = third_party.square:Mine\n",
        encoding="utf-8",
    )
    return tmp_path


PRINT = """
def show(axis, name):
    try:
        print(registry.get(axis, name).name)
    except registry.UserError as problem:
        print(problem)
from ddpm_bench import registry
"""


def test_entry_points_are_listed_without_importing_and_named_after_their_package(installed):
    code = PRINT + (
        "print(*registry.names('schedules'))\n"
        "assert 'third_party' not in sys.modules\n"
        "found = registry.get('schedules', 'third-party/square')\n"
        "print(found.name, sorted(found().identity()))\n"
        "print(registry.names('schedules').count('third-party/square'))\n"
    )
    listed, found, count = python(code, path=installed).splitlines()
    assert {"third-party/broken", "third-party/square", "cosine"} <= set(listed.split())
    assert found == "third-party/square ['name', 'source', 'version']"
    assert count == "1"


@pytest.mark.parametrize(
    ("axis", "name", "message"),
    [
        ("schedules", "broken", "cannot be imported: OSError: no luck"),
        ("schedules", "halfway", "cannot be imported: OSError: no luck"),
        ("schedules", "bare", 'third_party.bare:Mine is not registered; an entry point leads to a registered class'),
        ("schedules", "other", 'third_party.renamed:Mine is the schedule "third-party/renamed"; an entry point'),
        ("weightings", "square", 'third_party.square:Mine is the schedule "third-party/square"; an entry point'),
    ],
)  # fmt: skip
def test_an_entry_point_that_is_wrong_says_why_each_time_and_disturbs_no_other(installed, axis, name, message):
    code = PRINT + (
        "for _ in range(2):\n    show(*sys.argv[1:])\n"
        "show('schedules', 'third-party/square'); show('schedules', 'cosine')\n"
    )
    *wrong, square, cosine = python(code, axis, f"third-party/{name}", path=installed).splitlines()
    key = registry.AXES[axis].key
    assert wrong[0] == wrong[1]
    assert wrong[0].startswith(f'the plugin {key} "third-party/{name}"')
    assert message in wrong[0]
    assert (square, cosine) == ("third-party/square", "cosine")


def test_what_a_package_imports_itself_is_named_after_it_too(installed):
    code = PRINT + "import third_party.square\nshow('schedules', 'third-party/square')\n"
    assert python(code, path=installed) == "third-party/square\n"


def test_where_an_entry_is(installed, plugin):
    code = (
        "from ddpm_bench import registry\nprint(registry.origin(*sys.argv[1:])); assert len(registry._registered) == 0"
    )
    assert python(code, "schedule", "cosine") == "ddpm_bench.diffusion.schedules.cosine\n"
    assert python(code, "schedule", "third-party/broken", path=installed) == "third_party.broken:Mine\n"
    registry.load_plugin_file(plugin("registry_test_origin"))
    assert registry.origin("schedule", "registry_test_origin") == "registry_test_origin:Mine"


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
        'diffusion.schedule: the plugin schedule "third-party/broken" cannot be imported: OSError: no luck' in printed
    )
