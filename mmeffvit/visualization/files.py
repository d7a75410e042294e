"""Writing pictures."""

import io
import os
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
    # PNG has no quality, and takes no notice of it
    options = {"optimize": True, "quality": 82}
    buffer = io.BytesIO()
    if hasattr(picture, "savefig"):
        picture.savefig(buffer, format=kind, pil_kwargs=options)
    else:
        picture.save(buffer, format=kind, **options)
    with whole_file(path) as scratch:
        scratch.write_bytes(buffer.getvalue())
