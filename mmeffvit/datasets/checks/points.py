"""Checks of point clouds: sweeps of KITTI and Waymo, and rooms.

Files of points have no header. Whether their records are what the config says is judged by what
comes out: columns of a sweep differ from one another (points lie far to the sides and not far up
or down, intensities are small), and columns that are read with a wrong record length do not.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmeffvit.datasets.checks.findings import Finding, error, plural, shorten, spread, warning
from mmeffvit.datasets.checks.images import Folders
from mmeffvit.datasets.checks.names import check_classes, close_name
from mmeffvit.datasets.points.rooms.files import IGNORE_INDEX, LoadRoomFromFile, RoomFileError
from mmeffvit.datasets.points.sweeps.kitti import OTHER_TYPES, read_calibration, read_labels
from mmeffvit.datasets.points.sweeps.waymo import read_infos

#: metres that no point of a sweep or a room is away
_FAR = 2000.0
#: columns are told apart by points of this number
_ENOUGH = 200


def check_kitti(
    ann_file: str,
    folders: Mapping[str, str],
    classes: Sequence[str],
    labelled: bool = True,
    sample: int = 12,
    **points: Any,
) -> list[Finding]:
    """Check sweeps in KITTI's folders.

    Args:
        ann_file: The list of sweeps.
        folders: Folders ``pts``, ``label`` and ``calib``.
        classes: Names in the config.
        labelled: Whether the sweeps must have labels.
        sample: How many files of points are opened. Labels are read to the last.
        **points: Of :func:`check_sweeps`.
    """
    findings = check_classes(classes, ann_file)
    try:
        names = [line.strip() for line in Path(ann_file).read_text().splitlines() if line.strip()]
    except OSError as problem:
        return [error(ann_file, f"cannot be read: {problem}")]
    if not names or findings:
        return findings or [error(ann_file, "names no sweeps")]
    there = Folders()
    suffixes = {"pts": ".bin", "calib": ".txt", **({"label": ".txt"} if labelled else {})}
    for kind, suffix in suffixes.items():
        files = [os.path.join(folders[kind], name + suffix) for name in names]
        missing = there.missing(files)
        if missing:
            what = f"{plural(len(missing), 'file')} of {len(files):,} not in {folders[kind]}"
            todo = "Restore them, or take the sweeps out of the list"
            findings.append(error(ann_file, what, map(os.path.basename, missing), todo))
        elif kind == "calib":
            findings += _unreadable(read_calibration, spread(files, sample))
        elif kind == "label":
            findings += _check_kitti_labels(files, classes, folders["label"])
    files = [os.path.join(folders["pts"], f"{name}.bin") for name in names]
    files = [path for path in files if there.has(path)]
    return findings + check_sweeps(files, folders["pts"], sample=sample, **points)


def _unreadable(read: Any, files: Iterable[str]) -> list[Finding]:
    findings = []
    for path in files:
        try:
            read(path)
        except (OSError, ValueError) as problem:
            findings.append(error(path, str(problem)))
    return findings


def _check_kitti_labels(files: Sequence[str], classes: Sequence[str], folder: str) -> list[Finding]:
    findings, counts = [], Counter()
    for path in files:
        try:
            counts.update(read_labels(path)["names"])
        except (OSError, ValueError) as problem:
            findings.append(error(path, str(problem)))
    return findings + _check_objects(counts, classes, folder, OTHER_TYPES)


def _check_objects(
    counts: Mapping[str, int], classes: Sequence[str], file: str, known: Iterable[str] = ()
) -> list[Finding]:
    """Whether objects have the names of classes; `known` names are left out on purpose."""
    there = f"there are {shorten(f'{n} {name}' for name, n in sorted(counts.items())) or 'none'}"
    unused = [name for name in counts if name not in classes and name not in set(known)]
    absent = [name for name in classes if not counts.get(name)]
    shifted = {name: close_name(name, unused) for name in absent}
    misspelt = [name for name, close in shifted.items() if close]
    if misspelt or (len(absent) == len(classes) and counts):
        what = f"no object is called {shorten(map(repr, misspelt or absent))}; {there}"
        todo = f"Write classes as the files do{shifted[(misspelt or absent)[0]]}"
        return [error(file, what, todo=todo)]
    if absent:
        return [warning(file, f"classes without an object; {there}", absent)]
    return []


def check_waymo(
    ann_file: str,
    folders: Mapping[str, str],
    classes: Sequence[str],
    default_classes: Sequence[str],
    labelled: bool = True,
    sample: int = 12,
    **points: Any,
) -> list[Finding]:
    """Check a list of sweeps in mmdet3d's form, and some of the sweeps.

    Args:
        ann_file: The list.
        folders: Folder ``pts``.
        classes: Names in the config.
        default_classes: Names of the labels, for lists that do not say them.
        labelled: Whether the sweeps must have labels.
        sample: How many files of points are opened.
        **points: Of :func:`check_sweeps`.
    """
    try:
        infos = read_infos(ann_file)
    except (OSError, ValueError) as problem:
        return [error(ann_file, str(problem))]
    findings = check_classes(classes, ann_file)
    categories = (infos.get("metainfo") or {}).get("categories")
    categories = categories or {name: label for label, name in enumerate(default_classes)}
    names = {label: name for name, label in categories.items()}
    entries = infos["data_list"]
    if not entries or findings:
        return findings or [error(ann_file, "names no sweeps")]
    counts, strange, files = Counter(), [], []
    for number, entry in enumerate(entries):
        try:
            files.append(os.path.join(folders["pts"], entry["lidar_points"]["lidar_path"]))
            for item in (entry.get("instances") or []) if labelled else []:
                counts[names.get(item["bbox_label_3d"], f"no. {item['bbox_label_3d']}")] += 1
                if np.shape(item["bbox_3d"]) != (7,) or not np.isfinite(item["bbox_3d"]).all():
                    strange.append(number)
        except (KeyError, TypeError, ValueError):
            strange.append(number)
    if strange:
        what = "entries lack a path, a label or a box of seven finite numbers"
        findings.append(error(ann_file, what, dict.fromkeys(strange)))
    if labelled:
        findings += _check_objects(counts, classes, ann_file)
    there = Folders()
    missing = there.missing(files)
    if missing:
        what = f"{plural(len(missing), 'file')} of {len(files):,} not in {folders['pts']}"
        findings.append(error(ann_file, what, map(os.path.basename, missing)))
    files = [path for path in files if there.has(path)]
    return findings + check_sweeps(files, folders["pts"], sample=sample, **points)


def check_sweeps(
    files: Sequence[str],
    folder: str,
    load_dim: int = 4,
    use_dim: int = 4,
    norm_intensity: bool = False,
    point_cloud_range: Sequence[float] | None = None,
    sample: int = 12,
) -> list[Finding]:
    """Look into some files of points.

    Args:
        files: Their paths.
        folder: Where they are, for messages.
        load_dim: Columns of a record.
        use_dim: Columns that are used.
        norm_intensity: Whether intensities go through tanh, so that large ones do no harm.
        point_cloud_range: (x, y, z, x, y, z) that the model looks at, lowest first, in metres.
        sample: How many are opened.
    """
    findings, shares, empty, bright = [], [], [], {}
    for path in spread(files, sample):
        content = Path(path).read_bytes()
        if not content:
            empty.append(os.path.basename(path))
            continue
        wrong = _check_record(path, content, load_dim)
        if wrong:
            findings.append(wrong)
            continue
        points = np.frombuffer(content, "<f4").reshape(-1, load_dim)
        finite = np.isfinite(points[:, :use_dim]).all(1)
        if not finite.all():
            rows = np.flatnonzero(~finite)
            what = f"{plural(len(rows), 'point')} with numbers that are not finite, such as row"
            findings.append(error(path, f"{what} {rows[0]}", todo="Take these points out"))
            continue
        if use_dim > 3 and not norm_intensity and points[:, 3].max() > 1.5:
            bright[os.path.basename(path)] = float(points[:, 3].max())
        if np.abs(points[:, :3]).max() > _FAR:
            most = np.abs(points[:, :3]).max()
            what = f"points are up to {most:.3g} m away; coordinates must be in metres"
            findings.append(error(path, what, todo="Divide millimetres by 1000"))
        elif point_cloud_range is not None:
            low, high = np.array(point_cloud_range).reshape(2, 3)
            inside = (points[:, :3] >= low) & (points[:, :3] <= high)
            shares.append(inside.all(1).mean())
    if empty:
        findings.append(warning(folder, "sweeps without a point", empty))
    if bright:
        what = f"intensities reach {max(bright.values()):g}; KITTI's are 0 to 1"
        todo = "Divide them by their largest value, or set norm_intensity=True in every loader"
        findings.append(warning(folder, what, bright, todo))
    if shares and max(shares) < 0.02:
        what = f"{max(shares):.1%} of the points at most lie in the range {point_cloud_range}"
        todo = "Set point_cloud_range, or turn and scale the points: x ahead, z up, metres"
        findings.append((error if not max(shares) else warning)(folder, what, todo=todo))
    return findings


def _check_record(path: str, content: bytes, load_dim: int) -> Finding | None:
    """Whether bytes are float32 records of so many columns."""
    if content.startswith(b"\x93NUMPY"):
        todo = "Write np.load(path).astype('float32').tofile(path)"
        return error(path, "is a .npy file under another name; records begin without a header",
                     todo=todo)  # fmt: skip
    columns = [n for n in range(3, 9) if len(content) % (4 * n) == 0]
    if len(content) % 8 == 0:
        doubles = np.frombuffer(content, "<f8")
        if _plausible(doubles) and not _plausible(np.frombuffer(content, "<f4")):
            todo = "Write np.fromfile(path).astype('float32').tofile(path)"
            return error(path, "has float64 numbers; float32 is read", todo=todo)
    if load_dim not in columns:
        fits = f"; {shorten(columns)} columns would fit" if columns else ""
        what = f"{len(content)} bytes are no multiple of {4 * load_dim}: it is cut off, or does not"
        return error(path, f"{what} have load_dim={load_dim} columns{fits}")
    values = np.frombuffer(content, "<f4")
    if len(values) < _ENOUGH * load_dim or not np.isfinite(values).all():
        return None
    contrast = {n: _contrast(values.reshape(-1, n)) for n in columns}
    best = max(contrast, key=contrast.get)
    if contrast[load_dim] < 0.25 * contrast[best] and best % load_dim and load_dim % best:
        return error(
            path,
            f"has records of {best} numbers, by the look of them, not of load_dim={load_dim}",
            todo=f"Set load_dim={best} in every loader",
        )
    return None


def _plausible(values: np.ndarray) -> bool:
    """Whether most numbers could be metres or intensities: neither huge nor next to nothing."""
    with np.errstate(invalid="ignore"):
        size = np.abs(values)
        return bool(((size < 1e4) & ((size > 1e-6) | (size == 0))).mean() > 0.95)


def _contrast(columns: np.ndarray) -> float:
    """How much columns differ from one another: 0 if each is the same mixture of all.

    It is the spread of the columns' quartiles over that of all numbers.
    """
    quartiles = np.quantile(columns, (0.25, 0.5, 0.75), axis=0)
    scale = np.quantile(columns, 0.95) - np.quantile(columns, 0.05) or 1.0
    return float(quartiles.std(1).mean() / scale)


def check_rooms(
    files: Sequence[str],
    semantic_key: str | None,
    classes: Sequence[str],
    ignore_index: int = 255,
    keys: Sequence[str] = ("coord", "color"),
    sample: int = 6,
) -> list[Finding]:
    """Look into some rooms.

    Args:
        files: Their paths.
        semantic_key: Entry with the classes; None if there are no labels.
        classes: Names in the config.
        ignore_index: Label of points that do not count.
        keys: What is loaded of ``coord``, ``color`` and ``normal``.
        sample: How many are opened.
    """
    if not files:
        return []
    folder = os.path.dirname(files[0])
    findings = check_classes(classes, folder)
    if findings:
        return findings
    load = LoadRoomFromFile(keys)
    info = {"semantic_key": semantic_key, "num_classes": len(classes), "ignore_index": ignore_index}
    counted = np.zeros(len(classes), np.int64)
    chosen = spread(list(dict.fromkeys(files)), sample)
    for path in chosen:
        try:
            room = load({"lidar_path": path, **info})
        except RoomFileError as problem:
            findings.append(error(path, str(problem)))
            continue
        findings += _check_room(path, room)
        if semantic_key is not None:
            labels = room["pts_semantic_mask"]
            counted += np.bincount(labels[labels != IGNORE_INDEX], minlength=len(classes))
    if semantic_key is not None and not findings and not counted.any():
        findings.append(error(folder, "no point of the rooms that were read has a class"))
    return findings


def _check_room(path: str, room: Mapping[str, np.ndarray]) -> list[Finding]:
    findings = []
    extent = float(np.ptp(room["coord"], axis=0).max())
    if extent > 500:
        todo = "Coordinates must be in metres"
        findings.append(error(path, f"the room is {extent:.4g} m long", todo=todo))
    elif extent > 100 or (extent < 0.5 and len(room["coord"]) > 1):
        findings.append(
            warning(path, f"the room is {extent:.3g} m long; coordinates must be in metres")
        )
    if "color" in room:
        low, high = float(room["color"].min()), float(room["color"].max())
        if low < 0 or high > 255:
            what = f"colours are {low:g} to {high:g}; they must be 0 to 255"
            findings.append(error(path, what))
        elif 0 < high <= 1:
            what = f"colours are {low:g} to {high:g}, which is black; they must be 0 to 255"
            findings.append(error(path, what, todo="Multiply them by 255"))
    if "normal" in room:
        length = np.linalg.norm(room["normal"], axis=1)
        if abs(float(np.median(length)) - 1) > 0.1:
            what = f"normals have a length of {np.median(length):.3g} and not of 1"
            findings.append(warning(path, what))
    return findings
