# A narrow ConDaFormer for rooms of simple solids: minutes on two processors, no download.
_base_ = ["../_base_/datasets/demo_rooms.py", "../_base_/default_runtime_points.py"]

num_classes = 13

model = dict(
    type="mmeffvit.PointSegmentor",
    data_preprocessor=dict(
        type="mmeffvit.PointDataPreprocessor",
        voxel_type="minkunet",
        voxel_layer=dict(voxel_size=(_base_.voxel_size,) * 3),
    ),
    backbone=dict(
        type="mmeffvit.ConDaFormer",
        arch=dict(
            stem_dims=32,
            embed_dims=(48, 96, 192),
            depths=(1, 2, 1),
            decoder_dims=(96, 64, 32),
            decoder_depths=(0, 0, 0),
            window_size=6,
            quant_size=0.25,
            in_channels=6,
            voxel_size=_base_.voxel_size,
        ),
        drop_path_rate=0.1,
        # what is predicted for a room does not depend on the others in its batch
        per_sample_windows=True,
    ),
    # falling with the share of points: half of a room is wall, a fiftieth each table, beam, board
    decode_head=dict(
        type="mmeffvit.PointSegHead",
        num_classes=num_classes,
        class_weight=(0.4, 0.4, 0.2, 1, 1, 0.8, 0.75, 0.9, 0.85, 0.9, 0.65, 0.9, 0.9),
    ),
)

max_iters = 240
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=60)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    # a short memory of squared gradients: those of the first steps are the largest
    optimizer=dict(type="AdamW", lr=6e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    # gentler for attention, as published; there it is a tenth, over a hundred times the steps
    paramwise_cfg=dict(custom_keys={"blocks": dict(lr_mult=0.3)}),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=20, end=max_iters),
]

# leaves predictions.png and curves.png in the work directory
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="mmeffvit.PointSegFiguresHook", title="ConDaFormer on rooms of simple solids"),
]
default_hooks = dict(
    logger=dict(interval=5, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=60),
)
log_processor = dict(window_size=5, by_epoch=False)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
