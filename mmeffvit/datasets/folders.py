"""Folders that are whole or absent, also when many processes want the same one at once."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: the rename alone decides who wins
    fcntl = None

MANIFEST = "manifest.json"


class ForeignFolderError(RuntimeError):
    """A folder that this project did not write stands where data should go."""


def ensure_folder(
    root: str | os.PathLike,
    config: dict,
    write: Callable[[Path], None],
    log: Callable[[str], None] = lambda message: None,
) -> bool:
    """Make sure that `root` holds what `write` makes of `config`; write it if it does not.

    One process writes while the others wait for it. The writer fills a temporary folder beside
    `root` and renames it, so `root` never exists half-written; what a killed writer left behind is
    swept up by the next one. A folder made from another `config`, or from which files are missing,
    is written anew.

    Args:
        root: Folder to make.
        config: JSON-serialisable description of the contents; kept in ``manifest.json``.
        write: Called with an empty folder, fills it.
        log: Called with messages for a person.

    Returns:
        Whether this call wrote the folder.

    Raises:
        ForeignFolderError: `root` exists and was not written by this function.
    """
    root = Path(os.path.abspath(root))
    if is_whole(root, config):
        return False
    _check_ours(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with _locked(root.parent / f".{root.name}.lock", root, log):
        if is_whole(root, config):
            return False
        _check_ours(root)
        # we hold the lock, so whoever made these is dead
        for leftover in root.parent.glob(f".{root.name}.tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{root.name}.tmp-", dir=root.parent))
        try:
            scratch.chmod(0o755)  # mkdtemp's 0700 would keep other users out
            write(scratch)
            manifest = {"config": config, "files": _listing(scratch)}
            (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
            return _swap_in(scratch, root, config)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def check_least(**limits: tuple[float, float]) -> None:
    """Raise a ValueError that names the first argument below its least value.

    Args:
        **limits: For each argument, its value and the least that is allowed.
    """
    for name, (value, least) in limits.items():
        if value < least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")


def is_whole(root: Path, config: dict) -> bool:
    """Whether `root` was written from `config` and every file is there with its size."""
    manifest = _read_manifest(root)
    if manifest is None or manifest["config"] != json.loads(json.dumps(config)):
        return False
    return _listing(root) == manifest["files"]


def folder_hash(root: str | os.PathLike) -> str:
    """SHA-256 over the names and bytes of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(root).rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(root)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _listing(root: Path) -> dict[str, list[int]]:
    """Number of files and of bytes for each folder below: cheap to take, and a lost file shows."""
    listing = {}
    for folder, _, names in sorted(os.walk(root)):
        if Path(folder) != root:
            sizes = [os.stat(os.path.join(folder, name)).st_size for name in names]
            listing[Path(folder).relative_to(root).as_posix()] = [len(sizes), sum(sizes)]
    return listing


def _read_manifest(root: Path) -> dict | None:
    try:
        manifest = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    is_ours = isinstance(manifest, dict) and {"config", "files"} <= manifest.keys()
    return manifest if is_ours else None


def _check_ours(root: Path) -> None:
    if not root.exists() or _read_manifest(root) is not None:
        return
    if root.is_dir() and not any(root.iterdir()):
        return
    raise ForeignFolderError(
        f"{root} already exists and was not written by mmeffvit (it has no {MANIFEST} of ours), so "
        "it is left alone. Choose another folder, or move this one away."
    )


def _swap_in(scratch: Path, root: Path, config: dict) -> bool:
    """Put `scratch` in the place of `root`; False if another process got there first."""
    old = None
    if root.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{root.name}.tmp-", dir=root.parent))
        os.replace(root, old)
    try:
        os.rename(scratch, root)
        return True
    except OSError:  # without a working lock, somebody else's rename may come before ours
        if is_whole(root, config):
            return False
        raise
    finally:
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, root: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold an advisory lock; the system releases it when its holder dies, however it dies."""
    if fcntl is None:
        yield
        return
    with open(path, "a") as file:
        next_message = time.monotonic() + 1
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > next_message:
                    log(f"waiting for another process to write {root} ...")
                    next_message = time.monotonic() + 10
                time.sleep(0.1)
            except OSError:  # a file system without locks: the rename alone decides
                break
        yield
