# kMaX-DeepLab on a narrow UniFormer, for handwritten digits (things) on grounds of four kinds
# (stuff) at 65 px, no download. What differs from the published sizes is the backbone, and widths
# and numbers that suit small images.
_base_ = [
    "../_base_/models/kmax.py",
    "../_base_/datasets/digits_panoptic.py",
    "../_base_/default_runtime.py",
]

things, stuff = 10, 4

model = dict(
    backbone=dict(
        type="mmeffvit.UniFormer",
        arch=dict(
            embed_dims=(32, 64, 96, 128),
            # most blocks at stride 8, convolutions: at 16 a digit is three cells wide
            depths=(1, 3, 2, 1),
            head_dim=32,
            mlp_ratio=2,
            conv_stem=True,
            layer_scale=None,
        ),
        attention="global",
    ),
    panoptic_head=dict(
        in_channels=[32, 64, 96, 128],
        num_things_classes=things,
        num_stuff_classes=stuff,
        num_queries=8,
        pixel_decoder=dict(depths=(1, 1, 1, 1), widths=(32, 24, 16, 8), kinds=("bottleneck",) * 4),
        decoder=dict(
            depths=(1, 1, 1), embed_dims=64, mask_dims=32, ffn_dims=128, drop_path_rate=0.0
        ),
        semantic_options=dict(dim=32, skip_dims=(32, 16)),
        criterion=dict(
            # what a digit is takes longest to learn, and the semantic loss is its shortest way
            weights=dict(mask=1.0, pixel_insdis=0.1, aux_semantic=4.0),
            num_samples=96,
            # of 289 pixels, most of them of digits
            num_semantic_samples=96,
        ),
    ),
    panoptic_fusion_head=dict(num_things_classes=things, num_stuff_classes=stuff),
    # those for ADE20K, as after a short training few classes are surer
    test_cfg=dict(thing_threshold=0.4, stuff_threshold=0.4),
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
        custom_keys={
            "_table": dict(decay_mult=0.0),
            "centres": dict(decay_mult=0.0),
            # gains that start at 0.1 and 0: AdamW moves a weight by no more than the rate in a
            # step, and masks are blank until theirs is about 1
            "mask_norm": dict(lr_mult=10.0),
            "kmeans_proj.norm": dict(lr_mult=5.0),
            "attention.proj.norm": dict(lr_mult=5.0),
            "ffn.1.norm": dict(lr_mult=5.0),
            "conv3.norm": dict(lr_mult=5.0),
        },
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
