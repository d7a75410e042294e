"""Which checkpoint a run resumes from: the one it is told, or its last whole one."""

import logging
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmeffvit.checkpoint import CheckpointError, read_checkpoint
from mmeffvit.configs import Place, lookup, values_of_text, walk

# What mmengine's Runner.resume reads.
_TRAINING_STATE = ("state_dict", "optimizer", "meta", "message_hub")
_SCHEDULES = ("param_scheduler",)


def find_damage(path: str | os.PathLike) -> str | None:
    """Why a checkpoint file cannot be used, or None if every byte of it is as it was written.

    Since version 1.6, ``torch.save`` writes a zip archive, whose index is its last part and which
    has a checksum for every entry: both a cut-off and a flipped bit show without loading the file.
    """
    path = Path(path)
    if not path.exists():
        return "does not exist"
    if path.is_dir():  # a sharded checkpoint, which its framework checks
        return None
    size = path.stat().st_size
    if size == 0:
        return "is empty"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError):
        return f"is truncated: of {size} bytes, none are the index that ends a checkpoint"
    return None if damaged is None else f"is corrupt: {damaged} does not match its checksum"


def list_checkpoints(cfg: Config) -> list[Path]:
    """Checkpoints that a run of this config left in its work dir, the last first, whole or not.

    They are found by their names. The file ``last_checkpoint`` is only asked about a checkpoint
    that lies elsewhere: it is written after the checkpoint, and after a move points to the old
    place.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    work_dir = Path(cfg.work_dir)
    # CheckpointHook gives each run its own folder under out_dir
    folder = Path(hook["out_dir"], work_dir.resolve().name) if hook.get("out_dir") else work_dir
    default = "epoch_{}.pth" if hook.get("by_epoch", True) else "iter_{}.pth"
    template = hook.get("filename_tmpl") or default
    pattern = re.compile(re.escape(template).replace(r"\{\}", r"(\d+)"))
    numbered = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            numbered[path] = int(match[1])
    found = sorted(numbered, key=numbered.get, reverse=True)
    pointer = work_dir / "last_checkpoint"
    target = Path(pointer.read_text().strip()) if pointer.is_file() else None
    if target is not None and target.is_file() and target.resolve() not in map(Path.resolve, found):
        found.append(target)
    return found


def set_resume(cfg: Config, resume: str | None = None) -> list[tuple[int, str]]:
    """Decide where a run starts, before anything is built.

    Afterwards ``cfg.load_from`` names a whole checkpoint or ``cfg.resume`` is False. Without a seed
    in the config, the run gets that of the checkpoint, as the order of the samples follows it.

    Args:
        cfg: Changed in place; its ``resume`` and ``load_from`` count as in mmengine.
        resume: ``'auto'``, a path, or None for what the config says.

    Returns:
        Messages for the log, each with its level.

    Raises:
        CheckpointError: The checkpoint that was asked for is damaged or holds no training state.
    """
    if resume is None and not cfg.get("resume"):
        left = list_checkpoints(cfg)
        if not left:
            return []
        return [
            (
                logging.WARNING,
                f"{cfg.work_dir} holds checkpoints of an earlier run, up to {left[0].name}; this "
                "run starts anew and will overwrite them (--resume continues instead)",
            )
        ]
    explicit = resume if resume not in (None, "auto") else None
    if resume is None:
        explicit = cfg.get("load_from")
    if explicit is not None:
        if "://" not in explicit:
            _check(Path(explicit))
        notes = [(logging.INFO, f"Resuming from {explicit}")]
    else:
        explicit, notes = _last_whole(cfg)
    cfg.resume = explicit is not None
    if explicit is None:
        return notes
    cfg.load_from = str(explicit)
    return notes + _take_seed(cfg)


def _last_whole(cfg: Config) -> tuple[Path | None, list[tuple[int, str]]]:
    notes = []
    for path in list_checkpoints(cfg):
        damage = find_damage(path)
        if damage is None:
            notes.append((logging.INFO, f"Resuming from {path}, the last whole checkpoint"))
            return path, notes
        notes.append((logging.WARNING, f"Checkpoint {path} {damage}; trying the one before"))
    notes.append(
        (logging.WARNING, f"No whole checkpoint in {cfg.work_dir} to resume from; starting anew")
    )
    return None, notes


def _check(path: Path) -> None:
    damage = find_damage(path)
    if damage is not None:
        raise CheckpointError(
            f"Cannot resume: the checkpoint {path} {damage}; give another one, or --resume without "
            "a path, which takes the last whole one of the work directory."
        )


def _take_seed(cfg: Config) -> list[tuple[int, str]]:
    path = Path(cfg.load_from)
    if not path.is_file():
        return []
    checkpoint = read_checkpoint(path)
    absent = [key for key in _TRAINING_STATE if key not in checkpoint]
    if absent:
        raise CheckpointError(
            f"Cannot resume: {path} holds no {', '.join(absent)}, so it is not the state of a "
            f"training run; to start from its weights use --cfg-options load_from={path}."
        )
    notes = _name_what_stays(cfg, checkpoint["meta"])
    randomness = dict(cfg.get("randomness") or {})
    seed = checkpoint["meta"].get("seed")
    if randomness.get("seed") is not None or seed is None:
        return notes
    cfg.randomness = {**randomness, "seed": seed}
    return [*notes, (logging.INFO, f"randomness.seed={seed}, from the checkpoint")]


def _name_what_stays(cfg: Config, meta: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Learning rates and schedules that the config has changed, and a resumed run does not."""
    before = values_of_text(meta.get("cfg") or "")
    if not before:
        return []
    changed = []
    for top in (("optim_wrapper", "optimizer"), ("optim_wrapper", "paramwise_cfg"), _SCHEDULES):
        old, new = (dict(_leaves(tree, top)) for tree in (before, cfg))
        for place in sorted(old.keys() | new.keys(), key=str):
            if old.get(place) != new.get(place):
                stays, said = (repr(v[place]) if place in v else "nothing" for v in (old, new))
                changed.append(f"{'.'.join(map(str, place))} {stays} (the config says {said})")
    if not changed:
        return []
    more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
    return [
        (
            logging.WARNING,
            "The run that is resumed was started with other rates or schedules, and keeps them, as "
            f"they are part of its state: {', '.join(changed[:6])}{more}. To train on with those "
            "of the config, start from the weights: --cfg-options load_from=CHECKPOINT, without "
            "--resume.",
        )
    ]


def _leaves(tree: Any, top: Place) -> Iterator[tuple[Place, Any]]:
    """Values that hold no others, with their places; one schedule is a list of one."""
    part = lookup(tree, top)
    if top == _SCHEDULES and isinstance(part, Mapping) and "type" in part:
        part = [part]
    for place, value in walk(part):
        if place and not isinstance(value, (Mapping, list, tuple)):
            yield (*top, *place), value
