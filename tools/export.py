#!/usr/bin/env python
"""Export a trained detector, segmentor or classifier to one ONNX file, compared before it is kept.

    python tools/export.py CONFIG CHECKPOINT --out model.onnx
    python tools/export.py CONFIG CHECKPOINT --out model.onnx --script --images DIR

The graph takes uint8 images (B, C, H, W) as OpenCV reads them, normalises and pads, and gives boxes
after suppression, label maps or class scores. onnxruntime's results are compared with those of
PyTorch on your images, or on made-up ones, and the file is written only if they agree. --script
puts a script beside it that needs numpy and onnxruntime alone. Needs the extra 'onnx'.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

from mmeffvit import compat


def parse_args(argv=None):
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="file, or upstream name such as mmdet::.../x.py")
    parser.add_argument("checkpoint", help="a .pth or .safetensors file")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file")
    parser.add_argument(
        "--inside",
        choices=["pixels", "network"],
        default="pixels",
        help="what the graph does: normalise and pad too (default), or the network alone",
    )
    parser.add_argument(
        "--varies",
        choices=["batch and size", "size", "nothing"],
        default="batch and size",
        help="what may differ between calls, if the model allows it (default: batch and size)",
    )
    parser.add_argument(
        "--shape", type=int, nargs=2, default=(448, 704), metavar=("H", "W"), help="traced size"
    )
    parser.add_argument("--images", nargs="+", help="files, folders or patterns to compare on")
    parser.add_argument(
        "--count", type=int, default=5, help="images to compare on, at most (default: 5)"
    )
    parser.add_argument("--script", action="store_true", help="write a script beside the file")
    parser.add_argument("--openvino", action="store_true", help="compare with OpenVINO, too")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="override config entries: model.test_cfg.mode=whole",
    )
    return parser.parse_args(argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    if args.out.exists() and not args.overwrite:
        sys.exit(f"'{args.out}' exists; choose another name or add --overwrite")
    from mmeffvit import deploy
    from mmeffvit.engine import launch
    from mmeffvit.engine.inference import Predictor
    from mmeffvit.files import whole_file

    cfg = launch.load_config(args.config)
    launch.apply_options(cfg, args.cfg_options)
    predictor = Predictor(cfg, args.checkpoint)
    try:
        with whole_file(args.out) as part:
            _export_and_compare(args, deploy, predictor, cfg, part)
    except deploy.ExportError as error:
        sys.exit(f"not exported: {error}")
    print(f"written to {args.out}")
    if args.script:
        from mmeffvit import runtime

        script = args.out.with_suffix(".py")
        shutil.copyfile(runtime.__file__, script)
        print(f"run it: python {script} IMAGE")


def _export_and_compare(args, deploy, predictor, cfg, part):
    from mmeffvit.runtime import OnnxModel

    images = _images(args, deploy, predictor)
    start = time.monotonic()
    done = deploy.export_model(
        predictor.model,
        part,
        inside=args.inside,
        shape=tuple(args.shape),
        channels=images[0].shape[2],
        varies=args.varies,
        metadata={
            "classes": list(predictor.metainfo["classes"]),
            "steps": deploy.pipeline_steps(cfg.test_dataloader.dataset.pipeline),
        },
    )
    print(f"exported in {time.monotonic() - start:.0f} s: {', '.join(done.names)}")
    if done.why:
        print(f"{done.varies} may vary, and no more: {done.why}")
    if args.inside == "network":
        print("not compared: the graph takes prepared tensors")
        return
    for backend in ("onnxruntime", *["openvino"] * args.openvino):
        agreement = deploy.compare(predictor.model, OnnxModel(part, backend, threads=1), images)
        print(f"{backend}: {agreement}")
        if not agreement.good:
            raise deploy.ExportError(f"{backend} gives other results than PyTorch")


def _images(args, deploy, predictor):
    """(H, W, C) uint8, as the pipeline prepares them."""
    if not args.images:
        height, width = args.shape
        if args.varies == "nothing":
            larger = deploy.made_up_images(args.count, (max(height, width),) * 2)
            return [image[:height, :width] for image in larger]
        return deploy.made_up_images(args.count, (min(height, width) // 2, max(height, width)))
    from mmeffvit.engine.inference import find_images

    paths = find_images(args.images)[: args.count]
    return [predictor.load(path)["inputs"].permute(1, 2, 0).numpy() for path in paths]


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
