"""Writing pictures."""

import io
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmeffvit.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


def save_picture(picture: "Image.Image | Figure", path: str | os.PathLike) -> None:
    """Write a PIL image or a matplotlib figure as JPEG (.jpg, .jpeg) or, otherwise, as PNG.

    The file is whole or absent.
    """
    path = Path(path)
    kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    # PNG would take four times as long to optimize, for one or two bytes of a hundred
    options = {"optimize": True, "quality": 82} if kind == "jpeg" else {}
    buffer = io.BytesIO()
    if hasattr(picture, "savefig"):
        picture.savefig(buffer, format=kind, pil_kwargs=options)
    else:
        picture.save(buffer, format=kind, **options)
    with whole_file(path) as scratch:
        scratch.write_bytes(buffer.getvalue())


def name_outputs(paths: Sequence[Path]) -> dict[Path, Path]:
    """Names for the outputs of images, without suffix, that keep apart what has one name.

    Returns:
        For each image its path below the folder that all images share; where two differ in their
        suffix alone, the suffix stays part of the name.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = os.path.commonpath([path.parent for path in absolute]) if paths else ""
    relative = [path.relative_to(root) for path in absolute]
    stems = [path.with_suffix("") for path in relative]
    counts = Counter(stems)
    return {
        path: stem if counts[stem] == 1 else whole
        for path, stem, whole in zip(paths, stems, relative)
    }


def short_names(paths: Sequence[Path]) -> dict[Path, Path]:
    """Names for the outputs of images, without suffix: the file's own, where it is the only one.

    Returns:
        For each image the stem of its name; where several images have one stem, what
        :func:`name_outputs` says.
    """
    counts = Counter(path.stem for path in dict.fromkeys(paths))
    long = name_outputs(list(dict.fromkeys(paths)))
    return {path: Path(path.stem) if counts[path.stem] == 1 else long[path] for path in long}
