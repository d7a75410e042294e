"""Reading and writing through mmengine: files that are whole or absent, safetensors."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import CheckpointLoader

from mmeffvit.checkpoint import read_checkpoint
from mmeffvit.files import whole_file


@register_backend("atomic_local")
class AtomicLocalBackend(LocalBackend):
    """Local disk; a file appears under its name only when all of its bytes are on the disk.

    Use it wherever mmengine takes ``backend_args``: ``dict(backend='atomic_local')``; see
    `mmeffvit.files.whole_file` for where the bytes go.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with whole_file(filepath, durable=True) as scratch:
            scratch.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        self.put(obj.encode(encoding), filepath)


@CheckpointLoader.register_scheme(prefixes=r".*\.safetensors$")
def load_from_safetensors(filename: str, map_location: str | None = None) -> dict:
    """Let mmengine's ``load_from`` and ``init_cfg`` read .safetensors files; onto the CPU."""
    return {"state_dict": read_checkpoint(filename)}
