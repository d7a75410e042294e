"""Export a backbone or a classifier to ONNX, with images of any height and width.

    python tools/export_onnx.py secvit-tiny --out secvit-tiny.onnx
    python tools/export_onnx.py rmt-tiny --classifier --checkpoint rmt-tiny.safetensors --out F.onnx

The file is compared with PyTorch in onnxruntime, at the size that was traced and at another one,
before it is put in its place. Needs the packages of the extra 'onnx'.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mmeffvit import compat
from mmeffvit.checkpoint import CheckpointError, load_weights, read_checkpoint
from mmeffvit.deploy.neighbourhoods import expand
from mmeffvit.deploy.programs import to_onnx, trace
from mmeffvit.files import whole_file
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.network import input_channels
from mmeffvit.models.zoo import create_backbone, list_backbones
from mmeffvit.testing import relative_rms_error

TOLERANCE = 1e-3
MIN_SIDE = 64


class InexactError(RuntimeError):
    """The exported network gives other numbers than PyTorch."""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list_backbones(), metavar="NAME")
    parser.add_argument("--out", type=Path, required=True, help="a new .onnx file")
    parser.add_argument(
        "--shape", type=int, nargs=2, default=(224, 224), metavar=("H", "W"), help="traced size"
    )
    parser.add_argument(
        "--in-channels",
        type=int,
        default=3,
        metavar="C",
        help="channels of the images (default: 3)",
    )
    parser.add_argument("--static", action="store_true", help="only images of --shape")
    parser.add_argument("--classifier", action="store_true", help="logits in place of maps")
    parser.add_argument("--checkpoint", type=Path, help="of tools/convert_checkpoint.py")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    return parser.parse_args(arguments)


def build(name: str, classifier: bool, checkpoint: Path | None, in_channels: int = 3) -> nn.Module:
    create = create_classifier if classifier else create_backbone
    network = create(name, in_channels=in_channels)
    if checkpoint is not None:
        print(load_weights(network, read_checkpoint(checkpoint)))
    return network.eval().requires_grad_(False)


def export(network: nn.Module, image: torch.Tensor, static: bool, path: Path) -> None:
    import onnx

    sides = None if static else dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    program = trace(network, (image,), (sides,))
    onnx.save(expand(to_onnx(program, ["image"])), path)


def compare(network: nn.Module, path: Path, shapes: Sequence[tuple[int, int]]) -> float:
    """Largest relative RMS difference between PyTorch and onnxruntime, on images of noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    worst = 0.0
    for shape in shapes:
        image = torch.randn(1, input_channels(network), *shape)
        expected = network(image)
        expected = (expected,) if isinstance(expected, torch.Tensor) else expected
        for actual, reference in zip(session.run(None, {name: image.numpy()}), expected):
            worst = max(worst, relative_rms_error(torch.from_numpy(actual), reference))
    return worst


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    compat.setup()
    if args.out.exists() and not args.overwrite:
        print(f"'{args.out}' exists; choose another name or add --overwrite", file=sys.stderr)
        return 2
    if min(args.shape) < MIN_SIDE:
        print(f"--shape must be at least {MIN_SIDE} x {MIN_SIDE} pixels", file=sys.stderr)
        return 2
    try:
        network = build(args.name, args.classifier, args.checkpoint, args.in_channels)
    except (CheckpointError, FileNotFoundError) as error:
        print(f"not exported: {error}", file=sys.stderr)
        return 1
    shapes = [tuple(args.shape)]
    if not args.static:
        # odd, not square, and another number of tokens
        shapes.append((args.shape[0] + 33, args.shape[1] + 10))
    try:
        with whole_file(args.out) as part:
            export(network, torch.randn(1, args.in_channels, *args.shape), args.static, part)
            difference = compare(network, part, shapes)
            sizes = " and ".join(f"{height} x {width}" for height, width in shapes)
            print(f"relative RMS difference to PyTorch at {sizes}: {difference:.1e}")
            if not difference < TOLERANCE:
                raise InexactError(f"the difference is above {TOLERANCE:.0e}")
    except InexactError as error:
        print(f"not written: {error}", file=sys.stderr)
        return 1
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
