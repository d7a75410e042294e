# Small scenes with one or two large handwritten digits (things) on grounds of four kinds (stuff),
# in COCO's panoptic layout, written to data/digits_panoptic on first use (a minute).
# Every second image for training has no clutter: it shows what a digit is. The side is 32 n + 1, as
# in the paper: masks at every fourth pixel then lie exactly on the image.
_base_ = "in_process_loaders.py"

dataset_type = "mmeffvit.DigitsPanopticDataset"
data_root = "data/digits_panoptic/"
make = dict(
    num_train=8000,
    num_val=200,
    image_size=65,
    max_digits=2,
    digit_sizes=(0.55, 0.75),
    half_plain=True,
    seed=0,
)
backend_args = None

train_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="mmeffvit.LoadPanopticAnnotations", backend_args=backend_args),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="Resize", scale_factor=1.0),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

train_dataloader = dict(
    batch_size=16,
    sampler=dict(type="InfiniteSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        make=make,
        ann_file="annotations/panoptic_train.json",
        data_prefix=dict(img="train/", seg="annotations/panoptic_train/"),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=20,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        make=make,
        ann_file="annotations/panoptic_val.json",
        data_prefix=dict(img="val/", seg="annotations/panoptic_val/"),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="mmeffvit.PanopticMetric",
    ann_file=data_root + "annotations/panoptic_val.json",
    seg_prefix=data_root + "annotations/panoptic_val/",
)
test_evaluator = val_evaluator
