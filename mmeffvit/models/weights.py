"""What is published: weights by name, with where they are, what they are, and their licence.

Lists of files stand in `mmeffvit.models.published`, one module per family, and networks refer to
them (`Network.weights`). `mmeffvit.checkpoint.fetch` gets them, when it is asked to by name.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmeffvit.errors import did_you_mean

#: what configs and command lines write before a name
PREFIX = "mmeffvit://"
#: of code and of files for which nobody has said what may be done with them
NO_LICENCE = "none stated"
#: environment variables that, unless empty, 0 or false, keep from fetching anything
OFFLINE = ("MMEFFVIT_OFFLINE", "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class WeightsFile:
    """A published file, or several of one kind in a share. It has one of url, hub and share.

    Attributes:
        network: Whose weights they are: a family and a variant, such as ``'ravlt-tiny'``.
        tag: What they were trained for, such as ``'in1k'`` or ``'mask-rcnn-1x'``.
        task: The same in words.
        licence: Of the file, as its publishers state it, or `NO_LICENCE`.
        url: Address of the file.
        hub: Repository on huggingface.co, and the file in it, in which ``*`` stands for folders
            that are not known.
        share: Where to look for it, if it has no address of its own.
        size: Bytes; None if not known.
        sha256: Hexadecimal digits of its SHA-256: all, the first ones, or '' if not known.
        figures: Published accuracies in percent, by name.
        config: Of whole models: file below ``configs/`` whose model these are.
        note: What one must know besides.
    """

    network: str
    tag: str
    task: str
    licence: str
    url: str = ""
    hub: tuple[str, str] | None = None
    share: str = ""
    size: int | None = None
    sha256: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    config: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """Such as ``'ravlt-tiny/in1k'``."""
        return f"{self.network}/{self.tag}"

    @property
    def file_name(self) -> str:
        """Of the file itself, without its folder; '' for what is in a share."""
        return (self.url or (self.hub[1] if self.hub else "")).rpartition("/")[2]

    @property
    def source(self) -> str:
        """Where it is, for people."""
        if self.hub is not None:
            return f"huggingface.co/{self.hub[0]}, file {self.hub[1]}"
        return self.url or self.share


def is_offline() -> bool:
    """Whether the environment says that nothing may be fetched."""
    values = (os.environ.get(name, "").lower() for name in OFFLINE)
    return any(value not in ("", "0", "false", "no", "off") for value in values)


def weights_files() -> dict[str, WeightsFile]:
    """All published files by name."""
    from mmeffvit.models.zoo import network_classes

    # a network that derives from another has none of its files
    own = (vars(cls).get("weights", ()) for cls in network_classes().values())
    return {file.name: file for files in own for file in files}


def list_weights(pattern: str = "*") -> list[str]:
    """Names of published weights that match a shell pattern, sorted.

    >>> list_weights('ravlt-tiny/*')
    ['ravlt-tiny/fpn', 'ravlt-tiny/in1k', 'ravlt-tiny/mask-rcnn-1x', 'ravlt-tiny/retinanet-1x']
    """
    return sorted(fnmatch.filter(weights_files(), pattern))


def find_weights_file(name: str, network: str | None = None) -> WeightsFile:
    """A published file by its name.

    Args:
        name: One of :func:`list_weights`, with or without `PREFIX`; or a tag, if there is a
            `network`.
        network: Name of a network, such as ``'ravlt-tiny'``.

    Raises:
        ValueError: Nothing is published under this name.
    """
    short = name.removeprefix(PREFIX)
    files = weights_files()
    full = f"{network}/{short}" if network and "/" not in short else short
    if full in files:
        return files[full]
    family = full.partition("/")[0]
    own = [known for known in files if known.startswith(f"{network or family}/")]
    if own:
        raise ValueError(
            f"no weights are called '{full}'; those of {network or family} are {', '.join(own)}"
        )
    hint = did_you_mean(full, files, most=3) or "; mmeffvit.list_weights() names all"
    raise ValueError(f"no weights are called '{full}'{hint}")
