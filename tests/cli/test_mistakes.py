"""What a user gets wrong: one clear message each, code 2, no traceback, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_bench import registry
from tests.cli.conftest import Call
from tests.extractors.made_weights import as_published
from tests.support import REPOSITORY, TINY, cli, write_suite

FIVE = """\
schema = 1
name = "five"

[dataset]
name = "digits"

[training]
batch_sise = 128
steps = "many"

[evaluation]
metrics = ["bits_per_dim"]

[sampling]
steps = 10

[matrix]
prediction = ["epsilon", "epsilom"]
variance = ["beta"]

[[exclude]]
variance = "beta_tilde"
"""
MESSAGES = [
    'five.toml:8: training.batch_sise: unknown key; did you mean "batch_size"?',
    'five.toml:9: training.steps: expected an integer, got the string "many"',
    'five.toml:14: sampling: unknown table; known: ',
    'five.toml:18: matrix.prediction[1]: unknown prediction "epsilom"; did you mean "epsilon"?',
    "five.toml:21: exclude[0]: matches no cell: variance is beta here",
]  # fmt: skip


@pytest.mark.parametrize("command", ["run", "plan"])
def test_five_mistakes_five_messages(tmp_path: Path, command: str) -> None:
    write_suite(tmp_path, FIVE, "five.toml")
    done = cli(command, "five.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == len(MESSAGES), done.stderr
    for line, message in zip(lines, MESSAGES, strict=True):
        assert line.startswith(message), line
    assert {path.name for path in tmp_path.iterdir()} == {"five.toml"}


def one_message(call: Call, *arguments: str | Path) -> str:
    """The single line that a wrong command answers with."""
    answer = call(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.errors) == 1, answer.err
    assert not Path("runs").exists()
    assert not Path("reports").exists()
    return answer.errors[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nosuch"], 'no suite file "nosuch", and no suite of that name under runs'),
        (["run", "nosuch.toml"], "nosuch.toml: no such suite file"),
        (["plan", "nosuch"], 'no suite file "nosuch", and no suite of that name under runs'),
        (["status"], "nothing has been run under runs; start with `ddpm-bench run SUITE`"),
        (["report"], "nothing has been run under runs; start with `ddpm-bench run SUITE`"),
        (["track", "sync"], "nothing has been run under runs; start with `ddpm-bench run SUITE`"),
        (["logs", "cell"], "nothing has been run under runs; start with `ddpm-bench run SUITE`"),
        (["status", "nosuch"], 'no suite "nosuch" under runs; nothing has been run there yet'),
        (["report", "nosuch"], 'no suite "nosuch" under runs; nothing has been run there yet'),
        (["report", "--format", "pdf"], "--format pdf: unknown; known: csv, json, markdown, latex"),
        (["run", "tiny.toml", "--jobs", "0"], "--jobs 0: expected auto or a positive number"),
        (["run", "tiny.toml", "--jobs", "many"], "--jobs many: expected auto or a positive number"),
        (["run", "tiny.toml", "--device", "tpu"], "--device tpu: unknown; known: auto, cpu, cuda"),
        (["run", "tiny.toml", "--executor", "cloud"], "--executor cloud: unknown; known: local"),
        (["run", "tiny.toml", "--set", "training"], "--set training: expected key=value"),
        (
            ["run", "tiny.toml", "--set", "training.stps=3"],
            '--set training.stps=3: training.stps: unknown key; did you mean "steps"?',
        ),
        (
            ["plan", "tiny.toml", "--set", "training.steps=many"],
            '--set training.steps=many: training.steps: expected an integer, got the string "many"',
        ),
        (
            ["run", "tiny.toml", "--only", "prediction=v"],
            "--only prediction=v: matches no cell: prediction is epsilon or x0 here",
        ),
        (["run", "tiny.toml", "--name", "../up"], '--name ../up: "../up" cannot name a directory: letters, digits and '
         "._- only, not beginning with . or -"),
        (["list", "schedulers"], 'unknown axis "schedulers"; did you mean "schedules"?'),
        (["show", "schedule", "cosin"], 'unknown schedule "cosin"; did you mean "cosine"?'),
        (["weights", "import", "nosuch.pth"], "nosuch.pth: no such file"),
    ],
)  # fmt: skip
def test_one_message(call: Call, arguments: list[str], message: str) -> None:
    write_suite(Path(), TINY)
    assert one_message(call, *arguments) == message


def test_every_wrong_set_is_named(call: Call) -> None:
    write_suite(Path(), TINY)
    answer = call("run", "tiny.toml", "--set", "training", "--set", "diffusion")
    assert (answer.code, answer.errors) == (
        2, ["--set training: expected key=value", "--set diffusion: expected key=value"],
    )  # fmt: skip


def test_a_file_that_is_no_toml(call: Call) -> None:
    write_suite(Path(), 'schema = 1\nname = "x\n', "broken.toml")
    assert one_message(call, "plan", "broken.toml").startswith("broken.toml:2: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["foo"], "No such command 'foo'"), (["run"], "Missing argument"), (["run", "a", "--jbos", "2"], "--jbos")],
)
def test_words_that_are_no_command(call: Call, arguments: list[str], text: str) -> None:
    answer = call(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert text in answer.err
    assert "Traceback" not in answer.err


def test_missing_data(call: Call, tmp_path: Path) -> None:
    write_suite(Path(), TINY.replace('"digits"', '"cifar10"'))
    message = one_message(call, "run", "tiny.toml")
    assert message.startswith("dataset: CIFAR-10 not found: looked for data_batch_1, ")
    for place in ("data/cifar-10-batches-py", "data/cifar10/cifar-10-batches-py"):
        assert str(tmp_path / place) in message
    assert "unpack https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in message
    assert "DDPM_BENCH_DATA" in message


WITH_FID = TINY.replace('"timestep_kl"]', '"timestep_kl", "fid", "inception_score"]')


def test_missing_weights(call: Call, tmp_path: Path) -> None:
    write_suite(Path(), WITH_FID)
    message = one_message(call, "run", "tiny.toml")
    assert message.startswith("fid, inception_score: extractor inception: its weights are missing (looked for ")
    assert str(tmp_path / "weights") in message
    assert "`ddpm-bench weights import weights-inception-2015-12-05-6726825d.pth`" in message
    assert message.endswith("(or go on without: --skip-missing)")


def test_missing_weights_can_be_skipped(call: Call) -> None:
    write_suite(Path(), WITH_FID)
    answer = call("plan", "tiny.toml", "--skip-missing")
    assert (answer.code, answer.err) == (0, "")
    lines = [line for line in answer.out.splitlines() if line.startswith("not computed: ")]
    assert len(lines) == 1  # whole, not wrapped at the width of the terminal
    assert lines[0].startswith("not computed: fid, fid_test, inception_score: extractor inception: its weights are")


def test_a_file_that_is_not_the_weights(call: Call, tmp_path: Path) -> None:
    """A name of its own, then that of a published file."""
    Path("other.pth").write_bytes(b"other weights")
    message = one_message(call, "weights", "import", "other.pth")
    # printf 'other weights' | sha256sum
    digest = "53959fa102f31e51d8d1ee12fe89c2fd7cd556dbaf2c6102046d195a504850a0"
    assert message.startswith("other.pth is none of the published weight files (`ddpm-bench weights list` shows them)")
    assert f": its SHA-256 is {digest}; " in message
    name = "weights-inception-2015-12-05-6726825d.pth"
    message = one_message(call, "weights", "import", Path("other.pth").rename(name))
    assert message.startswith(f"{name} is not {name}: its SHA-256 is {digest}, ")
    assert "expected 6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2" in message
    assert not (tmp_path / "weights").exists()


def test_weights_are_imported_for_the_extractor_that_wants_them(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddpm_bench.extractors.clip import Clip

    Path("download").write_bytes(b"CLIP")
    as_published(monkeypatch, Clip, Path("download"), 1)
    answer = call("weights", "import", "download")
    (target,) = (tmp_path / "weights").iterdir()
    assert (answer.code, answer.out) == (0, f"clip(model=rn101): {target}\n")
    assert target.read_bytes() == b"CLIP"
    lines = call("weights", "list").out.splitlines()
    (line,) = (line for line in lines if line.startswith("clip(model=rn101) "))
    # printf CLIP | sha256sum
    assert line.split()[1:] == ["512", "3a0d9b38281e4484", str(target)]
    target.write_bytes(b"changed")
    lines = call("weights", "list").out.splitlines()
    (line,) = (line for line in lines if line.startswith("clip(model=rn101) "))
    assert line.split(None, 3)[1:3] == ["512", "wrong"]
    assert "is not the published file: its SHA-256 is " in line


def test_weights_list_names_what_is_missing(call: Call, tmp_path: Path) -> None:
    answer = call("weights", "list")
    *lines, last = answer.out.splitlines()
    found = {line.split()[0]: line.split(None, 3)[1:] for line in lines}
    assert [len(line) - len(line.rstrip()) for line in lines] == [0] * len(lines)
    assert {name.partition("(")[0] for name in found} == set(registry.names("extractors"))
    assert {"clip", "clip(model=vit-l-14)", "dinov2(model=vit-b-14)"} <= found.keys()
    features, digest, path = found["efficientnet_lite0"]
    assert (features, digest) == ("1280", "579344248a93e230")
    assert path.endswith("efficientnet-lite0-57934424.pth")
    assert found["fashion_cnn"][2].endswith("fashion_cnn.safetensors")
    assert found["inception"][:2] == ["2048", "missing"]
    assert found["inception"][2].endswith("/v0.2.0/weights-inception-2015-12-05-6726825d.pth")
    assert last.startswith("missing: download the file, then `ddpm-bench weights import FILE` puts it in ")
    assert last.endswith(str(tmp_path / "weights"))


def test_nothing_is_left_when_only_planning(call: Call) -> None:
    answer = call("plan", REPOSITORY / "suites" / "digits_quickstart.toml")
    assert (answer.code, answer.err) == (0, "")
    assert not list(Path().iterdir())
