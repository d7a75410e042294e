"""Eight-bit integers in an exported model: convolutions and products with weights, calibrated."""

from __future__ import annotations

import ast
import logging
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmeffvit.deploy.errors import ExportError
from mmeffvit.files import whole_file
from mmeffvit.runtime import OnnxModel

if TYPE_CHECKING:
    import onnx

#: operators with integer kernels that take most of the time
_OPERATORS = ("Conv", "MatMul", "Gemm")
#: where torch's exporter says which module a node comes from
_SCOPES = "pkg.torch.onnx.name_scopes"


def quantize(
    path: str | os.PathLike,
    out: str | os.PathLike,
    images: Iterable[np.ndarray],
    *,
    keep: Sequence[str] = (),
) -> list[str]:
    """Write an exported model with weights and activations of 8 bits (static, per channel).

    What is quantised are convolutions, and products with weights; attention's products of two
    activations, softmax, normalisation and suppression stay as they are. Ranges of activations are
    the least and the largest value on the images.

    Args:
        path: A file of ``tools/export.py`` whose graph takes pixels.
        out: The new file, whole or not at all.
        images: For calibration, (H, W, C) uint8 each, prepared as the model's images are by
            `OnnxModel.prepare`; a hundred that look like those to come.
        keep: Patterns (`re.search`) of modules or nodes that stay in float32, such as
            ``'head.conv_seg'``.

    Returns:
        Names of the nodes that stay in float32 because of `keep`.

    Raises:
        ExportError: The graph takes prepared tensors, or there are no images.
        ValueError: A pattern fits no node.
    """
    import onnx
    from onnxruntime import quantization

    model = OnnxModel(path, threads=1)
    if model.metadata["inside"] == "network":
        raise ExportError(
            f"{path} takes prepared tensors; calibration needs pixels: export without --inside "
            "network"
        )
    original = onnx.load(os.fspath(path))
    kept = _find(original.graph, keep)
    with tempfile.TemporaryDirectory() as folder, whole_file(out) as part, _quiet():
        simple, written = (os.path.join(folder, name) for name in ("simple.onnx", "int8.onnx"))
        # folds normalisation into convolutions; symbols of sizes stay as they are
        quantization.quant_pre_process(os.fspath(path), simple, skip_symbolic_shape=True)
        quantization.quantize_static(
            simple,
            written,
            _Images(iter(images)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_exclude=kept,
            per_channel=True,
            # without wide multiply-add instructions, sums of full 8-bit products overflow
            reduce_range=not _has_wide_sums(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        quantized = onnx.load(written)
        _copy_metadata(original, quantized)
        onnx.save(quantized, os.fspath(part))
    return kept


class _Images:
    """What onnxruntime calls a data reader."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self._images, self._count = images, 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        if image is None:
            if not self._count:
                raise ExportError("there are no images to calibrate on")
            return None
        self._count += 1
        return {"images": np.ascontiguousarray(image.transpose(2, 0, 1)[None])}


def _find(graph: onnx.GraphProto, patterns: Sequence[str]) -> list[str]:
    nodes = [node for node in graph.node if node.op_type in _OPERATORS]
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = [n.name for n in nodes if any(re.search(pattern, t) for t in _titles(n))]
        if not fitting:
            modules = sorted({_titles(node)[-1] for node in nodes})
            raise ValueError(
                f"nothing that is quantised fits {pattern!r}; there are {', '.join(modules)}"
            )
        found |= dict.fromkeys(fitting)
    return list(found)


def _titles(node: onnx.NodeProto) -> list[str]:
    """Name of a node, and that of the module that it comes from."""
    scopes = [entry.value for entry in node.metadata_props if entry.key == _SCOPES]
    # from the outermost module to the node itself
    modules = ast.literal_eval(scopes[0]) if scopes else []
    return [node.name, *modules[-2:-1]]


def _copy_metadata(original: onnx.ModelProto, model: onnx.ModelProto) -> None:
    del model.metadata_props[:]
    for entry in original.metadata_props:
        model.metadata_props.add(key=entry.key, value=entry.value)
    model.metadata_props.add(key="mmeffvit.precision", value='"int8"')


def _has_wide_sums() -> bool:
    """Whether the processor adds products of bytes in 32 bits (VNNI, or dot products of ARM)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(name in flags for name in ("vnni", "asimddp"))


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime warns once for every step that it recommends."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)
