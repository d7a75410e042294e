"""From a model of a toolbox to an ONNX file that needs none."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmeffvit.deploy.errors import ExportError
from mmeffvit.deploy.kinds import Kind, find_form
from mmeffvit.deploy.masks import Instances
from mmeffvit.deploy.neighbourhoods import expand
from mmeffvit.deploy.pixels import (
    Preparation,
    graph_after_masks,
    graph_after_segmentor,
    graph_before,
)
from mmeffvit.deploy.programs import to_onnx, trace
from mmeffvit.deploy.segmentors import LabelMap
from mmeffvit.files import whole_file
from mmeffvit.version import __version__

if TYPE_CHECKING:
    import onnx

#: what the graph does before the network: nothing, or normalising and padding
INSIDE = ("network", "pixels")
_DYNAMIC = torch.export.Dim.DYNAMIC
#: what may vary between calls, most first
VARIES = ("batch and size", "size", "nothing")
_OPSET = 18


class Network(nn.Module):
    """A form, on images whose sides are multiples: as tiles, so that no symbol has a remainder.

    Args:
        form: Of `find_form`.
        divisor: Side of a tile; 1 if images of every size come in, and none is cut into tiles.
    """

    def __init__(self, form: nn.Module, divisor: int) -> None:
        super().__init__()
        self.form, self.divisor = form, divisor

    def forward(self, images: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Tiles (B, C, h, divisor, w, divisor), or images (B, C, H, W), to the outputs of the form.

        `size`, (2,), is that of the images without padding.
        """
        if self.divisor > 1:
            images = images.flatten(4, 5).flatten(2, 3)
        return self.form(images, size)


@dataclass
class Exported:
    """A file that was written.

    Attributes:
        kind: What the model is.
        names: Of the outputs.
        varies: What may differ between calls: one of `VARIES`.
        why: Why not more, in the exporter's words; empty if what was asked for varies.
    """

    kind: Kind
    names: tuple[str, ...]
    varies: str
    why: str = ""


def export_model(
    model: nn.Module,
    path: str | os.PathLike,
    *,
    inside: str = "pixels",
    shape: tuple[int, int] = (448, 704),
    channels: int = 3,
    varies: str = "batch and size",
    metadata: dict[str, Any] | None = None,
) -> Exported:
    """Write a model to an ONNX file, whole or not at all.

    Args:
        model: Of mmdet, mmseg, mmpretrain, or a classifier of ours, in evaluation mode.
        path: The file.
        inside: ``'pixels'``: the graph takes uint8 images as OpenCV reads them, (B, C, H, W), and
            normalises and pads by itself; ``'network'``: it takes what the network takes.
        shape: Rows and columns of the images that are traced. They must differ, and no map of the
            network may be one pixel high or wide: an exporter takes what is equal, or one, for what
            always is.
        channels: Of an image.
        varies: At most this may differ between calls: ``'batch and size'``, ``'size'`` or
            ``'nothing'``. Models that allow less get less.
        metadata: Goes into the file, as JSON, beside what is known from the model.

    Raises:
        ExportError: The model, or a setting of it, has no form for export.
        ValueError: An argument is none of those that are allowed.
    """
    _check(inside, varies, shape)
    kind, form = find_form(model)
    preprocessor = getattr(model, "data_preprocessor", None)
    if inside != "network" and preprocessor is None:
        raise ExportError(
            f"{type(model).__name__} has no data_preprocessor that says how images are normalised; "
            "export with inside='network' and do it outside"
        )
    preparation = Preparation() if preprocessor is None else Preparation.of(preprocessor)
    divisor = preparation.divisor if varies != "nothing" else 1
    network = Network(form, divisor).eval().requires_grad_(False)
    padded = [-(-side // preparation.divisor) * preparation.divisor for side in shape]
    program, varies, why = _trace(network, (channels, *padded), varies)
    known = {
        "kind": kind.finds,
        "inside": inside,
        "varies": varies,
        "shape": list(shape),
        "preparation": preparation.as_dict(),
        "version": __version__,
        **(metadata or {}),
    }
    before = graph_before(preparation if inside != "network" else None, channels, divisor)
    with whole_file(path) as part:
        converted = to_onnx(program, ("network_input", "size"), _output_names(program))
        whole = expand(_compose(converted, before, _after(form, inside)))
        _describe(whole, known)
        import onnx

        onnx.checker.check_model(whole)
        onnx.save(whole, os.fspath(part))
    names = tuple(output.name for output in whole.graph.output)
    return Exported(kind, names, varies, why)


def _check(inside: str, varies: str, shape: tuple[int, int]) -> None:
    for name, value, known in (("inside", inside, INSIDE), ("varies", varies, VARIES)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; {', '.join(map(repr, known))} are known")
    if shape[0] == shape[1] and varies != "nothing":
        raise ValueError(f"shape {shape} is a square; sides that differ keep both of them free")


def _trace(
    network: Network, shape: tuple[int, int, int], varies: str
) -> tuple[torch.export.ExportedProgram, str, str]:
    """The program with as much freedom as the model allows, and why it has no more."""
    reasons: list[str] = []
    tile, (channels, height, width) = network.divisor, shape
    sides = (2, 4) if tile > 1 else (2, 3)
    for freedom in VARIES[VARIES.index(varies) :]:
        free = {"batch and size": (0, *sides), "size": sides, "nothing": ()}[freedom]
        image = torch.zeros(2 if 0 in free else 1, channels, height, width)
        if tile > 1:
            image = image.unflatten(3, (-1, tile)).unflatten(2, (-1, tile))
        dynamic = (dict.fromkeys(free, _DYNAMIC) or None, None)
        try:
            program = trace(network, (image, torch.tensor([height, width])), dynamic)
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {_first_lines(error)}")
            continue
        return program, freedom, reasons[-1] if reasons else ""
    raise ExportError(f"torch.export does not trace the model: {reasons[-1]}")


def _output_names(program: torch.export.ExportedProgram) -> list[str]:
    """Keys of what the form returns, in the order of the graph's outputs."""
    _, keys = program.call_spec.out_spec.type, program.call_spec.out_spec.context
    return [str(key) for key in keys]


def _after(form: nn.Module, inside: str) -> str | None:
    """What follows the network, if anything does."""
    kind = "float" if inside == "network" else "uint8"
    if isinstance(form, Instances):
        return graph_after_masks(kind)
    if not isinstance(form, LabelMap):
        return None
    threshold = getattr(form.head, "threshold", None) or 0.5
    return graph_after_segmentor(form.head.out_channels, threshold, kind)


def _compose(network: onnx.ModelProto, before: str, after: str | None) -> onnx.ModelProto:
    """Three graphs as one; values go from one to the next under their names."""
    from onnx import compose, parser

    # the exporter's names of what lies between must not meet ours
    whole = compose.add_prefix(network, "network/", rename_inputs=False, rename_outputs=False)
    first = parser.parse_model(before).graph
    nodes = [*first.node, *whole.graph.node]
    outputs = list(whole.graph.output)
    if after is not None:
        last = parser.parse_model(after).graph
        nodes += last.node
        outputs = list(last.output)
    for values, new in (
        (whole.graph.node, nodes),
        (whole.graph.input, list(first.input)),
        (whole.graph.output, outputs),
    ):
        copies = [type(value).FromString(value.SerializeToString()) for value in new]
        del values[:]
        values.extend(copies)
    return whole


def _describe(whole: onnx.ModelProto, known: dict[str, Any]) -> None:
    for name, value in known.items():
        whole.metadata_props.add(key=f"mmeffvit.{name}", value=json.dumps(value))


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:400]
