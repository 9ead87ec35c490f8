"""`plan`: the cells, what they share, what exists, what it costs and what stops it; nothing is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddpm_bench.cli._plan_table import _size, _time
from ddpm_bench.planning.cost import Cost
from tests.cli.conftest import Call
from tests.conftest import FinishedRun
from tests.support import REPOSITORY, TINY, cli, write_suite

CIFAR = REPOSITORY / "suites" / "cifar_ablation.toml"


def table_rows(text: str) -> list[list[str]]:
    """The cells of the rows of a rich table, its head left out."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]


def test_cifar_ablation(call: Call, tmp_path: Path) -> None:
    answer = call("plan", CIFAR)
    assert answer.code == 2
    rows = table_rows(answer.out)
    assert len(rows) == 16
    assert len({number for _, number, _ in rows}) == 12
    assert {exists for _, _, exists in rows} == {"nothing"}
    numbers = {cell: number for cell, number, _ in rows}
    for prediction in ("epsilon", "x0"):
        for schedule in ("linear", "cosine"):
            cells = {loss: {numbers[f"{prediction}-{variance}-{schedule}-{loss}-s0"] for variance in
                            ("beta", "beta_tilde")} for loss in ("simple", "vlb")}  # fmt: skip
            assert (len(cells["simple"]), len(cells["vlb"])) == (1, 2)
    assert "16 cells, 12 trainings, 0 of them exist" in answer.out
    assert "data: cifar10, not decoded yet" in answer.out
    # 12 trainings of 800,000 steps of 128 images
    assert f"{12 * 800_000 * 128:,} training images" in " ".join(answer.out.split())
    data, weights = answer.errors
    assert data.startswith("dataset: CIFAR-10 not found: looked for ")
    assert str(tmp_path / "data") in data
    assert weights.startswith("fid, inception_score: extractor inception: its weights are missing (looked for ")
    assert str(tmp_path / "weights") in weights
    assert not list(Path().iterdir())
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "weights").exists()


def test_it_fits_a_terminal_of_eighty_columns(call: Call) -> None:
    answer = call("plan", REPOSITORY / "suites" / "digits_quickstart.toml")
    assert (answer.code, answer.err) == (0, "")
    assert max(map(len, answer.out.splitlines())) <= 80


def test_a_run_that_would_start_has_code_0(tmp_path: Path) -> None:
    done = cli("plan", REPOSITORY / "suites" / "digits_quickstart.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 cells, 2 trainings, 0 of them exist" in done.stdout
    assert "time: unknown, this machine has not measured these networks yet" in done.stdout
    assert not list(tmp_path.iterdir())


def test_illegal_cells_are_listed_with_their_reason(call: Call) -> None:
    text = TINY.replace("schema = 1", 'schema = 1\non_illegal = "skip"').replace(
        "[matrix]", "[matrix]\ntimesteps = [20, 30]"
    )
    write_suite(Path(), text.replace('schedule = "cosine"\n', ""))
    answer = call("plan", "tiny.toml")
    assert answer.code == 0
    assert len(table_rows(answer.out)) == 4  # what has a meaning
    assert "4 cells, 2 trainings" in answer.out
    lines = [line for line in answer.out.splitlines() if line.startswith("illegal")]
    assert len(lines) == 1
    assert lines[0].startswith("illegal, 4 of 8 cells (timesteps = 20): ")
    assert "needs more than 20 timesteps" in lines[0]


def test_a_single_illegal_cell_is_named(call: Call) -> None:
    text = TINY.replace("schema = 1", 'schema = 1\non_illegal = "skip"')
    write_suite(Path(), text.replace('variance = ["beta", "beta_tilde"]', 'variance = ["beta", "learned_range"]')
                .replace('prediction = ["epsilon", "x0"]', 'prediction = ["epsilon"]'))  # fmt: skip
    lines = [line for line in call("plan", "tiny.toml").out.splitlines() if line.startswith("illegal")]
    who = "illegal, 1 of 2 cells (epsilon-learned_range-cosine-simple-s0): "
    assert lines == [f"{who}loss simple with variance learned_range: nothing trains the variance head"]


@pytest.mark.xdist_group("runs")
class TestWithAFinishedRun:
    """What exists is said, and why the rest is not reused."""

    def test_everything_exists(self, call: Call, finished_tiny: FinishedRun) -> None:
        answer = call("plan", finished_tiny.suite, "--runs", finished_tiny.runs)
        assert (answer.code, answer.err) == (0, "")
        assert [row[1:] for row in table_rows(answer.out)] == [["1", "all"], ["1", "all"], ["2", "all"], ["2", "all"]]
        assert "4 cells, 2 trainings, 2 of them exist" in answer.out
        assert "data: digits, 1×8×8, 17 levels, 1293/144/360 train/validation/test" in answer.out
        assert answer.out.endswith("nothing to do: every artifact exists\n")

    def test_by_the_name_of_a_suite_run_before(self, call: Call, finished_tiny: FinishedRun) -> None:
        answer = call("plan", "tiny", "--runs", finished_tiny.runs)
        assert "4 cells, 2 trainings, 2 of them exist" in answer.out

    def test_longer_trainings_and_measured_time(self, call: Call, finished_tiny: FinishedRun) -> None:
        answer = call("plan", finished_tiny.suite, "--runs", finished_tiny.runs, "--set", "training.steps=60")
        assert answer.code == 0
        assert (
            "shorter trainings that go on\n"
            "  ε, σ²=β, cosine, L_simple: from step 40 to 60\n"
            "  x₀, σ²=β, cosine, L_simple: from step 40 to 60\n"
        ) in answer.out
        assert "not reused" not in answer.out
        assert re.search(r"^time: about .* on one worker, as measured on this machine$", answer.out, re.MULTILINE)
        # 2 trainings go on from 40 to 60 steps of 16 images; 2 scores of 24 images at 10 steps, the first one twice,
        # 4 times 20 samples and as often the 16 images of a gallery
        assert "640 training images, 1,968 network calls" in " ".join(answer.out.split())

    def test_changed_fields(self, call: Call, finished_tiny: FinishedRun) -> None:
        answer = call("plan", finished_tiny.suite, "--runs", finished_tiny.runs, "--set", "training.learning_rate=0.5")
        assert "that go on" not in answer.out
        assert (
            "not reused, since the nearest training differs in (there → here)\n"
            "  ε, σ²=β, cosine, L_simple: options.learning_rate: 0.002 → 0.5\n"
            "  x₀, σ²=β, cosine, L_simple: options.learning_rate: 0.002 → 0.5\n"
        ) in answer.out

    def test_what_exists_of_a_cell(self, call: Call, finished_tiny: FinishedRun) -> None:
        answer = call("plan", finished_tiny.suite, "--runs", finished_tiny.runs, "--set", "evaluation.samples=130")
        lines = [exists for _, _, exists in table_rows(answer.out)]
        # in two lines of 80 columns
        assert " ".join(lines) == " ".join(["train, score, likelihood, gallery, forward"] * 4)

    def test_only(self, call: Call, finished_tiny: FinishedRun) -> None:
        answer = call("plan", finished_tiny.suite, "--runs", finished_tiny.runs, "--only", "prediction=x0")
        assert [cell for cell, _, _ in table_rows(answer.out)] == [
            "x0-beta-cosine-simple-s0", "x0-beta_tilde-cosine-simple-s0",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (7.4, "about 7 s of"),
        (65.0, "about 1 min 5 s of"),
        (3600.0 * 30 + 120, "about 30 h 2 min of"),
    ],
)
def test_time_for_people(seconds: float | None, text: str) -> None:
    assert _time(Cost(seconds=seconds)).startswith(f"time: {text}")


def test_size_for_people() -> None:
    assert (_size(3 * 2**19), _size(5 * 2**30)) == ("1.5 MiB", "5.0 GiB")


CLAIM = """
[[claim]]
statement = "ε needs fewer bits"
metric = "bits_per_dim"
better = { prediction = "epsilon" }
than = { prediction = "x0" }

[[claim]]
statement = "β needs fewer bits"
metric = "bits_per_dim"
better = { variance = "beta" }
than = { variance = "beta_tilde" }
"""


def test_a_suite_that_was_not_run_is_found_by_its_file(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    answer = call("plan", "cifar_ablation")
    assert answer.code == 2
    assert answer.errors[0].endswith("; did you mean suites/cifar_ablation.toml?")


def test_claims_that_cannot_be_decided_are_said_before(call: Call, tmp_path: Path) -> None:
    file = write_suite(tmp_path, TINY + CLAIM)
    one = call("plan", file)
    assert "warning: 2 of 2 claims will be untestable: a verdict needs 6 seeds, there is 1 seed; add seeds" in one.out
    six = call("plan", file, "--set", "matrix.seed=[0,1,2,3,4,5]")
    assert (six.code, "untestable" in six.out, "sign-flip" in six.out) == (0, False, False)


def test_holm_and_the_sign_flip_test(call: Call, tmp_path: Path) -> None:
    """2^(1 − 6) = 0.031; of two claims in one family 0.0625 is the least adjusted p. The one within a training is alone
    in its family."""
    again = CLAIM[: CLAIM.index("[[claim]]", 10)].replace('"epsilon"', '"?"').replace('"x0"', '"epsilon"')
    file = write_suite(tmp_path, TINY + CLAIM + again.replace('"?"', '"x0"'))
    answer = call("plan", file, "--set", "matrix.seed=[0,1,2,3,4,5]")
    assert [line for line in answer.out.splitlines() if "sign-flip" in line] == [
        "warning: with 6 seeds the sign-flip p is 0.031 at least, times 2 claims across trainings (Holm) 0.062: it can "
        "confirm none of them; verdicts rest on the t test"
    ]


def test_an_equivalence_can_have_half_the_sign_flip_p(call: Call, tmp_path: Path) -> None:
    """2^(−6) = 0.016, twice: 0.031. A third claim that is no equivalence brings 0.047, which is enough too."""
    same = """
[[claim]]
statement = "{} equal"
metric = "bits_per_dim"
equivalent = [{{ variance = "beta" }}, {{ variance = "beta_tilde" }}]
margin = {}
"""
    two = same.format("nearly", 0.1) + same.format("quite", 0.01)
    six = ("--set", "matrix.seed=[0,1,2,3,4,5]")
    assert "sign-flip" not in call("plan", write_suite(tmp_path, TINY + two), *six).out
    within = CLAIM[CLAIM.index("[[claim]]", 10) :]
    assert "sign-flip" not in call("plan", write_suite(tmp_path, TINY + two + within), *six).out
    three = two + same.format("very", 0.001) + within
    assert "p is 0.016 at least, times 4 claims within a training (Holm) 0.062" in " ".join(
        call("plan", write_suite(tmp_path, TINY + three), *six).out.split()
    )


def test_claims_without_a_family_are_said_before(call: Call, tmp_path: Path) -> None:
    """Weightings of ε make one training, of x₀ two: a claim over both has no family."""
    text = TINY.replace("[matrix]", '[matrix]\nloss = ["simple", { name = "simple", weighting = "snr" }]')
    claim = """
[[claim]]
statement = "SNR weighting helps"
metric = "bits_per_dim"
better = { loss = { name = "simple", weighting = "snr" } }
than = { loss = { name = "simple", weighting = "none" } }
"""
    answer = call("plan", write_suite(tmp_path, text + claim), "--set", "matrix.seed=[0,1,2,3,4,5]")
    assert '"SNR weighting helps" will be untestable: the cells of 12 of 24 pairs share a training' in " ".join(
        answer.out.split()
    )


def test_seeds_of_a_variant_are_one_line_of_what_is_not_reused(finished_tiny: FinishedRun, call: Call) -> None:
    answer = call("plan", finished_tiny.suite, "--runs", finished_tiny.runs, "--set", "training.learning_rate=0.1",
                  "--set", "matrix.seed=[0,1,2]")  # fmt: skip
    lines = [line for line in answer.out.splitlines() if "learning_rate: " in line]
    assert lines
    assert len(lines) == len({line.split(" (")[0] for line in lines})
    assert all("(3 seeds, the first one shown): " in line for line in lines)
