# BAR-Net with RMT-T on crops of faces, real or fake, 256 x 256 pixels, 20 epochs.
# The recipe is ours (README.md): the paper's is not public to us.
_base_ = [
    "../../../configs/_base_/models/conv-cls-head.py",
    "../../../configs/_base_/default_runtime_cls.py",
]

custom_imports = dict(imports=["projects.barnet.barnet"], allow_failed_imports=False)

model = dict(
    backbone=dict(type="mmeffvit.BARNet", arch="tiny", drop_path_rate=0.1),
    head=dict(num_classes=2, topk=(1,), loss=dict(label_smooth_val=0.0)),
    train_cfg=dict(_delete_=True),
)

# data/faces/{train,val}/{fake,real}/**/*.png; classes are in this order: 0 is fake
dataset_type, data_root, size = "CustomDataset", "data/faces", 256
data_preprocessor = dict(
    num_classes=2, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(size, size)),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(size, size)),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix="train",
        classes=["fake", "real"],
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix="val",
        classes=["fake", "real"],
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="Accuracy", topk=(1,)),
    dict(type="mmeffvit.BinaryAUC", positive=0),
]
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        # sixteen numbers that start at zero
        custom_keys={"backbone.bam.theta": dict(lr_mult=10.0, decay_mult=0.0)},
    ),
)
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", T_max=19, by_epoch=True, begin=1, end=20),
]
