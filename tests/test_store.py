"""The store: what exists is whole, what is damaged is noticed, and processes that do the same work agree."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_bench import store as store_module
from ddpm_bench.store import DamagedArtifact, Store, write_json, write_text

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fill(store: Store, content: bytes = b"payload", **manifest: object) -> None:
    with store.create("train", KEY, {"spec": {"steps": 3}, **manifest}) as out:
        (out / "weights").write_bytes(content)
        (out / "deep").mkdir()
        (out / "deep" / "curve.csv").write_text("step\n1\n")


def everything(store: Store) -> set[str]:
    return {path.relative_to(store.root).as_posix() for path in store.root.rglob("*")}


def test_an_artifact_and_its_manifest(store: Store) -> None:
    assert not store.has("train", KEY)
    fill(store, outcome={"status": "diverged"})
    assert store.has("train", KEY)
    artifact = store.get("train", KEY).verify()
    assert artifact.spec == {"steps": 3}
    assert artifact.outcome == {"status": "diverged"}
    assert artifact.manifest["files"] == {
        # Of `printf 'step\n1\n' | sha256sum` and `printf payload | sha256sum`.
        "deep/curve.csv": {"sha256": "3270cca061427b1a27f5d8eedac358d7723e4a2c02ca7adbb89449614a5fef82", "size": 7},
        "weights": {"sha256": "239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5", "size": 7},
    }
    assert everything(store) == {
        "train", f"train/{KEY}", *(f"train/{KEY}/{name}" for name in ("manifest.json", "weights", "deep")),
        f"train/{KEY}/deep/curve.csv",
    }  # fmt: skip


@pytest.mark.parametrize("problem", [RuntimeError("broke"), KeyboardInterrupt()])
def test_an_exception_leaves_nothing(store: Store, problem: BaseException) -> None:
    def begin() -> None:
        with store.create("train", KEY, {}) as out:
            (out / "weights").write_bytes(b"half")
            raise problem

    with pytest.raises(type(problem)):
        begin()
    assert not store.has("train", KEY)
    assert everything(store) == {"train"}


def test_nothing_is_in_place_while_it_is_filled(store: Store) -> None:
    with store.create("train", KEY, {}) as out:
        (out / "weights").write_bytes(b"whole")
        assert not store.path("train", KEY).exists()
        assert out.parent == store.path("train", KEY).parent  # so that the rename stays on one file system
        assert out.name.startswith(".")  # what is being made is not found by its key
    assert store.has("train", KEY)


def test_a_directory_without_manifest_is_garbage_and_replaced(store: Store) -> None:
    place = store.path("train", KEY)
    place.mkdir(parents=True)
    (place / "old").write_bytes(b"half")
    assert not store.has("train", KEY)
    fill(store)
    store.get("train", KEY).verify()
    assert not (place / "old").exists()


def test_what_a_killed_process_left_is_removed_and_not_used(store: Store) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folders = {}
    for owner in (f"{platform.node()}.{gone.pid}", f"{platform.node()}.{os.getpid()}", "elsewhere.1"):
        folders[owner] = store.path("train", f".{KEY}.{owner}.abc")
        folders[owner].mkdir(parents=True)
        (folders[owner] / "stray").write_bytes(b"?")
    fill(store)
    assert "stray" not in store.get("train", KEY).manifest["files"]
    # The process is dead; a living one, and one of another machine, may still be at work.
    assert [folder.exists() for folder in folders.values()] == [False, True, True]


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"!")


@pytest.mark.parametrize("damage", [flip, lengthen, Path.unlink])
@pytest.mark.parametrize("name", ["weights", "deep/curve.csv"])
def test_damage_is_noticed(store: Store, damage: object, name: str) -> None:
    fill(store)
    file = store.path("train", KEY) / name
    damage(file)  # type: ignore[operator]
    with pytest.raises(DamagedArtifact) as raised:
        store.get("train", KEY).verify()
    assert str(raised.value) == (
        f"{file} is not what its manifest says; remove {store.path('train', KEY)} and run again"
    )


@pytest.mark.parametrize("garbage", [False, True])
def test_another_process_finishes_at_the_very_last_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch, garbage: bool
) -> None:
    """Between the look and the rename; with garbage in the place at the first try."""
    real, place = os.rename, store.path("train", KEY)
    if garbage:
        place.mkdir(parents=True)
        (place / "old").write_bytes(b"half")
    tries = []

    def rename(source: Path, target: Path) -> None:
        tries.append(source)
        if len(tries) == 1 + garbage:
            target.mkdir()
            (target / "weights").write_bytes(b"theirs")
            (target / "manifest.json").write_text("{}")
        real(source, target)

    monkeypatch.setattr(store_module.os, "rename", rename)
    fill(store, b"ours")
    assert (place / "weights").read_bytes() == b"theirs"
    assert everything(store) == {"train", f"train/{KEY}", f"train/{KEY}/weights", f"train/{KEY}/manifest.json"}


def test_a_place_that_cannot_be_written_is_an_error(store: Store) -> None:
    with pytest.raises(OSError), store.create("train", KEY, {}):
        store.path("train", KEY).write_text("a file where the directory belongs")
    assert everything(store) == {"train", f"train/{KEY}"}


TOGETHER = """
import sys, time
from pathlib import Path
from ddpm_bench.store import Store
root, name = Path(sys.argv[1]), sys.argv[2]
with Store(root / "store").create("train", "k" * 64, {"by": name}) as out:
    (out / "weights").write_text(name * 1000)
    (root / f"ready-{name}").touch()
    deadline = time.monotonic() + 60
    while len(list(root.glob("ready-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
"""


def test_two_processes_finish_the_same_artifact(tmp_path: Path) -> None:
    """Both are inside at once (each waits for the other) and both end well; one of them stays, whole."""
    started = [
        subprocess.Popen([sys.executable, "-c", TOGETHER, str(tmp_path), name], stderr=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    errors = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    store = Store(tmp_path / "store")
    artifact = store.get("train", "k" * 64).verify()
    assert (artifact.path / "weights").read_text() == artifact.manifest["by"] * 1000
    assert everything(store) == {"train", *(f"train/{'k' * 64}{rest}" for rest in ("", "/manifest.json", "/weights"))}


def test_text_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "new" / "results.json"
    write_text(file, "old")
    seen = []
    real = os.replace
    monkeypatch.setattr(
        store_module.os, "replace", lambda source, target: (seen.append(file.read_text()), real(source, target))
    )
    write_text(file, "new")
    assert (seen, file.read_text()) == (["old"], "new")
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


def test_json_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"β": [1, 0.1]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"β": [1, 0.1]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
