"""Reading and writing through mmengine: files that are whole or absent, safetensors."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import CheckpointLoader

from mmeffvit.checkpoint import read_checkpoint


@register_backend("atomic_local")
class AtomicLocalBackend(LocalBackend):
    """Local disk; a file appears under its name only when all of its bytes are on the disk.

    Use it wherever mmengine takes ``backend_args``: ``dict(backend='atomic_local')``. The bytes go
    to ``<name>.tmp`` in the same folder, which a later write of the same name overwrites.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".tmp")
        try:
            with open(unfinished, "wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        self.put(obj.encode(encoding), filepath)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; a no-op where folders cannot be opened (Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@CheckpointLoader.register_scheme(prefixes=r".*\.safetensors$")
def load_from_safetensors(filename: str, map_location: str | None = None) -> dict:
    """Let mmengine's ``load_from`` and ``init_cfg`` read .safetensors files; onto the CPU."""
    return {"state_dict": read_checkpoint(filename)}
