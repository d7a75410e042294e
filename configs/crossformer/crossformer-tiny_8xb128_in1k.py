# CrossFormer-T on ImageNet-1K, 300 epochs on 8 GPUs x 128 images.
# The recipe is the authors' (README.md), that of Swin with other augmentations of DeiT.
_base_ = [
    "../_base_/models/norm-cls-head.py",
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "../_base_/default_runtime_cls.py",
]

model = dict(
    backbone=dict(type="mmeffvit.CrossFormer", arch="tiny", drop_path_rate=0.1),
)
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
