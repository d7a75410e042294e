# UPerNet, UniFormer-S with hybrid windows of 14, 160k iterations of ADE20K.
# The recipe is the authors' (README.md).
_base_ = "../_base_/segmentors/upernet_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmeffvit.UniFormer",
        arch="small",
        attention="hybrid",
        window_size=14,
        drop_path_rate=0.25,
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
