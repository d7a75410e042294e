"""Writing pictures."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


def save_picture(picture: "Image.Image | Figure", path: str | os.PathLike) -> None:
    """Write a PIL image or a matplotlib figure as PNG; the file is whole or absent."""
    buffer = io.BytesIO()
    if hasattr(picture, "savefig"):
        picture.savefig(buffer, format="png")
    else:
        picture.save(buffer, format="png", optimize=True)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        scratch.write_bytes(buffer.getvalue())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
