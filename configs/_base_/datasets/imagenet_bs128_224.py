# ImageNet-1K at 224 px with the augmentation of DeiT and Swin: RandAugment 9, random erasing 0.25.
# The authors' colour jitter of 0.4 is not here: timm, whose options theirs are, leaves it out where
# RandAugment is on.
_base_ = "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py"

train_dataloader = dict(
    batch_size=128,
    # repeated augmentation: three views of an image in an epoch, a third of the images
    sampler=dict(_delete_=True, type="RepeatAugSampler", shuffle=True),
)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
