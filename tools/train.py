#!/usr/bin/env python
"""Train a model from a config: ``python tools/train.py CONFIG [--work-dir DIR] [--resume] ...``"""

from mmeffvit import compat


def parse_args(argv=None):
    from mmeffvit.swap import command_line

    parser = command_line.launch_parser("Train a model from a config.", "train_cfg.max_epochs=1")
    parser.add_argument(
        "--recipe",
        metavar="NAME[,NAME]",
        help="adamw: with --backbone, set AdamW; small-data: with --dataset, fit batches and "
        "schedule to the number of images; default keep",
    )
    parser.add_argument(
        "--backbone-checkpoint",
        metavar="NAME|FILE",
        help="with --backbone: weights to start from, such as ravlt-tiny/in1k (tools/weights.py)",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="resume from a checkpoint, or without a value from the last whole one in the work dir",
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision (CUDA)")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the backbone")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate with the batch size"
    )
    return command_line.parse(parser, argv)


def main(argv=None):
    compat.setup()
    args = parse_args(argv)
    from mmeffvit.engine import environment, launch, resume
    from mmeffvit.swap import command_line

    cfg = command_line.load_config(args)
    print(command_line.dataset_report(cfg), end="\n" * ("dataset_swap" in cfg))
    print(command_line.tuning_report(cfg), end="")
    if args.amp:
        launch.enable_amp(cfg)
    if args.compile:
        launch.enable_compile(cfg)
    if args.auto_scale_lr:
        launch.enable_auto_scale_lr(cfg)

    notes = [
        *command_line.check_data(args, cfg, ("train", "val")),
        *environment.fit_to_device(cfg),
        *launch.add_safety_hooks(cfg),
        *resume.set_resume(cfg, args.resume),
        *launch.set_seed(cfg),
    ]
    launch.build_runner(cfg, notes).train()


if __name__ == "__main__":
    from mmeffvit.engine.launch import exit_with_sentence

    exit_with_sentence(main)
