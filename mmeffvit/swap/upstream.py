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
    "RFP": "a recursive feature pyramid feeds its maps back into the blocks of its backbone "
    "(rfp_forward), which only DetectoRS_ResNet has; neck.type='FPN' without the rfp_* and aspp_* "
    "keys makes a pyramid that can be swapped",
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

#: arguments that name weights
WEIGHTS = ("init_cfg", "pretrained")
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
    "optim_wrapper",
    "param_scheduler",
    "custom_imports",
    "custom_hooks",
    "load_from",
    "norm_cfg",
)
