# AdamW for FlatFormer (arXiv 2301.08739): the rate rises a hundredfold to 1e-3 in the first tenth
# of the iterations and falls to 1e-8, both on a cosine. Names with "norm" do not decay; the batch
# norms of SECOND and of the head have other names, and do.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={"norm": dict(decay_mult=0.0)}),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=100,
        by_epoch=True,
        begin=0,
        end=2.4,
        convert_to_iter_based=True,
    ),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=1e-3,
        by_epoch=True,
        begin=2.4,
        end=24,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=24, val_interval=24)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=8)

# batch norms are synchronised when several GPUs train together
sync_bn = "torch"
