"""Steps of a test pipeline that `mmeffvit.runtime` takes before the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmeffvit.configs import type_name
from mmeffvit.deploy.errors import ExportError

#: steps that change no pixel
_NO_CHANGE = ("LoadImage", "LoadAnnotations", "Pack", "LoadPanoptic")


def pipeline_steps(pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a test pipeline does to an image between reading and the model, as plain data.

    Args:
        pipeline: Of ``test_dataloader.dataset``.

    Raises:
        ExportError: A step has no form in `mmeffvit.runtime`.
    """
    steps = []
    for step in pipeline:
        kind = type_name(step)
        if kind.startswith(_NO_CHANGE):
            continue
        if kind in ("Resize", "ResizeEdge", "CenterCrop"):
            read = _read(kind, step)
            steps += [read] * (read is not None)
        else:
            raise ExportError(
                f"the step {kind} of the test pipeline has no form outside of the toolbox; "
                "Resize, ResizeEdge and CenterCrop have"
            )
    return steps


def _read(kind: str, step: Mapping[str, Any]) -> dict[str, Any] | None:
    if kind == "Resize":
        if step.get("scale_factor") == 1:  # as some pipelines say that nothing is resized
            return None
        if "scale" not in step:
            raise ExportError("Resize by a factor has no form outside of the toolbox; by scale has")
        scale = step["scale"]
        scale = [scale, scale] if isinstance(scale, int) else list(scale)
        return {"type": kind, "scale": scale, "keep_ratio": bool(step.get("keep_ratio", False))}
    if kind == "ResizeEdge":
        return {"type": kind, "scale": int(step["scale"]), "edge": step.get("edge", "short")}
    crop = step["crop_size"]
    return {"type": kind, "crop_size": [crop, crop] if isinstance(crop, int) else list(crop)}
