"""A folder for what is written about a data set, used again while the data is what it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from mmeffvit.files import whole_file

#: of the files that are written; another number writes them anew
_VERSION = 1


class Cache:
    """Where annotations are written that a data set lacks.

    Args:
        root: Folder of the data set.
        folder: Where to write; None takes ``root/.mmeffvit``, or, where nothing can be written, a
            folder of its own under ``$XDG_CACHE_HOME/mmeffvit``.

    Attributes:
        folder: Where it is.
    """

    def __init__(self, root: Path, folder: str | None = None):
        if folder is not None:
            self.folder = Path(folder).absolute()
        elif os.access(root, os.W_OK):
            self.folder = root / ".mmeffvit"
        else:
            home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            digest = hashlib.sha256(str(root).encode()).hexdigest()[:8]
            self.folder = Path(home, "mmeffvit", f"{root.name}-{digest}")

    def path(self, name: str) -> Path:
        """Of a file in it."""
        return self.folder / name

    def write_text(self, name: str, text: str) -> Path:
        """Write a file; it is whole or as before."""
        with whole_file(self.path(name)) as scratch:
            scratch.write_text(text, encoding="utf-8")
        return self.path(name)

    def write_json(self, name: str, value: Any) -> Path:
        """The same, as JSON."""
        return self.write_text(name, json.dumps(value))

    def once(
        self, name: str, sources: Iterable[Path], options: Any, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What `make` returns: called if the files or options are not those of the last call.

        Processes that ask at the same time wait for the one that does it.

        Args:
            name: Of the work.
            sources: Files it depends on, by path, size and time.
            options: What else it depends on.
            make: Writes files, and returns what JSON can hold.
        """
        digest = hashlib.sha256(repr((_VERSION, options)).encode())
        for path in sorted(sources):
            stat = path.stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        stamp = digest.hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        record = self.path(f"{name}.json")
        with FileLock(self.path(f"{name}.lock")):
            try:
                kept = json.loads(record.read_text(encoding="utf-8"))
                if kept["stamp"] == stamp and all(Path(p).exists() for p in kept["files"]):
                    return kept["result"]
            except (OSError, ValueError, KeyError, TypeError):
                pass  # never written, or damaged: made anew
            result = make()
            kept = {"stamp": stamp, "files": result.get("files", []), "result": result}
            self.write_json(record.name, kept)
            return result
