# RetinaNet on a narrow SecViT, for 16-bit TIFF images of five bands in COCO's layout: what differs
# from a config for photographs. Put your own classes, folders and statistics of the bands; the
# first three bands are drawn as blue, green and red.
_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "mmdet::_base_/datasets/coco_detection.py",
    "../_base_/schedules/adamw_1x.py",
    "../_base_/default_runtime.py",
]

metainfo = dict(classes=("building", "field"))
bands = 5
width = 64

model = dict(
    # one mean and one deviation for all bands: the toolboxes take one or three
    data_preprocessor=dict(mean=[500.0], std=[250.0], bgr_to_rgb=False, pad_size_divisor=32),
    backbone=dict(
        _delete_=True,
        type="mmeffvit.SecViT",
        arch=dict(
            embed_dims=(16, 32, 64, 128),
            depths=(1, 1, 2, 1),
            num_heads=(1, 2, 4, 8),
            mlp_ratios=(3, 3, 3, 3),
            num_clusters=(16, 8, 4, -1),
            layer_scale=(None,) * 4,
        ),
        in_channels=bands,
        out_indices=(1, 2, 3),
        # weights of RGB images begin with their first layer averaged over the colours:
        # init_cfg=dict(type="Pretrained", checkpoint=FILE, adapt_channels=True),
    ),
    neck=dict(in_channels=[32, 64, 128], start_level=0, out_channels=width),
    bbox_head=dict(num_classes=2, in_channels=width, feat_channels=width, stacked_convs=2),
)

data_root = "data/five_bands/"
# tifffile keeps all bands and their 16 bits
load = dict(
    type="LoadImageFromFile", imdecode_backend="tifffile", color_type="unchanged", to_float32=True
)
size = (256, 256)
train_pipeline = [
    load,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    load,
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file="annotations/train.json",
        data_prefix=dict(img="train/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file="annotations/val.json",
        data_prefix=dict(img="val/"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=1e-3))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type="mmeffvit.DetectionFiguresHook", title="RetinaNet with SecViT on five bands"),
]
