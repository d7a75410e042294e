"""``--cfg-options`` that change nothing: misspelt keys, and variables that have been used."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from mmeffvit.configs import walk
from mmeffvit.engine.errors import LaunchError

#: entries that tools, hooks and toolboxes read beside those of mmengine's Runner
_ALSO_READ = (
    "auto_scale_lr",
    "backend_args",
    "compile",
    "custom_imports",
    "data_preprocessor",
    "data_root",
    "find_unused_parameters",
    "model_wrapper_cfg",
    "runner_type",
    "strategy",
    "sync_bn",
    "tta_model",
    "tta_pipeline",
)
_CLOSE = 0.8


def check_options(cfg: Config, options: Mapping[str, Any]) -> Iterator[str]:
    """What is doubtful about options, before they are merged into a config.

    Args:
        cfg: The config, as it was read.
        options: Dotted keys and values.

    Yields:
        Sentences about options that change nothing, or make a key like one that there is.

    Raises:
        LaunchError: An option makes an entry that nothing reads, and that is close to one that is.
    """
    read = {*inspect.signature(Runner.__init__).parameters, *_ALSO_READ} - {"self", "cfg"}
    for option in options:
        top, *rest = option.split(".")
        if top in read:
            yield from _doubt_new_key(cfg, [top, *rest])
        elif top in cfg:
            yield (
                f"{option} is a variable of the config file, which has been used already: setting "
                f"it changes nothing{_used_for(cfg, top, rest, read)}"
            )
        else:
            close = difflib.get_close_matches(top, {*read, *cfg.keys()}, 1, _CLOSE)
            if close:
                raise LaunchError(
                    f"--cfg-options {option}: nothing reads {top!r}; did you mean "
                    f"{'.'.join([*close, *rest])}?"
                )
            yield f"{option} makes the entry {top!r}, which no tool reads"


def _doubt_new_key(cfg: Config, path: Sequence[str]) -> Iterator[str]:
    """Keys that are new in a dict without a type: classes refuse arguments they do not know."""
    node: Any = cfg
    for depth, key in enumerate(path):
        if isinstance(node, (list, tuple)):
            index = int(key) if key.isdigit() else len(node)
            node = node[index] if index < len(node) else None
        elif not isinstance(node, (Mapping, Config)):
            return
        elif key in node:
            node = node[key]
        else:
            close = difflib.get_close_matches(key, map(str, node.keys()), 1, _CLOSE)
            if close and "type" not in node:
                there = ".".join([*path[:depth], *close])
                yield f"{'.'.join(path)} makes a new key; did you mean {there}, which is there?"
            return


def _used_for(cfg: Config, top: str, rest: Sequence[str], read: Collection[str]) -> str:
    """Where a variable's value stands, as far as it can be told by the value."""
    value = cfg[top]
    telling = not isinstance(value, (bool, int, type(None)))
    places = [
        ".".join(map(str, (name, *place, *rest)))
        for name in sorted(read)
        if cfg.get(name) is not None
        for place, inner in walk(cfg[name])
        if type(inner) is type(value) and inner == value and (telling or place[-1:] == (top,))
    ]
    if not places:
        return "; set the entries that it was used for"
    return f"; set {', '.join(places[:3])}{' ...' if len(places) > 3 else ''}"
