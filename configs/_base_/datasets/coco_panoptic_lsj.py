# COCO panoptic: jitter of scale, squares of 1281 (masks of 321, whose corners meet), read and
# measured without panopticapi.
_base_ = "mmdet::_base_/datasets/coco_panoptic.py"

image_size = (1281, 1281)
data_root = "data/coco/"
backend_args = None

train_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", to_float32=True, backend_args=backend_args),
    dict(type="mmeffvit.LoadPanopticAnnotations", backend_args=backend_args),
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomResize", scale=image_size, ratio_range=(0.2, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=image_size, crop_type="absolute", recompute_bbox=True),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    sampler=dict(_delete_=True, type="InfiniteSampler"),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

val_evaluator = dict(
    _delete_=True,
    type="mmeffvit.PanopticMetric",
    ann_file=data_root + "annotations/panoptic_val2017.json",
    seg_prefix=data_root + "annotations/panoptic_val2017/",
)
test_evaluator = val_evaluator
