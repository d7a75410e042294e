# Digits in drawn scenes with labels (source), and on photographs without (target), both written on
# first use (a minute). 4 and 5 are rare in training. What is measured are photographs.
_base_ = "../../../../configs/_base_/datasets/in_process_loaders.py"

classes = ("0", "1", "2", "3", "4", "5", "background")
digits = dict(num_train=1600, num_val=200, digits=(0, 1, 2, 3, 4, 5), rare=(4, 5), seed=0)
load = [
    dict(type="mmeffvit.LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
training = dict(img_path="images/training", seg_map_path="annotations/training")
validation = dict(img_path="images/validation", seg_map_path="annotations/validation")

source = dict(
    type="mmeffvit.DomainDigitsDataset",
    metainfo=dict(classes=classes),
    data_root="data/digits_drawn/",
    make=dict(photographed=False, **digits),
    data_prefix=training,
    pipeline=load,
)
# Classes that are rare in it are drawn more often. With the published temperature of 0.01 those of
# only two classes would be drawn: others have 5 % more of all pixels, and exp(-0.05 / 0.01) < 1 %.
rare = dict(type="mmeffvit.RareClassSampling", dataset=source, temperature=0.05, min_pixels=150)
target = dict(
    type="mmeffvit.DomainDigitsDataset",
    metainfo=dict(classes=classes),
    data_root="data/digits_photographed/",
    make=dict(photographed=True, **digits),
    # without labels
    data_prefix=dict(img_path="images/training"),
    pipeline=[load[0], load[2]],
)

train_dataloader = dict(
    batch_size=8,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=source,
)
val_dataloader = dict(
    batch_size=40,
    dataset=dict(
        type="mmeffvit.DomainDigitsDataset",
        metainfo=dict(classes=classes),
        data_root="data/digits_photographed/",
        make=dict(photographed=True, **digits),
        data_prefix=validation,
        test_mode=True,
        pipeline=load,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
