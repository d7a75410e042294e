# Mask R-CNN on a narrow SecViT, for handwritten digits at 160 px: minutes on two processors, no
# download. What differs from mmdet's Mask R-CNN is the backbone, and sizes that suit small images.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "../_base_/datasets/digits_instance.py",
    "../_base_/default_runtime.py",
]

num_classes = 10
channels = 64
# 160 px is a fifth of what COCO models see: anchors of 16 to 128 px, and no fifth level
strides = [4, 8, 16, 32]
roi_layer = dict(sampling_ratio=1)

model = dict(
    backbone=dict(
        _delete_=True,
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
    neck=dict(
        in_channels=[32, 64, 128, 256], out_channels=channels, num_outs=4, norm_cfg=dict(type="BN")
    ),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=strides),
    ),
    # boxes and masks that do not depend on the class learn from all digits at once
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, finest_scale=28, roi_layer=roi_layer),
        mask_roi_extractor=dict(out_channels=channels, finest_scale=28, roi_layer=roi_layer),
        bbox_head=dict(
            type="ConvFCBBoxHead",
            num_shared_convs=2,
            num_shared_fcs=1,
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=256,
            norm_cfg=dict(type="BN"),
            num_classes=num_classes,
            reg_class_agnostic=True,
        ),
        mask_head=dict(
            in_channels=channels,
            conv_out_channels=channels,
            num_convs=2,
            num_classes=num_classes,
            class_agnostic=True,
            norm_cfg=dict(type="BN"),
        ),
    ),
    train_cfg=dict(
        rpn=dict(assigner=dict(ignore_iof_thr=0.5), sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(assigner=dict(ignore_iof_thr=0.5), sampler=dict(num=32, pos_fraction=0.5)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=60),
        rcnn=dict(max_per_img=20),
    ),
)

max_epochs = 5
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

# a long memory of second moments would hold on to the large gradients of the first steps
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.02,
        by_epoch=True,
        begin=0,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]

default_hooks = dict(logger=dict(interval=10))
log_processor = dict(window_size=10)
# leaves predictions.png and curves.png in the work directory
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type="mmeffvit.DetectionFiguresHook",
        title="Mask R-CNN with SecViT on handwritten digits",
        seed=19,  # a lot that shows a crowd, too
    ),
]
