# DAFormer's head, RMT-S, 160k iterations of ADE20K. No paper has it: the schedule is that of RMT's
# UPerNet, with the head ten times as fast as the backbone, as in DAFormer's recipe.
_base_ = "../rmt/upernet_rmt-s_8xb2-160k_ade20k-512x512.py"

model = dict(
    decode_head=dict(
        _delete_=True,
        type="mmeffvit.DAFormerHead",
        in_channels=[64, 128, 256, 512],
        num_classes=150,
    ),
    auxiliary_head=None,
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10.0))))
