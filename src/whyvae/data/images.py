"""A folder of images: every image in it and in its subfolders; subfolders are labels. Read with Pillow."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from whyvae.data.raw import Array, DataError, Raw, as_labels, needed

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
PLAIN = {"L", "RGB", "RGBA", "I;16", "F"}  # modes whose arrays are the picture


def read_folder(folder: Path, size: int | None = None) -> Raw:
    """Rows [n, H, W] or [n, H, W, C] of the images' own type; `size` makes them square of that many pixels.

    Raises:
        DataError: no image, one that cannot be read, or images that differ in size or channels.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    pictures = [p for p in files if p.suffix.lower() in ENDINGS]
    if not pictures:
        held = f"{len(files)} other files" if files else "nothing"
        raise DataError(f"{folder} holds no images ({', '.join(sorted(ENDINGS))}), but {held}")
    opened = needed("PIL.Image", "pillow", "a folder of images")
    arrays = [_read(opened, p, size) for p in pictures]
    shapes = Counter(a.shape for a in arrays)
    if len(shapes) > 1:
        raise DataError(_mixed(pictures, arrays, shapes))
    inside = [p.relative_to(folder).parts[0] if len(p.relative_to(folder).parts) > 1 else "" for p in pictures]
    labels = as_labels(inside) if len(set(inside)) > 1 else None
    return Raw(np.stack(arrays), labels, "image", notes=_left_out(files, pictures))


def _read(opened: Any, path: Path, size: int | None) -> Array:
    try:
        with opened.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{path} holds {image.n_frames} frames: save each as an image of its own")  # noqa: TRY301
            plain = image if image.mode in PLAIN else image.convert("L" if image.mode in {"1", "LA"} else "RGB")
            return np.asarray(plain if size is None else plain.resize((size, size), opened.Resampling.BOX))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error


def _mixed(paths: list[Path], arrays: list[Array], shapes: Counter[tuple[int, ...]]) -> str:
    (usual, count), *_ = shapes.most_common(1)
    other = next(i for i, a in enumerate(arrays) if a.shape != usual)
    cure = "--size N makes all N x N" if arrays[other].shape[:2] != usual[:2] else "convert all to grey or all to RGB"
    return (
        f"images differ: {count} of {len(paths)} are {_words(usual)}, but {paths[other]} is "
        f"{_words(arrays[other].shape)}: {cure}"
    )


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} with {shape[2] if len(shape) > 2 else 1} channel(s)"


def _left_out(files: list[Path], pictures: list[Path]) -> tuple[str, ...]:
    others = sorted(set(files) - set(pictures))
    return (f"{len(others)} files are no images and were left out, such as {others[0].name}",) if others else ()
