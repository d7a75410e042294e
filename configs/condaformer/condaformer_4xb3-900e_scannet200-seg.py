# ConDaFormer with four stages on ScanNet200, on 4 GPUs x 3 rooms: ScanNet's recipe, with windows of
# 8 voxels in place of 10.
_base_ = "./condaformer_4xb3-900e_scannet-seg.py"

num_classes = 200
model = dict(backbone=dict(arch="scannet200"), decode_head=dict(num_classes=num_classes))

train_dataloader = dict(dataset=dict(num_classes=num_classes))
val_dataloader = dict(dataset=dict(num_classes=num_classes))
test_dataloader = dict(dataset=dict(num_classes=num_classes))
