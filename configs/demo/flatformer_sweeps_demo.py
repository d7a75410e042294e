# A small FlatFormer for LiDAR sweeps of made-up streets: minutes on two processors, no download.
# What differs from the recipe for Waymo are widths, range and size of the pillars (0.5 m), and one
# cycle of the learning rate in some hundred iterations.
_base_ = [
    "../_base_/datasets/demo_sweeps.py",
    "../_base_/default_runtime_points.py",
]

point_cloud_range = [0, -20, -3, 40, 20, 2]
voxel_size = [0.5, 0.5, 5]
grid_size = (80, 80)

model = dict(
    type="mmeffvit.PointDetector",
    data_preprocessor=dict(
        type="mmeffvit.PointDataPreprocessor",
        voxel_type="dynamic",
        voxel_layer=dict(voxel_size=voxel_size, point_cloud_range=point_cloud_range),
    ),
    voxel_encoder=dict(
        type="mmeffvit.DynamicVFE",
        in_channels=4,
        feat_channels=(32, 64),
        voxel_size=voxel_size,
        point_cloud_range=point_cloud_range,
    ),
    middle_encoder=dict(
        type="mmeffvit.FlatFormer",
        arch=dict(
            embed_dims=64,
            num_heads=4,
            num_blocks=1,
            mlp_ratio=2,
            group_size=48,
            window_size=(7, 7),
            grid_size=grid_size,
        ),
    ),
    backbone=dict(
        type="mmeffvit.SECOND",
        in_channels=64,
        out_channels=(32, 64),
        layer_nums=(1, 2),
        layer_strides=(1, 2),
    ),
    neck=dict(
        type="mmeffvit.SECONDFPN",
        in_channels=(32, 64),
        out_channels=(32, 32),
        upsample_strides=(1, 2),
    ),
    bbox_head=dict(
        type="mmeffvit.CenterHead",
        in_channels=64,
        num_classes=3,
        share_channels=32,
        head_channels=32,
        # nothing moves
        branches=dict(reg=2, height=1, dim=3, rot=2, iou=1),
        voxel_size=voxel_size[:2],
        point_cloud_range=point_cloud_range[:2],
        # a heat map of 80 x 80 and what stands on a street: neither many boxes nor overlaps
        test_cfg=dict(
            max_num=200,
            score_thr=0.05,
            post_center_range=(0, -20, -10, 40, 20, 10),
            iou_pow=1.0,
            nms_thr=(0.2, 0.2, 0.2),
            nms_pre=(100, 100, 100),
            nms_post=(50, 50, 50),
        ),
    ),
)

max_iters = 480
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=120)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    # a short memory of squared gradients: those of the first steps are the largest
    optimizer=dict(type="AdamW", lr=5e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type="OneCycleLR", eta_max=5e-3, pct_start=0.2, total_steps=max_iters, by_epoch=False)
]

# leaves predictions.png and curves.png in the work directory
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type="mmeffvit.PointDetFiguresHook",
        title="FlatFormer on sweeps of made-up streets",
        score_thr=0.2,  # scores are multiplied by the predicted overlap
        bounds=(0, -20, 40, 20),
    ),
]
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=120, max_keep_ckpts=3),
)
log_processor = dict(window_size=10, by_epoch=False)
