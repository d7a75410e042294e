"""Convert an official checkpoint to one that `init_cfg=dict(type='Pretrained', ...)` reads.

    python tools/convert_checkpoint.py secvit SecViT_T.pth secvit-tiny.safetensors

Prints what was converted, from which entry of the file, and what was left out; builds the published
variant and loads the result into it before anything is written. A file that is not the family's is
refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmeffvit import compat
from mmeffvit.checkpoint import (
    CheckpointError,
    Conversion,
    convert_official,
    load_weights,
    read_checkpoint,
    write_checkpoint,
)
from mmeffvit.models.classifier import create_classifier
from mmeffvit.models.points import PointSegmentor
from mmeffvit.models.zoo import network_classes, point_backbone_classes


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    families = [name for name, cls in network_classes().items() if cls.official_rules]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("family", choices=families)
    parser.add_argument("source", type=Path, help="the authors' file")
    parser.add_argument("target", type=Path, help="a new .safetensors or .pth file")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing target")
    return parser.parse_args(arguments)


def check_by_loading(conversion: Conversion) -> str:
    """Load the result into the published variant, and say what happened."""
    if conversion.variant is None:
        raise CheckpointError(
            f"the widths and depths are those of no published {conversion.family}; known are "
            f"{', '.join(network_classes()[conversion.family].arch_zoo)}. For other sizes use "
            "mmeffvit.checkpoint.convert_official in Python"
        )
    name = f"{conversion.family}-{conversion.variant}"
    if conversion.family in point_backbone_classes():
        backbone = point_backbone_classes()[conversion.family](arch=conversion.variant)
        classifier = conversion.state_dict.get("decode_head.conv_seg.weight")
        if classifier is None:
            report = load_weights(backbone, conversion.state_dict, backbone.prefix)
            return f"into {name}: {report}"
        network = PointSegmentor(backbone, {"num_classes": len(classifier)})
        return f"into the segmentor of {name}: {load_weights(network, conversion.state_dict)}"
    head = conversion.state_dict.get("head.fc.weight")
    network = create_classifier(name, 1000 if head is None else len(head))
    if head is None:
        return f"into {name}: {load_weights(network.backbone, conversion.state_dict)}"
    return f"into the classifier of {name}: {load_weights(network, conversion.state_dict)}"


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    compat.setup()
    if args.target.exists() and not args.overwrite:
        print(f"'{args.target}' exists; choose another name or add --overwrite", file=sys.stderr)
        return 2
    try:
        conversion = convert_official(read_checkpoint(args.source), args.family)
        print(conversion)
        print(check_by_loading(conversion))
    except (CheckpointError, FileNotFoundError) as error:
        print(f"not converted: {error}", file=sys.stderr)
        return 1
    metadata = {
        "family": conversion.family,
        "variant": str(conversion.variant),
        "source": args.source.name,
        "entry": conversion.container,
    }
    write_checkpoint(conversion.state_dict, args.target, metadata)
    print(f"written to {args.target}")
    print(
        f"use it with init_cfg=dict(type='Pretrained', checkpoint='{args.target}', "
        f"prefix='{network_classes()[args.family].prefix}')"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
