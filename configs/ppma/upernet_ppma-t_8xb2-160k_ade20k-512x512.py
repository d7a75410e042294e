# UPerNet, PPMA-T, 160k iterations of ADE20K, tested in windows.
# The recipe is the authors' (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(_delete_=True, type="mmeffvit.PPMA", arch="tiny"),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)

optim_wrapper = dict(optimizer=dict(weight_decay=0.05))

# every GPU has its own statistics in the backbone; the heads' are synchronised by their type
sync_bn = None
