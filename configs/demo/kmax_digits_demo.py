# kMaX-DeepLab on a narrow RMT, for handwritten digits (things) on grounds of four kinds (stuff) at
# 64 px, no download. What differs from the published sizes is the backbone, and widths and numbers
# that suit small images.
_base_ = [
    "../_base_/models/kmax.py",
    "../_base_/datasets/digits_panoptic.py",
    "../_base_/default_runtime.py",
]

things, stuff = 10, 4

model = dict(
    backbone=dict(
        type="mmeffvit.RMT",
        arch=dict(
            embed_dims=(32, 64, 128, 256),
            # most blocks at stride 8: at stride 16 a digit has few cells left
            depths=(1, 4, 2, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratios=(3, 3, 3, 3),
            decay_inits=(2, 2, 2, 2),
            decay_ranges=(4, 4, 6, 6),
            decomposed=(True, True, False, False),
            layer_scale=(None,) * 4,
        ),
    ),
    # masks at every second pixel: the strokes of a digit are four pixels wide
    neck=dict(
        type="mmeffvit.ResizeToStrides",
        in_strides=[4, 8, 16, 32],
        out_strides=[2, 4, 8, 16],
    ),
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        strides=[2, 4, 8, 16],
        num_things_classes=things,
        num_stuff_classes=stuff,
        num_queries=16,
        pixel_decoder=dict(depths=(1, 1, 1, 1), widths=(48, 32, 16, 8)),
        decoder=dict(
            depths=(1, 1, 1), embed_dims=64, mask_dims=32, ffn_dims=256, drop_path_rate=0.0
        ),
        semantic_options=dict(dim=32, skip_dims=(16, 8)),
        criterion=dict(num_samples=256, num_semantic_samples=None),
    ),
    panoptic_fusion_head=dict(num_things_classes=things, num_stuff_classes=stuff),
)

max_iters = 3000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    # a short memory of squared gradients: those of the first steps are ten times as large
    optimizer=dict(type="AdamW", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        no_decay=True,
        custom_keys=dict(_table=dict(decay_mult=0.0), centres=dict(decay_mult=0.0)),
    ),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="PolyLR", power=1.0, eta_min=1e-5, by_epoch=False, begin=50, end=max_iters),
]

default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=500),
)
log_processor = dict(window_size=10, by_epoch=False)
# tools/test.py leaves pictures of the clusters in the work directory
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type="mmeffvit.ClusterPicturesHook",
        out_dir="work_dirs/kmax_digits_demo/clusters",
        most=12,
    ),
]
