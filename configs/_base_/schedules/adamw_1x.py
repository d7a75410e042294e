# 12 epochs of AdamW, as vision transformers are usually fine-tuned on COCO. The linear warm-up over
# 500 iterations, the steps after 8 and 11 epochs and auto_scale_lr (8 GPUs x 2 images) are mmdet's.
_base_ = "mmdet::_base_/schedules/schedule_1x.py"

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys={
            "absolute_pos_embed": dict(decay_mult=0.0),
            "relative_position_bias_table": dict(decay_mult=0.0),
            "norm": dict(decay_mult=0.0),
        }
    ),
)

# batch norms are synchronised when several GPUs train together
sync_bn = "torch"
