import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmeffvit.models.meta import RememberedShapes
from mmeffvit.models.zoo import backbone_classes


class Layouts(TorchDispatchMode):
    """What every operator returned."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        results = result if isinstance(result, tuple | list) else [result]
        self.seen += [
            (func, tuple(x.shape), x.stride(), x.dtype)
            for x in results
            if isinstance(x, torch.Tensor)
        ]
        return result


@pytest.mark.parametrize("family", ["secvit", "ppma", "cswin", "dinat"])
def test_every_operator_returns_what_it_does_without(family):
    cls = backbone_classes()[family]
    with torch.device("meta"):
        backbone = cls(next(iter(cls.arch_zoo))).eval()
        image = torch.empty(1, 3, 96, 64)
    with torch.no_grad():
        backbone(image)  # some keep tables of an image's size
        with Layouts() as plain:
            backbone(image)
        with RememberedShapes() as remembered, Layouts() as quick:
            backbone(image)
    assert quick.seen == plain.seen
    assert 0 < len(remembered._results) < len(plain.seen) / 2


def test_what_is_equal_and_not_alike_is_told_apart():
    x = torch.empty(2, 3, dtype=torch.int64, device="meta")
    with RememberedShapes():
        for _ in range(2):
            assert (x + 1).dtype == torch.int64
            assert (x + 1.0).dtype == torch.float32
            assert x.t().contiguous().stride() == (2, 1)
            assert (x.float().t() + 1).stride() == (1, 3)
            assert (x.float() + 1).stride() == (3, 1)


def test_numbers_views_and_changes_in_place_are_left_alone():
    with RememberedShapes() as remembered:
        x = torch.ones(2, 3)
        assert [(x + n).sum().item() for n in (1, 2)] == [12, 18]
        y = torch.empty(2, 3, device="meta")
        views = [y.t() for _ in range(2)]
        assert all(view._base is y for view in views)
        assert all(y.add_(1) is y for _ in range(2))
    assert {str(key[0]) for key in remembered._results} == {"aten.empty.memory_format"}
