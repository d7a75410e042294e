"""Suppression beyond the golden file: ties, thresholds, empty and many boxes, types."""

import numpy as np
import pytest
import torch
from mmcv import ops


def random_boxes(count, seed=0, size=100):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * size
    extent = torch.rand(count, 2, generator=generator) * size / 3 + 1
    return torch.cat([corner, corner + extent], dim=1), torch.rand(count, generator=generator)


def iou(a, b, offset):
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, np.float32(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, np.float32(0))
    area_a, area_b = ((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    return width * height / (area_a + area_b - width * height)


def naive_nms(boxes, scores, iou_threshold, offset):
    """Greedy suppression, box by box in float32; the first of equal scores wins."""
    boxes, scores = boxes.numpy(), scores.numpy()
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[k], boxes[index], offset) <= np.float32(iou_threshold) for k in kept):
            kept.append(index)
    return kept


def naive_soft_nms(boxes, scores, iou_threshold, sigma, min_score, method, offset):
    """The paper's loop with mmcv's book-keeping: the last box fills the place of a dropped one."""
    left = [(i, box, score) for i, (box, score) in enumerate(zip(boxes.numpy(), scores.numpy()))]
    done = 0
    while done < len(left):
        best = max(range(done, len(left)), key=lambda i: (left[i][2], -i))
        left[done], left[best] = left[best], left[done]
        position = done + 1
        while position < len(left):
            index, box, score = left[position]
            overlap = iou(left[done][1], box, offset)
            if method == "gaussian":
                score *= np.exp(-(overlap**2) / np.float32(sigma))
            elif overlap >= np.float32(iou_threshold):
                score *= 1 - overlap if method == "linear" else 0
            left[position] = (index, box, score)
            if score < min_score:
                left[position] = left[-1]
                left.pop()
            else:
                position += 1
        done += 1
    return [index for index, _, _ in left], [float(score) for _, _, score in left]


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("iou_threshold", [0.1, 0.45, 0.8])
def test_nms_is_greedy_suppression(device, offset, iou_threshold):
    boxes, scores = random_boxes(150, seed=offset)
    scores = (scores * 20).round() / 20  # many ties
    _, keep = ops.nms(boxes.to(device), scores.to(device), iou_threshold, offset=offset)
    assert keep.tolist() == naive_nms(boxes, scores, iou_threshold, offset)


def test_equal_scores_keep_the_order_of_the_input(device):
    boxes = torch.tensor([[0, 0, 10, 10.0], [1, 1, 11, 11], [50, 50, 60, 60], [0, 0, 10, 10]])
    dets, keep = ops.nms(boxes.to(device), torch.full((4,), 0.5, device=device), 0.5)
    assert keep.tolist() == [0, 2]
    assert dets.tolist() == [[0, 0, 10, 10, 0.5], [50, 50, 60, 60, 0.5]]


@pytest.mark.parametrize("height", [3, 7])
def test_overlap_equal_to_the_threshold_is_kept(device, height):
    """0.3 in float32 is above, 0.7 below the same number in float64: both compare in float32."""
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, height]], dtype=torch.float32, device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert ops.nms(boxes, scores, height / 10)[1].tolist() == [0, 1]
    assert ops.nms(boxes, scores, height / 10 - 1e-4)[1].tolist() == [0]
    # soft-nms and the groups, unlike nms, take the threshold in
    assert len(ops.soft_nms(boxes, scores, height / 10, method="naive")[1]) == 1
    assert len(ops.nms_match(torch.cat([boxes, scores[:, None]], dim=1), height / 10)) == 1


def test_score_threshold_and_max_num(device):
    place = torch.arange(6, device=device)[:, None] * 20.0
    boxes = place + torch.tensor([0, 0, 9, 9], device=device)
    scores = torch.tensor([0.1, 0.6, 0.3, 0.9, 0.5, 0.7], device=device)
    _, keep = ops.nms(boxes, scores, 0.5, score_threshold=0.5)
    assert keep.tolist() == [3, 5, 1]  # a score equal to the threshold goes
    assert ops.nms(boxes, scores, 0.5, score_threshold=0.2, max_num=2)[1].tolist() == [3, 5]
    assert ops.nms(boxes, scores, 0.5, max_num=4)[1].tolist() == [3, 5, 1, 4]


def test_no_boxes(device):
    boxes, scores = torch.zeros(0, 4, device=device), torch.zeros(0, device=device)
    for suppress in (ops.nms, ops.soft_nms):
        dets, keep = suppress(boxes, scores, 0.5)
        assert dets.shape == (0, 5)
        assert keep.shape == (0,)
        assert keep.dtype == torch.int64
        assert keep.device == boxes.device
    assert ops.nms(boxes + 1, scores, 0.5, score_threshold=0.1)[0].shape == (0, 5)
    assert ops.nms_match(torch.zeros(0, 5), 0.5) == []


def test_boxes_without_area_suppress_nothing(device):
    boxes, scores = torch.zeros(3, 4, device=device), torch.tensor([0.3, 0.2, 0.1], device=device)
    _, keep = ops.nms(boxes, scores, 0.5)
    assert keep.tolist() == [0, 1, 2]
    _, keep = ops.soft_nms(boxes, scores, 0.5)
    assert keep.tolist() == [0, 1, 2]


def test_numpy_in_numpy_out():
    boxes, scores = (array.numpy() for array in random_boxes(20))
    for suppress in (ops.nms, ops.soft_nms):
        dets, keep = suppress(boxes, scores, 0.3)
        assert isinstance(dets, np.ndarray)
        assert isinstance(keep, np.ndarray)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_decide_as_float32(device, dtype):
    boxes, scores = random_boxes(60)
    boxes, scores = boxes.round().to(dtype), scores.to(dtype)
    dets, keep = ops.nms(boxes.to(device), scores.to(device), 0.45)
    assert dets.dtype == dtype
    assert keep.tolist() == naive_nms(boxes.float(), scores.float(), 0.45, 0)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float64):
        assert ops.nms(boxes.to(device), scores.to(device), 0.45)[1].tolist() == keep.tolist()
    soft, _ = ops.soft_nms(boxes.to(device), scores.to(device), 0.45)
    assert soft.dtype == dtype


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("min_score", [1e-3, 0.3, 2.0])
def test_soft_nms_is_the_papers_loop(device, method, offset, min_score):
    boxes, scores = random_boxes(60, seed=3, size=60)
    scores = (scores * 10).round() / 10  # ties are decided by mmcv's order
    keep, kept_scores = naive_soft_nms(boxes, scores, 0.3, 0.5, min_score, method, offset)
    dets, actual = ops.soft_nms(
        boxes.to(device), scores.to(device), 0.3, 0.5, min_score, method, offset
    )
    assert actual.tolist() == keep
    assert dets.device.type == device.type
    torch.testing.assert_close(dets[:, :4].cpu(), boxes[keep])
    torch.testing.assert_close(dets[:, 4].cpu(), torch.tensor(kept_scores))


def test_soft_nms_leaves_its_input_alone():
    boxes, scores = random_boxes(20)
    before = boxes.clone(), scores.clone()
    ops.soft_nms(boxes, scores, 0.3)
    assert torch.equal(boxes, before[0])
    assert torch.equal(scores, before[1])


def test_soft_nms_refuses_an_unknown_method():
    from mmeffvit.compat.mmcv_ops import nms

    boxes, scores = random_boxes(2)
    with pytest.raises(ValueError, match="method 3"):
        nms.softnms(boxes, scores, boxes.new_empty(2, 5), 0.3, 0.5, 0.0, 3, 0)


def test_batched_nms_keeps_classes_apart(device):
    boxes = torch.tensor([[0, 0, 10, 10.0], [0, 0, 10, 10], [0, 0, 10, 9]], device=device)
    scores, labels = torch.tensor([0.5, 0.9, 0.8], device=device), torch.tensor([0, 1, 1])
    dets, keep = ops.batched_nms(boxes, scores, labels.to(device), {"iou_threshold": 0.5})
    assert keep.tolist() == [1, 0]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.5])


@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_batched_nms_of_many_boxes_goes_class_by_class(device, kind):
    """mmcv splits at split_thr (10000) boxes; the result must not depend on it."""
    count = 10050 if kind == "nms" else 300
    boxes, scores = (array.to(device) for array in random_boxes(count, size=2000))
    labels = torch.arange(count, device=device) % 7
    cfg = {"type": kind, "iou_threshold": 0.5}
    if kind == "soft_nms":
        cfg |= {"min_score": 0.05, "split_thr": 100}
    split = ops.batched_nms(boxes, scores, labels, dict(cfg))
    whole = ops.batched_nms(boxes, scores, labels, {**cfg, "split_thr": 10**6})
    order_split, order_whole = split[1].argsort(), whole[1].argsort()
    assert torch.equal(split[1][order_split], whole[1][order_whole])
    torch.testing.assert_close(split[0][order_split], whole[0][order_whole])


def test_nms_match_puts_every_box_into_the_group_of_its_best(device):
    boxes, scores = random_boxes(80, size=50)
    scores = (scores * 10).round() / 10
    dets = torch.cat([boxes, scores[:, None]], dim=1).to(device)
    expected, left = [], sorted(range(80), key=lambda i: -scores[i].item())
    while left:
        first, *rest = left
        taken = [
            i for i in rest if iou(boxes[first].numpy(), boxes[i].numpy(), 0) >= np.float32(0.3)
        ]
        expected.append([first, *taken])
        left = [i for i in rest if i not in taken]
    groups = ops.nms_match(dets, 0.3)
    assert [group.tolist() for group in groups] == expected
    assert all(group.dtype == torch.int64 for group in groups)
