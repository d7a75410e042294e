# One handwritten digit in clutter per image, in ImageNet's layout, written to data/digits_cls on
# first use (half a minute). At 96 px digits are as large as in the detection data at 160 px.
dataset_type = "mmeffvit.DigitsClsDataset"
data_root = "data/digits_cls/"
make = dict(num_train=6000, num_val=1000, image_size=96, seed=0)
backend_args = None

data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    # places and backgrounds are few: digits keep their shape, and nothing is mirrored
    dict(type="RandomCrop", crop_size=96, padding=12, padding_mode="reflect"),
    dict(type="ColorJitter", brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=0,  # reading is a tenth of a step; every processor is for the model
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=data_root, split="train", make=make, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type, data_root=data_root, split="val", make=make, pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="Accuracy", topk=1)
test_evaluator = val_evaluator
