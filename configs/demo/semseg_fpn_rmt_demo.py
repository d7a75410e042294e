# Semantic FPN on a narrow RMT, for handwritten digits at 64 px: minutes on two processors, no
# download. What differs from mmseg's Semantic FPN is the backbone, and widths for small images.
_base_ = [
    "mmseg::_base_/models/fpn_r50.py",
    "../_base_/datasets/digits_semantic.py",
    "../_base_/default_runtime_seg.py",
]

num_classes = 11
channels = 64
norm_cfg = dict(type="BN")

model = dict(
    data_preprocessor=dict(size=(64, 64)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
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
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=channels, norm_cfg=norm_cfg),
    decode_head=dict(
        in_channels=[channels] * 4,
        channels=channels,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
    ),
)

max_iters = 6000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=300)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    # a short memory of squared gradients: those of the first steps are ten times as large
    optimizer=dict(type="AdamW", lr=3e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(no_decay=True),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="PolyLR", power=1.0, eta_min=1e-5, by_epoch=False, begin=30, end=max_iters),
]

# leaves predictions.png and curves.png in the work directory
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type="mmeffvit.SegmentationFiguresHook",
        title="Semantic FPN with RMT on handwritten digits",
    ),
]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=10, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmeffvit.SafeCheckpointHook", by_epoch=False, interval=300, max_keep_ckpts=3
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
log_processor = dict(window_size=10)
