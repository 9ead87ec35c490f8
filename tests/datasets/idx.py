"""IDX files, written independently of the reader."""

import gzip
import struct
from pathlib import Path

import numpy as np

NAMES = tuple(f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def idx(array: np.ndarray) -> bytes:
    """The IDX file of a uint8 array."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + array.tobytes()


def small_shapes(num_train: int = 20, num_test: int = 10) -> dict[str, tuple[int, ...]]:
    """Shapes in place of the published ones."""
    counts = {"train": num_train, "t10k": num_test}
    return {name: (counts[name.partition("-")[0]], *((28, 28) if "images" in name else ())) for name in NAMES}


def write_idx_files(folder: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Random arrays below 10 in files of these shapes: compressed for training, not for testing."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 10, size=shape, dtype=np.uint8) for name, shape in shapes.items()}
    for name, array in arrays.items():
        if name.startswith("train"):
            (folder / name).write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(idx(array))
    return arrays
