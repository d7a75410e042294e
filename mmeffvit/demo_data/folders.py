"""Folders of made data: whole or absent, also when many processes want one at the same time."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

MANIFEST = "manifest.json"


class ForeignFolderError(RuntimeError):
    """A folder that this project did not write stands where data should go."""


def ensure_data(
    root: str | os.PathLike,
    name: str,
    format_version: int,
    config: Mapping[str, Any],
    least: Mapping[str, float],
    write: Callable[[Path, dict, Callable], None],
    workers: int | None,
    log: Callable[[str], None],
) -> bool:
    """Make sure that `root` holds the data that `write` makes of exactly this config.

    Args:
        root: Folder of the data set.
        name: Of the data.
        format_version: Raised whenever one config gives other files.
        config: What the data is, JSON-serialisable.
        least: For entries of `config`, the least that is allowed.
        write: Called as ``write(folder, config, run)`` with an empty folder to fill;
            ``run(make, number, progress)`` is :func:`run_all` with `workers` and `log`.
        workers: Threads; has no influence on the result. All processors by default.
        log: Called with messages about the progress.

    Returns:
        Whether the data had to be written.

    Raises:
        ValueError: An entry is below its least value.
        ForeignFolderError: `root` holds something that is not this data.
    """
    for key, lowest in least.items():
        given = np.min(config[key])
        if given < lowest:
            raise ValueError(f"{key} is {given}; it must be at least {lowest}")
    config = {"data": f"mmeffvit {name}", "format_version": format_version, **config}
    run = functools.partial(run_all, workers=workers, log=log)
    return ensure_folder(root, config, lambda folder: write(folder, config, run), log)


def run_all(
    make: Callable[[int], Any],
    number: int,
    progress: str,
    workers: int | None,
    log: Callable[[str], None],
) -> list:
    """Call `make(index)` for each index below `number`, several at once, and tell progress.

    Args:
        make: What it does must depend on its index alone, hence not on who calls it or when.
        number: Calls to make.
        progress: The message, with ``{done}`` and ``{number}`` to fill in.
        workers: Threads; all processors by default.
        log: Called with messages, five in all.

    Returns:
        What the calls returned, in the order of the indices.
    """
    results = []
    step = max(1, number // 5)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for result in pool.map(make, range(number)):
            results.append(result)
            if len(results) % step == 0 or len(results) == number:
                log(progress.format(done=len(results), number=number))
    return results


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
    lock = FileLock(path)
    # where a file system has no locks, the rename alone decides who wins
    with contextlib.suppress(OSError, NotImplementedError):
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log(f"waiting for another process to write {root} ...")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
