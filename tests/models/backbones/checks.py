"""What the tests of the pyramid's networks check alike."""

from contextlib import contextmanager

import pytest
import torch

from mmeffvit import create_backbone
from mmeffvit.checkpoint import convert_official
from mmeffvit.deploy.programs import quiet
from mmeffvit.models.classifier import create_classifier
from mmeffvit.testing import TOLERANCES, check_golden


def check_golden_file(path, family, expected):
    """All outputs of a golden file are within the family's tolerance; returns the errors."""
    errors = check_golden(path)
    assert expected < set(errors)
    assert {name: e for name, e in errors.items() if not e <= TOLERANCES[family]} == {}
    return errors


def count_parameters(name):
    """Of the whole classifier, of its backbone, and of the dense backbone with output norms."""
    with torch.device("meta"):
        classifier, dense = create_classifier(name), create_backbone(name)
    modules = (classifier, classifier.backbone, dense)
    return tuple(sum(p.numel() for p in module.parameters()) for module in modules)


def check_variant_is_converted(family, variant, shapes, dense=False):
    """Every key of a file of the authors has a place, every weight of the network a key."""
    name = f"{family}-{variant}"
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in shapes.items()}
        network = create_backbone(name) if dense else create_classifier(name)
    conversion = convert_official({"model": state, "epoch": 300}, family)
    assert (conversion.variant, conversion.container) == (variant, "model")
    assert not conversion.ignored
    expected = {
        f"backbone.{key}" if dense else key: value.shape
        for key, value in network.state_dict().items()
    }
    assert {k: v.shape for k, v in conversion.state_dict.items()} == expected


def drop_path_rates(backbone):
    return [block.drop_path.drop_prob for stage in backbone.stages for block in stage.blocks]


def randomised(network):
    """In float64, also what starts at zero or one."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


def check_normal_weights(backbone):
    """Convolutions are normal of std 0.02 without bias, norms are 1 and 0."""
    for name, p in backbone.named_parameters():
        if p.dim() == 4:
            assert p.std().item() == pytest.approx(0.02, rel=0.15), name
        elif name.endswith("bias"):
            assert not p.any(), name
        else:
            assert p.eq(1).all(), name


def check_implementations_agree(cls, arch, x):
    """Reference and fused have the same gradients of all parameters, in float64."""
    networks = [cls(arch=arch, implementation=i).double() for i in ("reference", "fused")]
    networks[1].load_state_dict(networks[0].state_dict())
    results = []
    for network in networks:
        loss = sum(out.square().sum() for out in network(x.double()))
        results.append(torch.autograd.grad(loss, list(network.parameters())))
    for actual, expected in zip(*results):
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-6)


@contextmanager
def quick_tracing():
    """No graph is printed, no shape is cached, and no garbage is looked for after each graph.

    A stack of toolboxes has so many objects that looking for it takes a tenth of a compilation.
    """
    config = torch._dynamo.config
    garbage = {"run_gc_after_compile": False} if hasattr(config, "run_gc_after_compile") else {}
    with quiet(), config.patch(fake_tensor_cache_enabled=False, **garbage):
        yield


class TensorSizes(torch.overrides.TorchFunctionMode):
    """Collects in `sizes` the numbers of elements of all tensors made inside."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.sizes.append(out.numel())
        return out
