"""Images that somebody else generated: what is read, what is rounded, what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_bench.datasets._given import Seen, Wanted, read, sources
from ddpm_bench.errors import UserError
from ddpm_bench.stages.features import to_rgb

COLOUR = Wanted("cifar10", (3, 4, 5), 256)
GREY = Wanted("digits", (1, 4, 5), 17)


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(stream, format="PNG")
    return stream.getvalue()


def colours(number: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, 4, 5, 3)).astype(np.uint8)


def folder_of(path: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def everything(path: Path, wanted: Wanted) -> tuple[np.ndarray, Seen]:
    seen = Seen()
    return np.stack(list(read(path, wanted, seen))), seen


def refused(path: Path, wanted: Wanted = COLOUR) -> str:
    with pytest.raises(UserError) as caught:
        list(read(path, wanted, Seen()))
    (problem,) = caught.value.problems
    return problem


def test_a_directory_and_a_zip_file_in_the_order_of_names(tmp_path: Path) -> None:
    images = colours(3)
    contents = {name: png(image) for name, image in zip(("b/2.png", "a.png", "b/1.png"), images, strict=True)}
    folder = folder_of(tmp_path / "A", contents | {"notes.txt": b"no image", ".hidden.png": b"no image"})
    archive = tmp_path / "A.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content)
    expected = images[[1, 2, 0]].transpose(0, 3, 1, 2)
    for path in (folder, archive):
        found, seen = everything(path, COLOUR)
        assert np.array_equal(found, expected)
        assert (seen.num_images, seen.between, seen.num_pixels) == (3, 0, 180)
    assert sources(archive) == [archive]
    assert [path.name for path in sources(folder)] == ["a.png", "1.png", "2.png"]


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_arrays_of_either_layout(tmp_path: Path, layout: str) -> None:
    images = colours(4)
    array = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
    np.savez(tmp_path / "x.npz", arr_0=array, labels=np.arange(4))  # what is no image is passed over
    found, _ = everything(tmp_path / "x.npz", COLOUR)
    assert np.array_equal(found, images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 4, 5, 1), (2, 4, 5)])
def test_grey_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(40, dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=values.reshape(shape))
    found, _ = everything(tmp_path / "x.npz", Wanted("mnist", (1, 4, 5), 256))
    assert np.array_equal(found, values.reshape(2, 1, 4, 5))


@pytest.mark.parametrize("levels", [2, 16, 17, 256])
def test_levels_survive_the_way_through_a_png(tmp_path: Path, levels: int) -> None:
    """What features see of a level is a grey value; written as a PNG and read again it is that level."""
    image = (np.arange(20) % levels).astype(np.uint8).reshape(4, 5)
    import torch

    grey = to_rgb(torch.from_numpy(image)[None, None], levels)[0, 0].numpy()
    folder = folder_of(tmp_path / "A", {"0.png": png(grey)})
    found, seen = everything(folder, Wanted("made", (1, 4, 5), levels))
    assert np.array_equal(found[0, 0], image)
    assert seen.between == 0


def test_values_between_the_levels_are_rounded_and_said(tmp_path: Path) -> None:
    """Of 17 levels the grey values are about 0, 16, 32, …: 5 becomes 0, 9 becomes 1, 250 becomes 16."""
    image = np.zeros((4, 5), np.uint8)
    image[0, :3] = 5, 9, 250
    folder = folder_of(tmp_path / "A", {"0.png": png(image)})
    found, seen = everything(folder, GREY)
    assert found[0, 0, 0].tolist() == [0, 1, 16, 0, 0]
    assert seen.between == 3
    assert seen.notes("A", GREY) == [
        "A: 15 % of the pixels lie between the 17 levels of digits and were rounded to the nearest"
    ]


def test_levels_given_as_grey_values_are_noticed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.full((2, 4, 5), 16, np.uint8))
    _, seen = everything(tmp_path / "x.npz", GREY)
    assert seen.notes("x.npz", GREY) == [
        "x.npz: no grey value above 16, of 255: if these are the levels 0…16 of digits, multiply them by 255/16"
    ]
    assert Seen(num_images=1, largest=16, num_pixels=20).notes("x", COLOUR) == []


def test_what_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "none") == f"{tmp_path / 'none'}: no such directory or file"
    assert refused(folder_of(tmp_path / "A", {"a.txt": b"text"})).startswith(f"{tmp_path / 'A'}: no images (.bmp, ")


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    whole = png(colours(1)[0])
    folder = folder_of(tmp_path / "A", {"0.png": whole, "1.png": whole[: len(whole) // 2]})
    assert refused(folder).startswith(f"{folder}: cannot read 1.png: ")
    assert refused(folder).endswith("; repair or remove it")


def test_another_shape_is_named_with_both(tmp_path: Path) -> None:
    large = folder_of(tmp_path / "A", {"0.png": png(np.zeros((8, 8, 3), np.uint8))})
    assert refused(large) == (
        f"{large}: 0.png is 3×8×8 (channels × height × width), the images of cifar10 are 3×4×5; convert them first, or "
        "choose the data set's parameters (size)"
    )
    grey = folder_of(tmp_path / "B", {"0.png": png(np.zeros((4, 5), np.uint8))})
    assert f"{grey}: 0.png is 1×4×5" in refused(grey)
    np.savez(tmp_path / "x.npz", np.zeros((2, 3, 9, 9), np.uint8))
    assert "x.npz: arr_0 is 3×9×9" in refused(tmp_path / "x.npz")


@pytest.mark.parametrize("mode", ["RGBA", "P", "1", "I;16"])
def test_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    content = png(np.zeros((4, 5), np.uint16)) if mode == "I;16" else png(colours(1)[0], mode)
    folder = folder_of(tmp_path / "A", {"0.png": content})
    assert refused(folder) == (
        f"{folder}: 0.png is of mode {mode}; expected L (grey) or RGB, 8 bits without transparency"
    )


def test_archives_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"not an archive")
    assert refused(tmp_path / "x.npz").startswith(f"{tmp_path / 'x.npz'}: cannot be read as an .npz of arrays: ")
    (tmp_path / "y.zip").write_bytes(b"not an archive")
    assert "neither a directory nor a sound zip file, nor an .npz (" in refused(tmp_path / "y.zip")
    np.savez(tmp_path / "z.npz", np.array([{}], dtype=object))
    assert "cannot be read as an .npz of arrays" in refused(tmp_path / "z.npz")


def test_one_array_instead_of_an_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 5), np.uint8))
    assert refused(tmp_path / "x.npy") == (
        f"{tmp_path / 'x.npy'}: a .npy cannot be read here; save the array as an .npz (numpy.savez)"
    )
    renamed = (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    assert refused(renamed) == (
        f"{renamed}: is one .npy array under another name, not an .npz; save it with numpy.savez"
    )


def test_files_of_images_named_npz(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("0.png", png(colours(1)[0]))
    assert refused(tmp_path / "x.npz").endswith(
        "expected one array of images (three or four dimensions), found nothing"
    )


def test_arrays_that_are_no_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.arange(3))
    assert refused(tmp_path / "a.npz").endswith(
        "expected one array of images (three or four dimensions), found labels 3"
    )
    np.savez(tmp_path / "b.npz", one=np.zeros((1, 3, 4, 5), np.uint8), two=np.zeros((1, 3, 4, 5), np.uint8))
    assert refused(tmp_path / "b.npz").endswith("found one 1×3×4×5, two 1×3×4×5")
    np.savez(tmp_path / "c.npz", np.zeros((1, 3, 4, 5), np.float32))
    assert refused(tmp_path / "c.npz").endswith("arr_0 is float32; expected uint8, grey values 0…255")
    np.savez(tmp_path / "d.npz", np.zeros((0, 4, 5, 3), np.uint8))
    assert refused(tmp_path / "d.npz") == f"{tmp_path / 'd.npz'}: arr_0 is 0×4×5×3: it holds no image"
