#!/usr/bin/env python
"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--show-dir DIR] ...``"""

from mmeffvit import compat


def parse_args(argv=None):
    from mmeffvit.swap import command_line

    parser = command_line.launch_parser("Evaluate a checkpoint.", "test_dataloader.batch_size=4")
    parser.add_argument("checkpoint", help="a .pth or .safetensors file, or mmeffvit://NAME")
    parser.add_argument(
        "--out",
        metavar="FILE.pkl|DIR",
        help="write all predictions to a pickle file, or those of a segmentor to a folder, as PNG",
    )
    parser.add_argument("--show-dir", metavar="DIR", help="draw every image's predictions into DIR")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test on several views of each image: tta_pipeline of the config, or its mirror image",
    )
    return command_line.parse(parser, argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.checkpoint.by_name import local_file
    from mmeffvit.engine import environment, evaluation, launch, tta
    from mmeffvit.swap import command_line

    args.checkpoint = local_file(args.checkpoint)
    cfg = command_line.load_config(args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show_dir is not None:
        evaluation.draw_predictions(cfg, args.show_dir)
    if args.out is not None:
        evaluation.dump_predictions(cfg, args.out)

    notes = [
        *command_line.check_data(args, cfg, ["test"]),
        *environment.fit_to_device(cfg, training=False),
    ]
    if args.tta:
        tta.enable_tta(cfg)
    runner = launch.build_runner(cfg, notes)
    evaluation.check_weights(runner.model, args.checkpoint)
    runner.test()


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
