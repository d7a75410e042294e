# AdamW for ConDaFormer (arXiv 2312.11112), 100 epochs of a data set that repeats its rooms; blocks
# learn at a tenth of the rate. Everything decays, norms and position tables too; gradients are not
# clipped. Rates fall at 60 % and 80 % of the iterations.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-3, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={"blocks": dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(
        type="MultiStepLR",
        milestones=[60, 80],
        gamma=0.1,
        by_epoch=True,
        begin=0,
        end=100,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# batch norms are synchronised when several GPUs train together
sync_bn = "torch"
