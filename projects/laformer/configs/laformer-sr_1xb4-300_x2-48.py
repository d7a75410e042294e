# Photographs made half as large, by 2 groups of blocks of 32 channels.
_base_ = "_base_/photographs.py"
model = dict(
    type="mmeffvit.ImageRestorer",
    network=dict(
        type="mmeffvit.LAformerSR",
        arch=dict(embed_dims=32, groups=2, depth=2, num_heads=2, tail_dims=None),
        scale=2,
        bicubic=True,
    ),
)
train_dataloader = dict(dataset=dict(scale=2))
val_dataloader = dict(dataset=dict(scale=2))
test_dataloader = val_dataloader
val_evaluator = dict(crop_border=2)
test_evaluator = val_evaluator
