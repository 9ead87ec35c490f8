"""`ddpm-bench data`: what is there, fetching it (from a server on this machine), checking it."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import socket
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ddpm_bench import registry
from ddpm_bench.datasets import _idx, fashion_mnist
from ddpm_bench.datasets.celeba import Celeba
from ddpm_bench.vision import import_torchvision
from tests.cli.conftest import Call
from tests.datasets.idx import NAMES, idx, small_shapes, write_idx_files


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither Debian's package nor a proxy."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a small MNIST that a server on this machine offers, with torchvision's table adapted to it."""
    folder = tmp_path / "server"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sums = []
    for name, shape in small_shapes().items():
        content = gzip.compress(idx(rng.integers(0, 10, size=shape, dtype=np.uint8)))
        (folder / name).write_bytes(content)
        sums.append((name, hashlib.md5(content).hexdigest()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        mnist = import_torchvision().datasets.MNIST
        monkeypatch.setattr(mnist, "mirrors", [f"http://127.0.0.1:{running.server_address[1]}/"])
        monkeypatch.setattr(mnist, "resources", sums)
        monkeypatch.setattr(_idx, "SHAPES", small_shapes())
        yield folder
        running.shutdown()
        thread.join()


def unreachable() -> str:
    """An address on this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


class TestList:
    def test_every_data_set_has_its_lines(self, call: Call, tmp_path: Path) -> None:
        answer = call("data", "list")
        assert (answer.code, answer.err) == (0, "")
        first, *lines = answer.out.splitlines()
        assert first == f"looked for in {tmp_path / 'data'} (DDPM_BENCH_DATA)"
        assert [line.split()[0] for line in lines if not line.startswith(" ")] == registry.names("datasets")
        assert "mnist          60000 training and 10000 test images, 1×28×28, 256 levels" in lines
        assert "digits         1437 training and 360 test images, 1×8×8, 17 levels" in lines
        assert answer.out.count("missing: ") == 4  # celeba, cifar10, fashion_mnist, mnist
        assert answer.out.count("needs no files") == 2  # digits, gaussian
        assert answer.out.count("licence: ") == len(registry.names("datasets"))
        assert "licence: MIT; download: about 31 MB" in answer.out
        assert not (tmp_path / "data").exists()

    def test_what_is_there_is_found(self, call: Call, tmp_path: Path) -> None:
        write_idx_files(tmp_path / "data" / "MNIST" / "raw", small_shapes())
        out = call("data", "list").out
        assert f"found: {tmp_path / 'data' / 'MNIST' / 'raw'}" in out
        assert out.count("missing: ") == 3

    def test_what_a_data_set_says_of_its_size_is_true(self) -> None:
        """Of those that every machine has; the files of the others are checked by their readers."""
        for name in ("digits", "gaussian"):
            dataset = registry.get("datasets", name)()
            images = dataset.load(Path())
            assert images.train.shape[1:] == dataset.shape(Path())
            if dataset.published.num_images is not None:
                assert dataset.published.num_images == (len(images.train), len(images.test))


class TestFetch:
    def test_size_and_place_come_first_then_the_question(
        self, call: Call, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for reply, ending in (("n\n", "nothing was downloaded\n"), ("y\n", "")):
            monkeypatch.setattr(sys, "stdin", io.StringIO(reply))
            answer = call("data", "fetch", "mnist")
            assert answer.code == 0
            said = answer.out.splitlines()
            assert said[0].startswith("mnist origin: http://yann.lecun.com/exdb/mnist/; licence: ")
            assert said[0].endswith("download: 11.6 MB")
            assert said[1] == f"to {tmp_path / 'data' / 'MNIST' / 'raw'}"
            assert said[2].startswith("Download it? [y/N]: ")
            assert answer.out.endswith(ending)
            assert (tmp_path / "data").exists() == (reply == "y\n")

    def test_it_is_what_the_data_set_reads(self, call: Call, server: Path, tmp_path: Path) -> None:
        answer = call("data", "fetch", "mnist", "--yes")
        raw = tmp_path / "data" / "MNIST" / "raw"
        assert answer.code == 0, answer.err
        assert answer.out.splitlines()[-1] == f"mnist is in {raw}"
        for name in NAMES:
            assert (raw / name).read_bytes() == (server / name).read_bytes()
        assert {path.name for path in (tmp_path / "data").iterdir()} == {"MNIST"}
        images = registry.get("datasets", "mnist")().load(tmp_path / "data")
        assert (len(images.train), len(images.test)) == (20, 10)
        checked = call("data", "verify", "mnist")
        assert checked.code == 0
        assert checked.out.splitlines() == [
            *(f"{raw / name}: MD5 as published" for name in NAMES),
            "decoded: 20 training and 10 test images, 1×28×28",
            "grey levels 0 to 9 of 0 to 255",
            "mnist is sound",
        ]

    def test_what_is_there_is_not_fetched_again(self, call: Call, server: Path, tmp_path: Path) -> None:
        raw = tmp_path / "data" / "MNIST" / "raw"
        write_idx_files(raw, small_shapes())
        before = {path: path.stat().st_mtime_ns for path in raw.iterdir()}
        answer = call("data", "fetch", "mnist", "--yes")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out == f"mnist is there already: {raw}; `ddpm-bench data verify mnist` checks it\n"
        assert {path: path.stat().st_mtime_ns for path in raw.iterdir()} == before

    def test_what_is_missing_is_completed(self, call: Call, server: Path, tmp_path: Path) -> None:
        raw = tmp_path / "data" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / NAMES[0]).write_bytes(b"damaged")
        (raw / "notes.txt").write_text("mine", encoding="utf-8")
        assert call("data", "fetch", "mnist", "--yes").code == 0
        assert all((raw / name).read_bytes() == (server / name).read_bytes() for name in NAMES)
        assert (raw / "notes.txt").read_text(encoding="utf-8") == "mine"

    def test_offline(self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", [unreachable(), unreachable()])
        before = everything(tmp_path)
        answer = call("data", "fetch", "mnist", "--yes")
        assert answer.code == 2
        assert len(answer.errors) == 1
        raw = tmp_path / "data" / "MNIST" / "raw"
        assert answer.err.startswith(f"mnist: the download failed and nothing was put in {raw}: ")
        assert "refused" in answer.err
        assert "copy MNIST/raw from there, or see http://yann.lecun.com/exdb/mnist/" in answer.err
        assert everything(tmp_path) == before

    def test_offline_where_torchvision_does_not_catch_it(
        self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(import_torchvision().datasets.CIFAR10, "url", f"{unreachable()}cifar-10-python.tar.gz")
        before = everything(tmp_path)
        answer = call("data", "fetch", "cifar10", "--yes")
        assert (answer.code, len(answer.errors)) == (2, 1)
        assert "cifar10: the download failed and nothing was put in " in answer.err
        assert everything(tmp_path) == before

    def test_other_bytes_than_the_published_ones(self, call: Call, server: Path, tmp_path: Path) -> None:
        """The first files arrive, the last does not have its MD5: none is kept."""
        (server / NAMES[3]).write_bytes(gzip.compress(b"a sign-in page"))
        before = everything(tmp_path)
        answer = call("data", "fetch", "mnist", "--yes")
        assert answer.code == 2
        assert f"Error downloading {NAMES[3]}" in answer.err
        assert "corrupted" in answer.err
        assert everything(tmp_path) == before

    def test_a_package_that_the_download_needs(
        self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "gdown", None)  # as where it is not installed
        answer = call("data", "fetch", "celeba", "--yes")
        assert answer.code == 2
        assert "'gdown' is required. You can install it with 'pip install gdown'" in answer.err
        assert not (tmp_path / "data").exists()

    def test_an_exception_of_that_package(self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Google Drive refuses files that many people want; gdown then raises what is no error of the system."""

        class Refused(Exception):
            pass

        def download(**options: object) -> None:
            raise Refused("Too many users have viewed or downloaded this file recently.")

        exceptions = types.ModuleType("gdown.exceptions")
        exceptions.FileURLRetrievalError = Refused  # type: ignore[attr-defined]
        gdown = types.ModuleType("gdown")
        gdown.download, gdown.exceptions = download, exceptions  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "gdown", gdown)
        monkeypatch.setitem(sys.modules, "gdown.exceptions", exceptions)
        answer = call("data", "fetch", "celeba", "--yes")
        assert answer.code == 2
        assert "Too many users have viewed or downloaded this file recently. Repeat it" in answer.err
        assert not (tmp_path / "data").exists()

    def test_nobody_answers(self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        answer = call("data", "fetch", "mnist")
        assert answer.code == 2
        assert answer.errors[-1] == "mnist: no answer, nothing was downloaded; --yes downloads without asking"
        assert not (tmp_path / "data").exists()

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("digits", "digits: nothing to fetch, it comes from the package scikit-learn"),
            ("gaussian", "gaussian: nothing to fetch, it comes from a random generator with a seed"),
            ("mnits", 'unknown dataset "mnits"; did you mean "mnist"?'),
        ],
    )
    def test_what_cannot_be_fetched(self, call: Call, name: str, message: str) -> None:
        answer = call("data", "fetch", name)
        assert (answer.code, answer.out, answer.errors) == (2, "", [message])

    @pytest.mark.network
    def test_the_published_mnist(self, call: Call, tmp_path: Path) -> None:
        assert call("data", "fetch", "mnist", "--yes").code == 0
        checked = call("data", "verify", "mnist")
        assert checked.code == 0
        assert checked.out.count("MD5 as published") == 4
        assert "decoded: 60000 training and 10000 test images, 1×28×28" in checked.out


class TestVerify:
    def test_a_changed_file_is_named(self, call: Call, server: Path, tmp_path: Path) -> None:
        assert call("data", "fetch", "mnist", "--yes").code == 0
        path = tmp_path / "data" / "MNIST" / "raw" / NAMES[2]
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        answer = call("data", "verify", "mnist")
        assert answer.code == 2
        assert answer.out.count("MD5 as published") == 3
        assert len(answer.errors) == 1
        assert answer.err.startswith(f"{path}: its MD5 is not the published ")

    def test_files_without_a_published_sum_are_decoded(self, call: Call, server: Path, tmp_path: Path) -> None:
        raw = tmp_path / "data" / "MNIST" / "raw"
        write_idx_files(raw, small_shapes())
        for name in NAMES[:2]:
            (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((raw / name).read_bytes()))
            (raw / name).unlink()
        answer = call("data", "verify", "mnist")
        assert answer.code == 0
        assert answer.out.splitlines()[0] == f"without a published MD5: {raw / NAMES[0].removesuffix('.gz')} and 3 more"
        (raw / "t10k-labels-idx1-ubyte").write_bytes(b"nothing")
        answer = call("data", "verify", "mnist")
        assert answer.code == 2
        assert "t10k-labels-idx1-ubyte: not an IDX file of 10 bytes" in answer.err

    def test_what_is_missing(self, call: Call, tmp_path: Path) -> None:
        answer = call("data", "verify", "celeba")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.startswith("CelebA not found: looked for list_eval_partition.txt in ")

    def test_data_without_files(self, call: Call) -> None:
        answer = call("data", "verify", "digits")
        assert answer.out.splitlines() == [
            "decoded: 1437 training and 360 test images, 1×8×8", "grey levels 0 to 16 of 0 to 16", "digits is sound",
        ]  # fmt: skip
        assert call("data", "verify", "gaussian").out.splitlines()[-1] == "gaussian is sound"

    def test_own_images_are_named_by_parameters(self, call: Call, tmp_path: Path) -> None:
        from PIL import Image

        answer = call("data", "verify", "image_folder", "--set", "size=8")
        assert (answer.code, answer.errors) == (2, ["image_folder: say which: --set path=VALUE"])
        (tmp_path / "own").mkdir()
        for i in range(12):
            Image.new("RGB", (10, 10), (i, 2 * i, 255)).save(tmp_path / "own" / f"{i:02}.png")
        given = ("--set", f"path={tmp_path / 'own'}", "--set", "size=8")
        answer = call("data", "verify", "image_folder", *given)
        assert answer.code == 0, answer.err
        assert "decoded: 11 training and 1 test images, 3×8×8" in answer.out
        (tmp_path / "own" / "03.png").write_bytes(b"no image")
        answer = call("data", "verify", "image_folder", *given)
        assert answer.code == 2
        assert "cannot read 03.png" in answer.err
        wrong = call("data", "verify", "image_folder", *given, "--set", "crop=left")
        assert wrong.code == 2
        assert wrong.errors == ['image_folder.crop: unknown value "left"; known: center, none']


def test_every_downloader_exists() -> None:
    """The classes of torchvision that data sets name, with the folder where each puts its files."""
    torchvision = import_torchvision().datasets
    named = {name: registry.get("datasets", name).published for name in registry.names("datasets")}
    classes = {name: about.downloader for name, about in named.items() if about.downloader}
    assert classes == {
        "celeba": "CelebA", "cifar10": "CIFAR10", "fashion_mnist": "FashionMNIST", "mnist": "MNIST",
    }  # fmt: skip
    folders = {
        "celeba": torchvision.CelebA.base_folder, "cifar10": torchvision.CIFAR10.base_folder,
        "fashion_mnist": "FashionMNIST/raw", "mnist": "MNIST/raw",
    }  # fmt: skip
    assert {name: named[name].folder for name in classes} == folders
    assert Celeba.published.num_images == (162_770, 19_962)
