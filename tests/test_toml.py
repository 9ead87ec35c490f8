"""Reading suites: where keys stand, `extends`, and `--set`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_bench import toml
from ddpm_bench._toml_lines import lines
from ddpm_bench.errors import UserError


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write


EXAMPLE = (
    '''\
schema = 1 # [not.a.header]
title = """
[nor.this]
key = 1 """

[dataset]
name = "a # b ] } , ="

# [comment]
[ network . inner ]  # spaces
'quoted key' = 1
a.b.c = { d = 1, e = [2,
  3], "f" = 1979-05-27 07:32:00 }
[[claim]]
better = { prediction = "x0" }
[claim.where]
loss = "simple"
[[claim]]
better = { prediction = "\\"x0\\"" }
    [[claim.deep]]
    x = \'\'\'it's'''
    + "''''"
    + '''
    [[claim.deep]]
    x = [ # comment ]
      """two "quotes\\"""" ,
      { y = 1 },
    ]
[matrix]
seed = []
'''
)

EXPECTED = {
    "schema": 1,
    "title": 2,
    "dataset": 6,
    "dataset.name": 7,
    "network": 10,
    "network.inner": 10,
    "network.inner.quoted key": 11,
    "network.inner.a": 12,
    "network.inner.a.b": 12,
    "network.inner.a.b.c": 12,
    "network.inner.a.b.c.d": 12,
    "network.inner.a.b.c.e": 12,
    "network.inner.a.b.c.e[0]": 12,
    "network.inner.a.b.c.e[1]": 13,
    "network.inner.a.b.c.f": 13,
    "claim": 14,
    "claim[0]": 14,
    "claim[0].better": 15,
    "claim[0].better.prediction": 15,
    "claim[0].where": 16,
    "claim[0].where.loss": 17,
    "claim[1]": 18,
    "claim[1].better": 19,
    "claim[1].better.prediction": 19,
    "claim[1].deep": 20,
    "claim[1].deep[0]": 20,
    "claim[1].deep[0].x": 21,
    "claim[1].deep[1]": 22,
    "claim[1].deep[1].x": 23,
    "claim[1].deep[1].x[0]": 24,
    "claim[1].deep[1].x[1]": 25,
    "claim[1].deep[1].x[1].y": 25,
    "matrix": 27,
    "matrix.seed": 28,
}


def test_lines_of_every_way_to_write_a_key():
    assert lines(EXAMPLE) == EXPECTED


def paths(value: Any, path: str = "") -> set[str]:
    """Every path of a parsed document."""
    if isinstance(value, dict):
        items = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        return set()
    return {name for name, _ in items}.union(*(paths(item, name) for name, item in items))


def test_the_example_is_what_tomllib_reads():
    assert paths(tomllib.loads(EXAMPLE)) == set(EXPECTED)


scalars = st.sampled_from(["1", "-2.5e3", "true", '"a]b}c,d#e=f"', "'\\'", '""', "''", '"\\""', "1979-05-27T07:32:00Z"])
keys = st.sampled_from(["a", "b-c", "d_1", "1", '"x y"', "'#'"])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> list[str]:
    """The lines of a value, as a list of pieces between which a line may end."""
    kind = draw(st.sampled_from(["scalar", "list", "table", "text"] if depth else ["scalar"]))
    if kind == "scalar":
        return [draw(scalars)]
    if kind == "text":
        return ['"""one "\n', "[x]\n", '= 2"""']
    if kind == "list":
        inside = draw(st.lists(values(depth - 1), max_size=3))  # type: ignore[call-arg]
        breaks = draw(st.sampled_from([", ", ",\n", ", # ]\n"]))
        return ["[", *(piece for item in inside for piece in [*item, breaks]), "]"]
    names = draw(st.lists(keys, max_size=2, unique=True))
    pieces = [piece for name in names for piece in [f"{name} = ", *draw(values(depth - 1)), ", "]]  # type: ignore[call-arg]
    return ["{", *pieces[:-1], "}"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "#[c]\n"]), st.lists(st.tuples(keys, values()), max_size=3, unique_by=lambda p: p[0])
        ),
        max_size=4,
    )
)
def test_lines_agree_with_how_the_text_was_made(tables):
    text, expected = "", {}
    for index, (comment, pairs) in enumerate(tables):
        text += comment
        expected[f"t[{index}]"] = text.count("\n") + 1
        text += "[[t]]\n"
        for key, pieces in pairs:
            expected[f"t[{index}].{key.strip(chr(34) + chr(39))}"] = text.count("\n") + 1
            text += f"{key} = {''.join(pieces)}\n"
    found = lines(text)
    assert {path: found[path] for path in expected} == expected
    assert paths(tomllib.loads(text)) == set(found)


def test_where_falls_back_to_what_encloses_the_key(write):
    document = toml.read(write("suites/x.toml", '\n[training]\nsteps = 1\n[[claim]]\nbetter = {prediction = "x0"}\n'))
    assert document.where("training.steps") == "suites/x.toml:3"
    assert document.where("training.missing") == "suites/x.toml:2"
    assert document.where("claim[0].better.loss.weighting") == "suites/x.toml:5"
    assert document.where("dataset") == "suites/x.toml:1"


@pytest.mark.parametrize(
    ("text", "line", "place"),
    [
        ("a = 1\nb = = 2\n", 2, "(column 5)"),
        ("a = 1\na = 2\n", 2, "(column 6)"),
        ("a = [1,\n\n", 1, "(at the end of the file)"),
    ],
)
def test_syntax_errors_have_a_line(write, text, line, place):
    write("x.toml", text)
    with pytest.raises(UserError) as caught:
        toml.read("x.toml")
    assert re.fullmatch(rf"x\.toml:{line}: not valid TOML: [a-z][\w ]+ {re.escape(place)}", str(caught.value))


def test_unreadable_files(write, tmp_path):
    Path("latin.toml").write_bytes(b'title = "\xe9"\n')
    for name, text in (("none.toml", "No such file"), ("latin.toml", "not UTF-8"), (str(tmp_path), "directory")):
        with pytest.raises(UserError, match=text):
            toml.read(name)


def test_windows_line_ends_count_as_one(write, tmp_path):
    Path("x.toml").write_bytes(b"a = 1\r\n\r\n[b]\r\nc = 2\r\n")
    assert toml.read("x.toml").where("b.c") == "x.toml:4"


def test_extends_merges_tables_and_replaces_the_rest(write):
    write(
        "deep/root.toml",
        'name = "root"\ntitle = "T"\n[training]\nsteps = 1\nbatch_size = 2\n'
        '[network]\nname = "unet"\nchannels = 8\n[diffusion]\nloss = "simple"\n'
        '[matrix]\nseed = [1, 2]\n[[claim]]\nstatement = "a"\n[[claim]]\nstatement = "b"\n',
    )
    write("deep/base.toml", 'extends = "root.toml"\n[training]\nbatch_size = 3\n')
    document = toml.read(
        write(
            "x.toml",
            'extends = "deep/base.toml"\n[training]\nlearning_rate = 1.0\n[network]\nname = "closed_form"\n'
            '[diffusion.loss]\nweighting = "snr"\n[matrix]\nseed = [3]\n[[claim]]\nstatement = "c"\n',
        )
    )
    assert document.tables == {
        "extends": "deep/base.toml",
        "training": {"steps": 1, "batch_size": 3, "learning_rate": 1.0},
        "network": {"name": "closed_form"},
        "diffusion": {"loss": {"name": "simple", "weighting": "snr"}},
        "matrix": {"seed": [3]},
        "claim": [{"statement": "c"}],
    }
    assert document.extends == (Path("deep/base.toml"), Path("deep/root.toml"))
    assert document.where("training.steps") == "deep/root.toml:4"
    assert document.where("training.batch_size") == "deep/base.toml:3"
    assert document.where("training.learning_rate") == "x.toml:3"
    assert document.where("network.channels") == "x.toml:4"  # the base's line is gone with its value
    assert document.where("claim[1]") == "x.toml:10"
    assert document.where("matrix.seed[1]") == "x.toml:9"


def test_extends_keeps_parameters_of_the_same_entry(write):
    write("base.toml", '[network]\nname = "unet"\nchannels = 8\n')
    document = toml.read(write("x.toml", 'extends = "base.toml"\n[network]\nname = "unet"\ngroups = 4\n'))
    assert document.tables["network"] == {"name": "unet", "channels": 8, "groups": 4}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"x": 'a = 1\nextends = "x.toml"'},
            "x.toml:2: extends: x.toml extends this file; one of the two must stand alone",
        ),
        ({"x": 'extends = "y.toml"', "y": '\nextends = "./x.toml"'}, "y.toml:2: extends: x.toml extends this file"),
        ({"x": 'extends = "no.toml"'}, "x.toml:1: extends: no.toml: no such file"),
        ({"x": "extends = 3"}, "x.toml:1: extends: expected the path of a suite, got the integer 3"),
        ({"x": 'extends = "y.toml"', "y": "a = 1\n= 2"}, "y.toml:2: not valid TOML"),
    ],
)
def test_extends_that_leads_nowhere(write, files, message):
    for name, text in files.items():
        write(f"{name}.toml", text)
    with pytest.raises(UserError) as caught:
        toml.read("x.toml")
    assert caught.value.problems[0].startswith(message)


SUITE = """\
[dataset]
name = "digits"
size = 16

[network]
channels = 8
[diffusion]
loss = "simple"

[matrix]
prediction = ["x0", "v"]
"""


def changed(write, *assignments: str) -> toml.Document:
    return toml.apply(toml.read(write("x.toml", SUITE)), assignments)


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("training.steps=20", "training.steps", 20),
        ("training.learning_rate = 1e-3", "training.learning_rate", 1e-3),
        ("dataset.name=image_folder", "dataset", {"name": "image_folder"}),
        ("dataset.name=digits", "dataset", {"name": "digits", "size": 16}),
        (
            'dataset={name = "image_folder", path = "x", size = 32}',
            "dataset",
            {"name": "image_folder", "path": "x", "size": 32},
        ),
        ("dataset=digits", "dataset", "digits"),
        ("dataset.path=/data/my images", "dataset.path", "/data/my images"),
        ("matrix.timesteps=[30]", "matrix.timesteps", [30]),
        ("matrix.seed=[0,1]", "matrix.seed", [0, 1]),
        ("matrix.network.channels=[1]", "matrix.network", {"channels": [1]}),
        ("network.channels=16", "network", {"channels": 16}),
        ("diffusion.loss.weighting=snr", "diffusion.loss", {"name": "simple", "weighting": "snr"}),
        ("title=a = b", "title", "a = b"),
        ("training.tf32=true", "training.tf32", True),
        ('name="007"', "name", "007"),
        ("name=007", "name", "007"),
        ("claim=[]", "claim", []),
    ],
)
def test_set(write, assignment, path, value):
    document = changed(write, assignment)
    found: Any = document.tables
    for key in path.split("."):
        found = found[key]
    assert found == value
    assert type(found) is type(value)
    assert document.where(assignment.partition("=")[0].strip()) == f"--set {assignment}"
    assert document.overrides == (assignment,)
    assert document.written == tomllib.loads(SUITE)


def test_set_does_not_depend_on_the_order_of_a_name_and_its_parameters(write):
    one = changed(write, "dataset.path=x", "dataset.name=image_folder", "dataset.size=32")
    other = changed(write, "dataset.name=image_folder", "dataset.size=32", "dataset.path=x")
    assert one.tables == other.tables
    assert one.tables["dataset"] == {"name": "image_folder", "path": "x", "size": 32}
    assert one.where("dataset") == "--set dataset.name=image_folder"


def test_the_last_of_equal_keys_wins(write):
    assert changed(write, "training.steps=1", "training.steps=2").tables["training"] == {"steps": 2}


def test_set_forgets_the_lines_of_what_it_replaced(write):
    document = changed(write, 'matrix.prediction=["mu"]', "dataset.name=gaussian")
    assert document.where("matrix.prediction[1]") == '--set matrix.prediction=["mu"]'
    assert document.where("dataset.size") == "--set dataset.name=gaussian"
    assert document.where("network.channels") == "x.toml:6"


def test_set_refuses_all_that_is_no_assignment_at_once(write):
    wrong = ["steps", "=3", "a=", "a b=3", "x=[1", 'x="y', "extends=y.toml", "dataset.size.x=3", "x=1\ny=2"]
    with pytest.raises(UserError) as caught:
        changed(write, "training.steps=3", *wrong)
    assert len(caught.value.problems) == len(wrong) - 1  # text that is no TOML value is a string, several lines too
    assert {problem.partition(": ")[0] for problem in caught.value.problems} == {f"--set {item}" for item in wrong[:-1]}
    assert (
        "--set dataset.size.x=3: dataset.size is the integer 16, not a table; set it as a whole"
        in caught.value.problems
    )


def test_apply_leaves_the_document_as_it_was(write):
    document = toml.read(write("x.toml", SUITE))
    toml.apply(document, ["network.channels=9", "matrix.seed=[3]"])
    assert document.tables == tomllib.loads(SUITE)
    assert document.overrides == ()


def test_dates_become_text_in_json():
    table = tomllib.loads("a = 2026-01-02\nb = [07:32:00, 1.5, true]\nc = { d = 2026-01-02T03:04:05Z }")
    assert toml.to_json(table) == {
        "a": "2026-01-02",
        "b": ["07:32:00", 1.5, True],
        "c": {"d": "2026-01-02T03:04:05+00:00"},
    }
