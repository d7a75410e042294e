"""What is known by name of classes and config keys of mmdet, mmseg and mmpretrain.

What can be measured is measured; here stands what cannot. Names are without a scope.
"""

#: networks and necks that cannot be swapped -> why
REFUSED = {
    "SSDVGG": "SSD goes on with the layers of VGG down to maps of one cell and scales its first "
    "map; there is no pyramid of strides 4, 8, 16, 32 to replace",
    "SSDNeck": "SSD's neck goes on with the layers of its backbone down to maps of one cell",
    "Darknet": "YOLO's Darknet, neck and head are one design and are trained as one",
    "CSPDarknet": "YOLO's CSPDarknet, neck and head are one design and are trained as one",
    "YOLOV3Neck": "YOLOv3's neck is built of the blocks of its backbone and trained with it",
    "VisionTransformer": "a plain vision transformer has maps of one stride, and its heads are "
    "written for them",
}

# -- models ----------------------------------------------------------------------------------------

#: keys of a model in which no network is looked for
SETTINGS = ("train_cfg", "test_cfg", "data_preprocessor")
#: first letters of keys with a network of its own, which a student or a tracker only uses
OTHER_NETWORKS = ("teacher", "reid", "rfp_")
#: keys of a model beside a frozen teacher that sees the same images
TEACHERS = ("teacher_config", "teacher_backbone", "teacher")
#: keys of a model that hold a model of which a file may have a variable
INNER_MODELS = ("detector", "student")
#: TridentNet's branches are blocks of its backbone; without them it is a Faster R-CNN
WITHOUT_BRANCHES = {"TridentFasterRCNN": "FasterRCNN", "TridentRoIHead": "StandardRoIHead"}
BRANCH_KEYS = ("num_branch", "test_branch_idx")

# -- backbones -------------------------------------------------------------------------------------

#: plain transformers of mmpretrain and mmseg: also those of impossible options are no pyramids
PLAIN = ("VisionTransformer", "DistilledVisionTransformer", "DeiT3", "ViTEVA02", "BEiTViT")
#: arguments that name weights
WEIGHTS = ("init_cfg", "pretrained")
#: argument, True unless it is given, with which classifiers' backbones pool their last map
POOLS = "gap_before_final_norm"
#: those that have it
POOLING = ("ConvNeXt", "EdgeNeXt", "HorNet", "TinyViT")
#: backbones that also count what leads from stage to stage -> ``out_indices`` of their stages
STAGES = dict.fromkeys(("PoolFormer", "RIFormer"), (0, 2, 4, 6))
#: backbones that name ``out_indices`` in their own way
INDICES = {"MViT": "out_scales"}
#: backbones that return all of their maps, and cannot be asked for some
ALL_MAPS = ("MSCAN",)
#: backbones that learn from masked images -> those that have the same maps, and run without masks
USUAL = {
    "SimMIMSwinTransformer": "SwinTransformer",
    "SparseResNet": "ResNet",
    "SparseConvNeXt": "ConvNeXt",
}
#: arguments that the latter do not take
UNUSUAL_KEYS = ("norm_cfg", "gap_before_output")
#: arguments for parts inside of blocks: they change no shape, and may not run on the meta device
INSIDES = ("dcn", "stage_with_dcn", "plugins", "sac", "stage_with_sac", "with_cp")

# -- necks and heads -------------------------------------------------------------------------------

#: keys beside a backbone that hold no head, and first letters of such keys
NOT_HEADS = ("backbone", "neck", "init_cfg", *SETTINGS)
NOT_HEADS_PREFIXES = ("teacher", "distill")
#: necks whose end_level is exclusive
EXCLUSIVE_END = ("JPU",)
#: heads that name several maps and take the last one, unless this key is set
TAKES_THE_LAST = {"EncHead": "add_lateral"}
#: heads that call ``view`` on maps, which fails if they are channels last
VIEWS_MAPS = ("CenterNetHead", "DMHead")

# -- the rest of a config --------------------------------------------------------------------------

#: optimizer constructors that number the layers of other networks (ConvNeXt, BEiT, MAE, Swin ...)
LAYER_DECAY = (
    "LearningRateDecayOptimizerConstructor",
    "LearningRateDecayOptimWrapperConstructor",
    "LayerDecayOptimizerConstructor",
    "LayerDecayOptimWrapperConstructor",
)
LAYER_DECAY_KEYS = ("decay_rate", "decay_type", "num_layers", "layer_decay_rate")
#: position tables of other transformers, which many configs exempt from decay
POSITION_TABLES = ("absolute_pos_embed", "relative_position_bias_table", "pos_block")
#: entries of a config that are read; others are variables of its file
ENTRIES = (
    "model",
    "data_preprocessor",
    *(f"{split}_dataloader" for split in ("train", "val", "test")),
    *(f"{split}_cfg" for split in ("train", "val", "test")),
    "val_evaluator",
    "test_evaluator",
    "tta_model",
    "optim_wrapper",
    "param_scheduler",
    "auto_scale_lr",
    "default_hooks",
    "custom_imports",
    "custom_hooks",
    "load_from",
    "visualizer",
    "log_processor",
    "env_cfg",
    "norm_cfg",
    "backbone_swap",
    "dataset_swap",
)

# -- data sets -------------------------------------------------------------------------------------

#: models -> why another data set cannot be set
FIXED_DATA = {
    **dict.fromkeys(
        ("SORT", "DeepSORT", "ByteTrack", "OCSORT", "StrongSORT", "QDTrack"),
        "it tracks objects through videos, which a folder of images does not have; its detector "
        "alone can be trained, by a config of that detector",
    ),
    **dict.fromkeys(
        ("MaskTrackRCNN", "Mask2FormerVideo"),
        "it learns from videos, which a folder of images does not have; take Mask R-CNN or "
        "Mask2Former",
    ),
    "BaseReID": "it tells people apart, and learns from crops of single persons",
    "CLRNet": "it finds lanes, which are lines; take a detector or a segmentor",
    "DepthEstimator": "it learns depths, not classes",
    "MultimodalEncoderDecoder": "its classes are words that a text encoder has read",
}
#: data sets -> why those of another kind cannot take their places
FIXED_SETS = {
    "ODVGDataset": "it trains on words and on several data sets at once; take a config that is "
    "fine-tuned on a CocoDataset",
    "RefCocoDataset": "it trains on sentences about objects",
}
#: of a model without masks -> what takes its place where a set has none
WITHOUT_MASKS = {
    "MaskRCNN": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "CascadeRCNN": "mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "PanopticFPN": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "QueryInst": "mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py",
    "CondInst": "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "RTMDet": "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "Mask2Former": "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
    "MaskFormer": "mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py",
}
#: what takes the place of any other
BOXES_ALONE = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
#: models that learn masks from boxes
MASKS_FROM_BOXES = {"BoxInst": "mmdet::boxinst/boxinst_r50_fpn_ms-90k_coco.py"}
#: keys of a model that hold what predicts masks
MASK_PARTS = ("mask_head", "panoptic_head", "segm_head", "mask_iou_head", "point_head")
#: keys of parts that learn from label maps beside objects; detectors run without them
SEMANTIC_PARTS = ("semantic_head", "semantic_roi_extractor", "panoptic_fusion_head")
#: models of objects and of the rest of the image -> the same of objects alone
OBJECTS_ALONE = {"PanopticFPN": "MaskRCNN"}
#: heads written for one class -> why
ONE_CLASS = {
    "MultiInstanceBBoxHead": "it tells one class from background, such as people in crowds; its "
    "loss is written for two scores",
}
#: keys under which no classes of the data set are counted
NOT_COUNTED = ("backbone", "teacher_config", "teacher_backbone", "reid", "tracker", "init_cfg")
#: names of counts of classes
COUNTS = ("num_classes", "num_things_classes", "num_things")
STUFF_COUNTS = ("num_stuff_classes", "num_stuff")
#: arguments of a data set that have to do with none of its files
KEPT_OF_DATASET = (
    "type",
    "pipeline",
    "filter_cfg",
    "backend_args",
    "test_mode",
    "serialize_data",
    "lazy_init",
    "max_refetch",
    "return_classes",
    "caption_prompt",
)
#: variables that many config files have for their data set
DATASET_VARIABLES = (
    "data_root",
    "dataset_type",
    "num_classes",
    "num_things_classes",
    "num_stuff_classes",
    "metainfo",
    "classes",
    "class_name",
    "class_weight",
)
