# SecViT as a classifier of handwritten digits at 64 px: minutes on two processors, no download. The
# backbone is that of mask_rcnn_secvit_demo.py; mask_rcnn_secvit_pretrained_demo.py starts from the
# checkpoint that this run leaves.
_base_ = [
    "../_base_/models/conv-cls-head.py",
    "../_base_/datasets/digits_cls.py",
    "../_base_/default_runtime_cls.py",
]

num_classes = 10

model = dict(
    backbone=dict(
        type="mmeffvit.SecViT",
        arch=dict(
            embed_dims=(32, 64, 128, 256),
            depths=(1, 1, 3, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratios=(3, 3, 3, 3),
            num_clusters=(32, 8, 2, -1),
            layer_scale=(None,) * 4,
        ),
    ),
    head=dict(num_classes=num_classes, in_channels=256, hidden_channels=256),
    # digits that are mixed are no digits
    train_cfg=None,
)

max_epochs = 4
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type="OptimWrapper",
    # a short memory of squared gradients: those of the first steps are ten times as large
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(no_decay=True),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(logger=dict(interval=20))
log_processor = dict(window_size=20)
