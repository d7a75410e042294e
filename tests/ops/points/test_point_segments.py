import pytest
import torch

from mmeffvit.ops import points

REDUCTIONS = {
    "sum": lambda rows: rows.sum(0),
    "mean": lambda rows: rows.mean(0),
    "max": lambda rows: rows.amax(0),
    "min": lambda rows: rows.amin(0),
}


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_reduce_segment_by_segment(reduce, shape):
    src = torch.randn(23, *shape, dtype=torch.float64).requires_grad_()
    index = torch.randint(0, 5, (23,))
    index[index == 3] = 4  # a segment without rows
    weight = torch.randn(6, *shape, dtype=torch.float64)
    out = points.segment_reduce(src, index, 6, reduce)
    expected = torch.stack(
        [
            REDUCTIONS[reduce](src[index == s]) if (index == s).any() else torch.zeros(shape)
            for s in range(6)
        ]
    )
    torch.testing.assert_close(out, expected.double())
    grads = [torch.autograd.grad((o * weight).sum(), src)[0] for o in (out, expected)]
    torch.testing.assert_close(*grads)


def test_softmax_segment_by_segment():
    src = torch.randn(23, 4, dtype=torch.float64) * 300
    src.requires_grad_()
    index = torch.randint(0, 6, (23,))
    out = points.segment_softmax(src, index, 6)
    expected = torch.empty_like(src)
    for s in index.unique():
        expected[index == s] = src[index == s].softmax(0)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(src)
    grads = [torch.autograd.grad((o * weight).sum(), src)[0] for o in (out, expected)]
    torch.testing.assert_close(*grads)


def test_places_in_segments():
    counts = torch.tensor([3, 0, 1, 0, 4, 0])
    segment, place = points.segment_places(counts)
    assert segment.tolist() == [0, 0, 0, 2, 4, 4, 4, 4]
    assert place.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    assert all(len(t) == 0 and t.dtype == torch.int64 for t in points.segment_places(counts[:0]))
    # ends in any type of integers, as in files of others
    assert points.offset_to_batch(torch.tensor([2, 3], dtype=torch.int32)).dtype == torch.int64


def test_empty_and_wrong():
    assert points.segment_reduce(torch.rand(0, 3), torch.zeros(0).long(), 2, "max").sum() == 0
    assert points.segment_softmax(torch.rand(0, 3), torch.zeros(0).long(), 0).shape == (0, 3)
    assert points.offsets_to_index(torch.tensor([0, 2, 2, 5])).tolist() == [0, 0, 2, 2, 2]
    with pytest.raises(ValueError, match="one of sum, mean, max, min, got 'prod'"):
        points.segment_reduce(torch.rand(2), torch.zeros(2).long(), 1, "prod")
    with pytest.raises(ValueError, match="2 rows and an index"):
        points.segment_reduce(torch.rand(2), torch.zeros(3).long(), 1)
