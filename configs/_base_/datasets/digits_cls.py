# One handwritten digit in clutter per image, in ImageNet's layout, written to data/digits_cls on
# first use (half a minute). At 64 px digits are as large as the larger ones in the detection data.
_base_ = "in_process_loaders.py"

dataset_type = "mmeffvit.DigitsClsDataset"
data_root = "data/digits_cls/"
make = dict(num_train=30000, num_val=1000, image_size=64, seed=0)
backend_args = None

data_preprocessor = dict(
    num_classes=10,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type="mmeffvit.LoadImageFromFile", backend_args=backend_args),
    dict(type="PackInputs"),
]
test_pipeline = train_pipeline

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        type=dataset_type, data_root=data_root, split="train", make=make, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=50,
    dataset=dict(
        type=dataset_type, data_root=data_root, split="val", make=make, pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="Accuracy", topk=1)
test_evaluator = val_evaluator
