# kMaX-DeepLab, ResNet-50, COCO panoptic, the authors' recipe: 64 images a step. Their panoptic
# copy-paste is not here.
_base_ = [
    "../_base_/models/kmax.py",
    "../_base_/datasets/coco_panoptic_lsj.py",
    "../_base_/default_runtime.py",
]

# smaller images are padded to the square, in training
batch_augments = [
    dict(
        type="BatchFixedSizePad",
        size=_base_.image_size,
        img_pad_value=0,
        pad_mask=True,
        mask_pad_value=0,
        pad_seg=True,
        seg_pad_value=255,
    )
]

model = dict(
    data_preprocessor=dict(batch_augments=batch_augments),
    backbone=dict(
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=False,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
)

# the backbone learns at a tenth of the rate; norms, biases, tables and centres are not decayed
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05),
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(
        no_decay=True,
        custom_keys=dict(
            backbone=dict(lr_mult=0.1),
            _table=dict(decay_mult=0.0),
            centres=dict(decay_mult=0.0),
        ),
    ),
)

max_iters = 150000
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=5000),
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=max_iters),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=10000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000))
log_processor = dict(by_epoch=False)

# batch norms of the head and the backbone see all GPUs
sync_bn = "torch"
auto_scale_lr = dict(enable=False, base_batch_size=64)
