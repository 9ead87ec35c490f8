"""The store: immutable, content-addressed artifacts. It knows paths and digests, nothing else.

    store/<stage>/<key>/manifest.json + payload      an artifact; without a manifest it is garbage
    store/checkpoints/<trajectory>/<step>/           states of a training, in the same form

An artifact is written into a temporary directory beside its place, its manifest (with the SHA-256 of every file) last,
and renamed: what exists is whole.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


class DamagedArtifact(Exception):
    """A file of an artifact is not what its manifest says."""


class Artifact:
    """A finished artifact on disk."""

    def __init__(self, path: Path):
        self.path = path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was computed, from what, how and where, and the digest of every file."""
        found: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        return found

    @property
    def spec(self) -> dict[str, Any]:
        """The specification that its key hashes."""
        spec: dict[str, Any] = self.manifest["spec"]
        return spec

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What ended it early (a diverged training), or None."""
        outcome: dict[str, Any] | None = self.manifest.get("outcome")
        return outcome

    def verify(self) -> Artifact:
        """Check every file against the manifest. Raises DamagedArtifact."""
        for name, entry in self.manifest["files"].items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != entry["size"] or sha256(file) != entry["sha256"]:
                raise DamagedArtifact(f"{file} is not what its manifest says; remove {self.path} and run again")
        return self


class Store:
    """The artifacts below a directory."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, stage: str, key: str) -> Path:
        """Where the artifact lies, whether it exists or not."""
        return self.root / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Whether the artifact is finished."""
        return (self.path(stage, key) / MANIFEST).is_file()

    def get(self, stage: str, key: str) -> Artifact:
        """The finished artifact."""
        return Artifact(self.path(stage, key))

    @contextmanager
    def create(self, stage: str, key: str, manifest: dict[str, Any]) -> Iterator[Path]:
        """A directory to fill; on leaving it gets its manifest and its place. An exception leaves nothing.

        The caller may add to `manifest` while it fills the directory.
        """
        target = self.path(stage, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_owned(target)}{os.getpid()}.", dir=target.parent))
        temporary.chmod(0o755)  # mkdtemp makes it private
        try:
            yield temporary
            manifest["files"] = {
                file.relative_to(temporary).as_posix(): {"sha256": sha256(file), "size": file.stat().st_size}
                for file in sorted(temporary.rglob("*"))
                if file.is_file()
            }
            write_text(temporary / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
            _put(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _owned(target: Path) -> str:
    """How the names of this machine's unfinished directories of an artifact begin; the process follows."""
    return f".{target.name}.{platform.node()}."


def _sweep(target: Path) -> None:
    """Remove what killed processes of this machine left of the artifact."""
    for path in target.parent.glob(f"{glob.escape(_owned(target))}*"):
        process = path.name.removeprefix(_owned(target)).partition(".")[0]
        if process.isdecimal() and not alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def alive(process: int) -> bool:
    """Whether a process exists on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put(temporary: Path, target: Path) -> None:
    """Rename a finished artifact to its place, unless another process has finished the same one first."""
    while not (target / MANIFEST).is_file():
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():
                raise
            if not (target / MANIFEST).is_file():  # garbage that a killed process left
                shutil.rmtree(target)


def sha256(file: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(file: Path, text: str) -> None:
    """Write a file so that readers see the old or the new text, never a part; it is on disk when this returns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file atomically, readable and with sorted names only where the caller sorted them."""
    write_text(file, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
