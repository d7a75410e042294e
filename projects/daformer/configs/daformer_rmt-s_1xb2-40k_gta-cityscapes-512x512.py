# GTA to Cityscapes, the published recipe, with RMT-S in the place of MiT-B5; it was built here and
# not trained. Give the backbone weights of ImageNet, from which the distance of features is taken:
# --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE
_base_ = "../../../configs/_base_/default_runtime_seg.py"
custom_imports = dict(imports=["projects.daformer.daformer"], allow_failed_imports=False)

crop_size = (512, 512)
model = dict(
    type="mmeffvit.DAFormer",
    momentum=0.001,
    threshold=0.968,
    # what lies above the road's horizon and below the car's bonnet
    ignore_top=15,
    ignore_bottom=120,
    distance=dict(weight=0.005, thing_classes=[6, 7, 11, 12, 13, 14, 15, 16, 17, 18]),
    data_preprocessor=dict(
        type="mmeffvit.DomainPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
    ),
    backbone=dict(type="mmeffvit.RMT", arch="small"),
    decode_head=dict(type="mmeffvit.DAFormerHead", in_channels=[64, 128, 256, 512], num_classes=19),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

source = dict(
    type="CityscapesDataset",
    data_root="data/gta/",
    data_prefix=dict(img_path="images", seg_map_path="labels"),
    img_suffix=".png",
    seg_map_suffix="_labelTrainIds.png",
    pipeline=[
        dict(type="mmeffvit.LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(type="Resize", scale=(1280, 720)),
        dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackSegInputs"),
    ],
)
target = dict(
    type="CityscapesDataset",
    data_root="data/cityscapes/",
    # without labels
    data_prefix=dict(img_path="leftImg8bit/train"),
    pipeline=[
        dict(type="mmeffvit.LoadImageFromFile"),
        dict(type="Resize", scale=(1024, 512)),
        dict(type="RandomCrop", crop_size=crop_size),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackSegInputs"),
    ],
)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmeffvit.DomainPairs",
        source=dict(
            type="mmeffvit.RareClassSampling",
            dataset=source,
            temperature=0.01,
            min_pixels=3000,
            counts_file="data/gta/daformer_counts.json",
        ),
        target=target,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CityscapesDataset",
        data_root="data/cityscapes/",
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        test_mode=True,
        pipeline=[
            dict(type="mmeffvit.LoadImageFromFile"),
            dict(type="Resize", scale=(1024, 512), keep_ratio=True),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

max_iters = 40000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=4000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={"decode_head": dict(lr_mult=10.0)}, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=max_iters),
]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmeffvit.SafeCheckpointHook", by_epoch=False, interval=4000, max_keep_ckpts=2
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
log_processor = dict(by_epoch=False)
