"""From a network in PyTorch to a traced program, and from a program to ONNX's operators."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor, nn

from mmeffvit.deploy.operators import translations
from mmeffvit.ops.neighbourhood_attention.compiled import kept_as_node

if TYPE_CHECKING:
    import onnx

_OPSET = 18


def trace(
    network: nn.Module, arguments: tuple[Tensor, ...], dynamic: Any
) -> torch.export.ExportedProgram:
    """The program of a network, for `to_onnx`.

    Args:
        network: In evaluation mode.
        arguments: What it is called with.
        dynamic: ``dynamic_shapes`` of `torch.export.export`.
    """
    with torch.no_grad(), quiet(), kept_as_node():
        return torch.export.export(network, arguments, dynamic_shapes=dynamic)


def to_onnx(
    program: torch.export.ExportedProgram,
    input_names: Sequence[str],
    output_names: Sequence[str] | None = None,
) -> onnx.ModelProto:
    """The program in ONNX; nodes that `neighbourhoods.expand` knows are still to be expanded."""
    with quiet():
        return torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            opset_version=_OPSET,
            input_names=input_names,
            output_names=output_names,
            custom_translation_table=translations(),
        ).model_proto


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters log what they could not prove, once for every attempt.

    And a third of their time goes into what nobody sees: graphs printed for a log that is off, and
    shapes copied into a cache whose entries hardly serve again when sizes are symbols.
    """
    loggers = [logging.getLogger(name) for name in ("torch.fx", "torch.export", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        silent = mock.patch.object(torch.fx.GraphModule, "print_readable", return_value="")
        with silent, torch._dynamo.config.patch(fake_tensor_cache_enabled=False):
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
