"""Importing weight files: which extractor a file belongs to, what is copied, what is refused."""

import io
import re
from pathlib import Path

import pytest
import torch

from ddpm_bench.errors import UserError
from ddpm_bench.extractors import _imported
from ddpm_bench.extractors._imported import (
    ImportedExtractor,
    Published,
    import_weights,
    imported_extractors,
    read_state,
)
from ddpm_bench.extractors.clip import Clip
from ddpm_bench.extractors.dinov2 import Dinov2
from ddpm_bench.extractors.inception import Inception
from ddpm_bench.extractors.vgg16 import Vgg16
from tests.extractors.made_weights import as_published, digest_of

ALL = list(imported_extractors())
CLASSES = (Inception, Vgg16, Clip, Dinov2)


def test_every_file_is_offered_once():
    assert {type(extractor) for extractor in ALL} == set(CLASSES)
    files = [extractor.published for extractor in ALL]
    assert len(set(files)) == len({file.sha256 for file in files}) == len({file.file for file in files}) == len(files)
    assert set(files) == {file for cls in CLASSES for file in cls.files}


@pytest.mark.parametrize("extractor", ALL, ids=lambda extractor: extractor.published.file)
def test_what_a_published_file_declares(extractor, root):
    file = extractor.published
    assert re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert file.url.startswith("https://")
    assert file.path == root / file.file
    assert not extractor.label.endswith("_unverified")  # known without the file: a plan names its results
    with pytest.raises(UserError) as caught:
        extractor.weights()
    assert str(caught.value) == (
        f"extractor {extractor.name}: its weights are missing (looked for {file.path}); download {file.url} and run "
        f"`ddpm-bench weights import {Path(file.url).name}`"
    )


def test_labels():
    labels = [extractor.label for extractor in ALL]
    assert len(set(labels)) == len(labels)
    assert {"inception", "vgg16", "clip", "clip_vit_l_14_336px", "clip_rn50x4", "dinov2", "dinov2_vit_b_14"} <= set(
        labels
    )


@pytest.mark.parametrize("cls", CLASSES)
def test_a_file_is_recognised_whatever_its_name(cls, root, tmp_path, monkeypatch):
    """The last of its files, so that a choice of the first one would show."""
    path = tmp_path / "download"
    path.write_bytes(cls.__name__.encode() * 1000)
    as_published(monkeypatch, cls, path, -1)
    extractor, target = import_weights(path)
    assert extractor == cls.configurations()[-1]
    assert target == root / cls.files[-1].file
    assert target.read_bytes() == path.read_bytes()
    assert [found.name for found in root.iterdir()] == [target.name]
    assert extractor.weights() == target
    assert extractor.digest() == digest_of(path)
    for other in ALL:
        if other != extractor:
            with pytest.raises(UserError, match="missing"):
                other.weights()


def test_another_file_is_refused_and_leaves_nothing(root, tmp_path):
    path = tmp_path / "other.bin"
    path.write_bytes(b"other weights")
    with pytest.raises(UserError, match=f"none of the published weight files .* its SHA-256 is {digest_of(path)}"):
        import_weights(path)
    for file in (ALL[0].published.file, Clip().published.url.rpartition("/")[2]):
        named = path.rename(tmp_path / file)
        with pytest.raises(
            UserError, match=f"{file} is not .*: its SHA-256 is {digest_of(named)}, expected "
        ) as caught:
            import_weights(named)
        assert "; download https://" in str(caught.value)
        path = named
    with pytest.raises(UserError, match="no such file"):
        import_weights(tmp_path / "none")
    with pytest.raises(UserError) as caught:
        import_weights(tmp_path)
    assert str(caught.value) == f"{tmp_path}: is a folder; name the weight file in it"
    assert not root.exists()


def test_a_file_that_changes_while_it_is_copied_is_not_kept(root, tmp_path, monkeypatch):
    path = tmp_path / "download"
    path.write_bytes(b"as published")
    as_published(monkeypatch, Vgg16, path)
    copy = _imported._copy

    def late(source: Path, published: Published) -> None:
        source.write_bytes(b"something else")
        copy(source, published)

    monkeypatch.setattr(_imported, "_copy", late)
    with pytest.raises(UserError, match="changed while it was copied"):
        import_weights(path)
    assert not list(root.iterdir())


@pytest.mark.parametrize("cls", CLASSES)
def test_unpublished_files_are_read_without_executing_them(cls: type[ImportedExtractor], dangerous):
    path, marker = dangerous
    extractor = cls(weights_file=str(path))
    assert extractor.label == f"{extractor.name}_unverified"
    with pytest.raises(UserError, match="no file of tensors"):
        extractor.load("cpu")
    assert not marker.exists()


@pytest.mark.parametrize(
    "data", [b"", b"abc", b"hello world", b"<!DOCTYPE html>", b"\x80\x02X\x01\x00\x00\x00", b"PK\x03\x04"]
)
def test_what_is_no_file_of_tensors(data: bytes) -> None:
    """The reason that torch gives is not passed on: it advises to open the file without restriction."""
    with pytest.raises(UserError) as caught:
        read_state(data, "x.pth")
    assert str(caught.value) == "x.pth is no file of tensors that can be read without executing code"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_file_of_tensors() -> None:
    """Any byte of its pickle may be wrong; whatever torch raises is said as the user's mistake."""
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, stream, _use_new_zipfile_serialization=False)
    whole = stream.getvalue()
    refused = 0
    for place in range(len(whole)):
        try:
            read_state(whole[:place] + b"q" + whole[place + 1 :], "x.pth")
        except UserError:
            refused += 1
    assert refused > len(whole) / 2
