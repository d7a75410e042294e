# Small scenes with two large handwritten digits in ADE20K's layout, written to data/digits_ade on
# first use (a minute). Eleven classes: the digits and the background; crowds of digits are not
# labelled. Every second image for training has neither texture nor clutter: it shows what a digit
# is, which cluttered images alone take long to teach.
_base_ = "in_process_loaders.py"

dataset_type = "mmeffvit.DigitsSegDataset"
data_root = "data/digits_ade/"
make = dict(
    num_train=30000,
    num_val=200,
    image_size=64,
    max_digits=2,
    digit_sizes=(0.5, 0.7),
    half_plain=True,
    seed=0,
)
backend_args = None

train_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="LoadAnnotations", backend_args=backend_args),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="Resize", scale_factor=1.0),
    # after resizing: predictions are measured in the size of the original image
    dict(type="LoadAnnotations", backend_args=backend_args),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=16,
    sampler=dict(type="InfiniteSampler"),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        make=make,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
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
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
