"""Bitmaps to COCO polygons and back.

A COCO polygon cannot have a hole, yet half of the digits do. As annotators of COCO do, a hole is
joined to the outline by a seam of no width, after which one closed line goes round both.
"""

import cv2
import numpy as np

# contours are traced on a bitmap this many times as large, so that they run between pixels
_ZOOM = 4


def mask_to_polygons(mask: np.ndarray, tolerance: float = 0.3) -> list[list[float]]:
    """Trace a bitmap.

    Args:
        mask: (H, W), bool or 0/1.
        tolerance: How far the polygon may run from the traced outline, in pixels.

    Returns:
        One ``[x0, y0, x1, y1, ...]`` per connected part, in pixels, the origin at the outer corner
        of the first pixel.
    """
    y0, x0, y1, x1 = mask_extent(mask)
    if y1 <= y0:
        return []
    crop = np.pad(np.asarray(mask[y0:y1, x0:x1], np.uint8), 1)
    size = (crop.shape[1] * _ZOOM, crop.shape[0] * _ZOOM)
    zoomed = cv2.resize(crop * 255, size, interpolation=cv2.INTER_LINEAR) >= 128
    contours, tree = cv2.findContours(
        zoomed.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    rings = [cv2.approxPolyDP(c, tolerance * _ZOOM, True)[:, 0].astype(float) for c in contours]

    polygons = []
    for index, ring in enumerate(rings):
        parent = tree[0][index][3]
        if parent >= 0 or len(ring) < 3:
            continue
        holes = [r for r, links in zip(rings, tree[0]) if links[3] == index and len(r) >= 3]
        for hole in holes:
            ring = _join(ring, hole)
        # to the centre of the zoomed pixel, back to size, back to the place of the crop
        ring = (ring + 0.5) / _ZOOM + (x0 - 1, y0 - 1)
        ring = ring.clip(0, (mask.shape[1], mask.shape[0]))
        polygons.append(ring.round(2).ravel().tolist())
    return polygons


def polygons_to_mask(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """Fill polygons as pycocotools does: (H, W), bool."""
    from pycocotools import mask as mask_utils

    if not polygons:
        return np.zeros((height, width), bool)
    rles = mask_utils.frPyObjects(polygons, height, width)
    return mask_utils.decode(mask_utils.merge(rles)).astype(bool)


def mask_to_counts(mask: np.ndarray) -> dict:
    """Uncompressed RLE, as COCO stores crowds: column by column, the first run is of zeros."""
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def mask_extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The tight ``(y0, x0, y1, x1)`` around a bitmap, ends excluded; zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bitmaps; 1 if both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _join(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Go round `ring` (N, 2), cross to `hole` (M, 2) where they are closest, round it, and back."""
    distance = ((ring[:, None] - hole[None]) ** 2).sum(-1)
    i, j = np.unravel_index(distance.argmin(), distance.shape)
    around_hole = np.concatenate([hole[j:], hole[: j + 1]])
    return np.concatenate([ring[: i + 1], around_hole, ring[i:]])
