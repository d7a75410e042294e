"""Published weights by name: fetched when asked for, checked, converted once, and kept."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from mmeffvit.checkpoint.convert import convert_official
from mmeffvit.checkpoint.download import (
    FetchError,
    Progress,
    download,
    full_disk,
    sha256_of,
    verify,
)
from mmeffvit.checkpoint.files import CheckpointError, read_checkpoint, write_checkpoint
from mmeffvit.checkpoint.load import check_by_loading
from mmeffvit.checkpoint.whole import convert_whole
from mmeffvit.models.weights import (
    OFFLINE,
    PREFIX,
    WeightsFile,
    find_weights_file,
    is_offline,
    weights_files,
)
from mmeffvit.models.zoo import network_classes, point_backbone_classes

#: environment variable with the folder in which weights are kept
HOME = "MMEFFVIT_HOME"


def fetch(name: str, whole: bool = False) -> Path:
    """The weights of a name, converted: a .safetensors file on disk.

    What is not there is fetched, checked, converted and kept; of several processes of a machine one
    does so, and the others wait for it.

    Args:
        name: One of `mmeffvit.list_weights`, with or without ``mmeffvit://``.
        whole: Of a detector or segmentor the whole model, and not the backbone alone.

    Raises:
        ValueError: There is no such name.
        FetchError: It did not come, or is in a share from which nothing can be fetched by name.
        CheckpointError: It is not what it was said to be.
    """
    file = find_weights_file(name)
    whole = whole and _is_whole(file)
    target = converted_path(file, whole)
    if target.is_file():
        return target
    with _only_one_process(file):
        if not target.is_file():
            _convert(file, _official(file), target, whole)
    return target


def add_file(name: str, path: str | os.PathLike) -> Path:
    """Take a file that somebody has got by hand for the one of a name; `fetch` then finds it.

    Args:
        name: One of `mmeffvit.list_weights`.
        path: The file as its authors publish it, on disk.

    Returns:
        The converted file.

    Raises:
        FetchError: It is not the published one.
        CheckpointError: It cannot be converted.
    """
    file = find_weights_file(name)
    path = Path(path)
    read_checkpoint(path)  # says what is wrong with a file that is none
    size = path.stat().st_size
    if file.size not in (None, size) or not sha256_of(path).startswith(file.sha256):
        raise FetchError(
            f"'{path}' is not the published file of {file.name}, whose size or SHA-256 is another: "
            f"get it again ({file.source}), or convert yours with tools/convert_checkpoint.py"
        )
    with _only_one_process(file):
        for whole in {False, _is_whole(file)}:
            _convert(file, path, converted_path(file, whole), whole)
    return converted_path(file, False)


def weights_path(weights: str | os.PathLike, network: str | None = None) -> Path:
    """The file of weights that are given by name, or as a file.

    Args:
        weights: One of `mmeffvit.list_weights`, a tag such as ``'in1k'``, or a file under our keys.
        network: Whose weights they are; needed for a tag.
    """
    if isinstance(weights, os.PathLike) or os.path.isfile(weights):
        return Path(weights)
    return fetch(find_weights_file(weights, network).name)


def as_checkpoint(text: str | os.PathLike) -> str:
    """What ``init_cfg`` takes for a file or a name: names begin with ``mmeffvit://``.

    Raises:
        ValueError: It begins so, and nothing is published under the name.
    """
    text = os.fspath(text)
    if text.startswith(PREFIX) or (not os.path.exists(text) and text in weights_files()):
        return PREFIX + find_weights_file(text).name
    return text


def local_file(checkpoint: str | os.PathLike) -> str:
    """The file on disk of a checkpoint that is a file already, or a name: then the whole model's.

    Raises:
        CheckpointError: There is no such name, or its file cannot be fetched or converted.
    """
    try:
        checkpoint = as_checkpoint(checkpoint)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return str(fetch(checkpoint, whole=True)) if checkpoint.startswith(PREFIX) else checkpoint


def load_by_name(filename: str, map_location: Any = None, **kwargs: Any) -> dict[str, Any]:
    """What mmengine reads for ``mmeffvit://NAME``: the whole model, as far as there is one."""
    weights = read_checkpoint(fetch(filename, whole=True))
    return {"state_dict": {key: value.to(map_location or "cpu") for key, value in weights.items()}}


# -- places ----------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where weights are kept: `MMEFFVIT_HOME`, or ``mmeffvit`` in the user's cache."""
    if home := os.environ.get(HOME):
        return Path(home).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mmeffvit"


def folder_of(file: WeightsFile) -> Path:
    """Where one file is kept; another address, or other contents, have another folder."""
    mark = hashlib.sha256(f"{file.source} {file.size} {file.sha256}".encode()).hexdigest()[:8]
    return cache_folder() / "weights" / file.network / f"{file.tag}-{mark}"


def converted_path(file: WeightsFile, whole: bool = False) -> Path:
    """Where its weights under our keys are, or will be."""
    part = "-model" if whole else ""
    return folder_of(file) / f"{file.network}_{file.tag}{part}.safetensors"


# -- fetching --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one_process(file: WeightsFile) -> Iterator[None]:
    lock = folder_of(file) / "lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"'{lock.parent}' cannot be made ({error}); name a folder that can be written to in "
            f"the environment variable {HOME}"
        ) from error
    guard = FileLock(lock)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        _say(f"{file.name}: another process fetches it; waiting")
        guard.acquire()
    try:
        yield
    finally:
        guard.release()


def _official(file: WeightsFile) -> Path:
    """The file as it was published, fetched if need be."""
    if file.share:
        raise FetchError(
            f"{file.name} cannot be fetched by name, as it is in a share: {file.share}. Get the "
            f"file there, and name it once: tools/weights.py get {file.name} --file FILE"
        )
    target = folder_of(file) / file.file_name
    if file.hub is None and target.is_file():
        return target
    if is_offline() and file.hub is None:
        raise FetchError(_offline(file))
    _say(f"{file.name}: {file.task}, from {file.source}; licence: {file.licence}")
    if file.hub is not None:
        return _from_hub(file)
    return download(
        file.url, target, size=file.size, sha256=file.sha256, progress=_reports(file.file_name)
    )


def _offline(file: WeightsFile) -> str:
    return (
        f"{file.name} is not in '{folder_of(file)}', and {' or '.join(OFFLINE)} says that nothing "
        f"is fetched. Get it where there is a network ({file.source}), and name it once: "
        f"tools/weights.py get {file.name} --file FILE"
    )


def _from_hub(file: WeightsFile) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise FetchError(
            f"{file.name} is on huggingface.co: pip install 'mmeffvit[hub]', or get the file from "
            f"{file.source} and name it with tools/weights.py get {file.name} --file FILE"
        ) from error
    repository, pattern = file.hub
    try:
        path = pattern if "*" not in pattern else _only_match(file, repository, pattern)
        found = huggingface_hub.hf_hub_download(
            repository, path, local_files_only=is_offline() or None
        )
    except FetchError:
        raise
    except Exception as error:  # of the library, of its HTTP client, of the disk
        if isinstance(error, LocalEntryNotFoundError) and is_offline():
            raise FetchError(_offline(file)) from error
        raise FetchError(_hub_failed(file, error)) from error
    try:
        verify(Path(found), file.source, file.size, file.sha256)
    except FetchError:
        blob = Path(found).resolve()  # the name in the hub's folder is a link
        blob.unlink(missing_ok=True)
        raise
    return Path(found)


def _only_match(file: WeightsFile, repository: str, pattern: str) -> str:
    """The file of a repository that fits a pattern; offline, of those in the hub's cache."""
    import huggingface_hub

    if is_offline():
        folder = Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    else:
        files = huggingface_hub.HfApi().list_repo_files(repository)
    found = fnmatch.filter(files, pattern)
    if not found and is_offline():
        raise FetchError(_offline(file))
    if len(found) != 1:
        close = [name for name in files if name.endswith((".pth", ".bin"))]
        raise FetchError(
            f"{len(found)} files of huggingface.co/{repository} fit '{pattern}', and one should; "
            f"it has {', '.join(found or close) or 'none'}. Get the right one, and name it with "
            "tools/weights.py get NAME --file FILE"
        )
    return found[0]


def _hub_failed(file: WeightsFile, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if getattr(error, "errno", None) == errno.ENOSPC:
        reason = f"{reason}; make room where HF_HOME lies, or name another folder there"
    return (
        f"{file.name} did not come from {file.source}: {reason}. Ask for it again, and it goes on "
        "from where it was; or get the file elsewhere, and name it with tools/weights.py get "
        f"{file.name} --file FILE"
    )


def _convert(file: WeightsFile, source: Path, target: Path, whole: bool) -> None:
    family = _family(file)
    checkpoint = read_checkpoint(source)
    if whole:
        conversion = convert_whole(checkpoint, file.config)
    else:
        conversion = convert_official(checkpoint, family)
        check_by_loading(conversion, file.network.removeprefix(f"{family}-"))
    sha256 = sha256_of(source)
    metadata = {
        "name": file.name,
        "source": file.source,
        "sha256": sha256,
        "licence": file.licence,
        "entry": conversion.container,
    }
    try:
        write_checkpoint(conversion.state_dict, target, metadata)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise FetchError(full_disk(target.parent)) from error
    count = len(conversion.state_dict)
    _say(f"{file.name}: {count} tensors in '{target}'; SHA-256 of the published file: {sha256}")


def _is_whole(file: WeightsFile) -> bool:
    """Whether there is a whole model to convert; of points, conversion takes all of it anyway."""
    return bool(file.config) and _family(file) not in point_backbone_classes()


def _family(file: WeightsFile) -> str:
    owners = network_classes().items()
    return next(name for name, cls in owners if file in vars(cls).get("weights", ()))


def _say(text: str) -> None:
    print_log(text, logger="current")


def _reports(name: str, every: float = 5.0) -> Progress:
    """Tells how much has come, how fast, and how long the rest takes."""
    started = last = time.monotonic()
    first: int | None = None

    def report(done: int, total: int | None) -> None:
        nonlocal last, first
        first = done if first is None else first
        now = time.monotonic()
        if now - last < every:
            return
        last = now
        speed = max(done - first, 1) / (now - started)
        text = f"{name}: {done >> 20} MiB"
        if total:
            seconds = int((total - done) / speed)
            text = f"{text} of {total >> 20}, {seconds // 60}:{seconds % 60:02d} left"
        _say(f"{text}, {speed / 2**20:.1f} MiB/s")

    return report
