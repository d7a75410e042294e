"""Files that are whole or as before, whatever happens while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a scratch file that takes the place of `path` when the block ends without an error.

    Folders are made. The scratch file lies in the same folder, under a hidden name with the same
    suffix, and is gone afterwards.

    >>> with whole_file(path) as scratch:
    ...     scratch.write_text(text)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
