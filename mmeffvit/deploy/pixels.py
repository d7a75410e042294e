"""What a toolbox does between an image and its network, as a small ONNX graph before the exported
one.

Composed, not traced: the exported network sees sizes that are multiples, as symbols without a
remainder, and stays simple.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmeffvit.deploy.errors import ExportError


@dataclass
class Preparation:
    """How images become what a network takes.

    Attributes:
        mean: Of every channel, none if images are not normalised.
        std: Likewise.
        swaps_channels: Whether the first of three channels becomes the last.
        divisor: Rows and columns are padded to multiples of it, on the right and at the bottom.
        value: Of what is added.
    """

    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    swaps_channels: bool = False
    divisor: int = 1
    value: float = 0.0

    @classmethod
    def of(cls, preprocessor: nn.Module) -> Preparation:
        """Read the ``data_preprocessor`` of a model of mmdet, mmseg or mmpretrain.

        Raises:
            ExportError: It pads to a size.
        """
        mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
        normalises = mean is not None and std is not None
        swaps = ("_channel_conversion", "channel_conversion", "to_rgb")
        return cls(
            mean.flatten().tolist() if normalises else (),
            std.flatten().tolist() if normalises else (),
            any(getattr(preprocessor, name, False) for name in swaps),
            *_padding(preprocessor),
        )

    def as_dict(self) -> dict[str, Any]:
        """For the metadata of a file."""
        return {**vars(self), "mean": list(self.mean), "std": list(self.std)}


def _padding(preprocessor: nn.Module) -> tuple[int, float]:
    """The divisor of sizes at test time, and the value of what is added."""
    # mmseg's may derive from mmengine's, whose own settings of padding it does not use
    if not hasattr(preprocessor, "pad_val"):  # mmdet, mmpretrain
        settings = (("pad_size_divisor", 1), ("pad_value", 0))
        divisor, value = (getattr(preprocessor, *setting) for setting in settings)
        return int(divisor), float(value)
    test_cfg = preprocessor.test_cfg or {}
    if test_cfg.get("size"):
        raise ExportError(
            f"the data_preprocessor pads test images to {test_cfg['size']}; a graph for any size "
            "does not: export with inside='network', or pad to size_divisor"
        )
    return int(test_cfg.get("size_divisor") or 1), float(preprocessor.pad_val)


def graph_before(preparation: Preparation | None, channels: int, divisor: int) -> str:
    """The graph from ``images`` (B, C, H, W) to ``network_input`` and ``size``, in ONNX's syntax.

    Args:
        preparation: None if the images are prepared, and of a size that is a multiple.
        channels: C.
        divisor: ``network_input`` is (B, C, H' / divisor, divisor, W' / divisor, divisor), with
            H' and W' the padded size, and plain (B, C, H', W') for 1.
    """
    steps = ["size = Shape <start = 2, end = 4> (images)"]
    if preparation is None:
        kind, x = "float", "images"
    else:
        kind, x = "uint8", "floats"
        steps.append("floats = Cast <to = 1> (images)")
        if preparation.swaps_channels and channels == 3:
            steps += [
                "order = Constant <value_ints = [2, 1, 0]> ()",
                f"swapped = Gather <axis = 1> ({x}, order)",
            ]
            x = "swapped"
        if preparation.mean:
            steps += [
                f"mean = Constant <value = {_column(preparation.mean)}> ()",
                f"std = Constant <value = {_column(preparation.std)}> ()",
                f"centred = Sub ({x}, mean)",
                "normal = Div (centred, std)",
            ]
            x = "normal"
        if preparation.divisor > 1:
            steps += [
                f"multiple = Constant <value_ints = [{preparation.divisor}]> ()",
                "minus = Neg (size)",
                "missing = Mod (minus, multiple)",
                "none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()",
                "margins = Concat <axis = 0> (none, missing)",
                f"value = Constant <value_float = {float(preparation.value)!r}> ()",
                f"padded = Pad ({x}, margins, value)",
            ]
            x = "padded"
    if divisor > 1:
        steps += [
            f"in_tiles = Shape <start = 0, end = 2> ({x})",
            f"rows = Shape <start = 2, end = 3> ({x})",
            f"columns = Shape <start = 3, end = 4> ({x})",
            f"tile = Constant <value_ints = [{divisor}]> ()",
            "tile_rows = Div (rows, tile)",
            "tile_columns = Div (columns, tile)",
            "shape = Concat <axis = 0> (in_tiles, tile_rows, tile, tile_columns, tile)",
            f"network_input = Reshape ({x}, shape)",
        ]
        out = f"B, {channels}, h, {divisor}, w, {divisor}"
    else:
        steps.append(f"network_input = Identity ({x})")
        out = f"B, {channels}, h, w"
    return _model(
        "before",
        f"{kind}[B, {channels}, H, W] images",
        f"float[{out}] network_input, int64[2] size",
        steps,
    )


def graph_after_segmentor(classes: int, threshold: float, kind: str) -> str:
    """The graph from ``logits`` (B, K, H', W') and ``images`` to ``label_map`` (B, H, W)."""
    steps = _without_padding("logits", "inside")
    if classes > 1:
        steps.append("label_map = ArgMax <axis = 1, keepdims = 0> (inside)")
    else:
        steps += [
            "probability = Sigmoid (inside)",
            f"threshold = Constant <value_float = {float(threshold)!r}> ()",
            "above = Greater (probability, threshold)",
            "channel = Constant <value_ints = [1]> ()",
            "flat = Squeeze (above, channel)",
            "label_map = Cast <to = 7> (flat)",
        ]
    return _model(
        "after",
        f"float[B, {classes}, h, w] logits, {kind}[B, C, H, W] images",
        "int64[B, H, W] label_map",
        steps,
    )


def graph_after_masks(kind: str) -> str:
    """The graph from what a network finds, ``masks`` (B, K, H', W') among it, to the same."""
    others = ("boxes", "scores", "labels", "counts")
    types = ("float[B, K, 4]", "float[B, K]", "int64[B, K]", "int64[B]")
    named = ", ".join(f"{type} {name}" for type, name in zip(types, others))
    return _model(
        "after",
        f"{named}, bool[B, K, h, w] padded_masks, {kind}[B, C, H, W] images",
        f"{named}, bool[B, K, H, W] masks",
        _without_padding("padded_masks", "masks"),
    )


def _without_padding(padded: str, out: str) -> list[str]:
    return [
        "image_size = Shape <start = 2, end = 4> (images)",
        "start = Constant <value_ints = [0, 0]> ()",
        "axes = Constant <value_ints = [2, 3]> ()",
        f"{out} = Slice ({padded}, start, image_size, axes)",
    ]


def _column(numbers: Sequence[float]) -> str:
    values = ", ".join(repr(float(number)) for number in numbers)
    return f"float[1, {len(numbers)}, 1, 1] {{{values}}}"


def _model(name: str, inputs: str, outputs: str, steps: Sequence[str]) -> str:
    body = "\n  ".join(steps)
    head = '<ir_version: 10, opset_import: ["" : 18]>'
    return f"{head}\n{name} ({inputs}) => ({outputs}) {{\n  {body}\n}}"
