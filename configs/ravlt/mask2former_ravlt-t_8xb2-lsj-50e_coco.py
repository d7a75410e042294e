# Mask2Former, instances, RAVLT-T. What differs from mmdet's with a ResNet-50 is the backbone and
# the optimizer's rules; nothing of it has been trained on COCO here.
_base_ = "mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.RAVLT", arch="tiny", drop_path_rate=0.1),
    panoptic_head=dict(in_channels=[64, 128, 256, 512]),
)

# the backbone learns at a tenth of the rate; norms, biases and queries are not decayed
optim_wrapper = dict(
    constructor="mmeffvit.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, no_decay=True, custom_keys=dict(backbone=dict(lr_mult=0.1))),
)
