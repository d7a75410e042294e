"""The version, and the torch that it needs; packaging reads it without importing anything."""

__version__ = "0.1.0"
#: before it, what `torch.load(weights_only=True)` takes for data can run code (CVE-2025-32434)
MINIMUM_TORCH = "2.6"


def too_old(torch: str) -> str | None:
    """What is wrong with so old a version of torch; None if it is new enough."""
    if [int(part) for part in torch.split(".")[:2]] >= [int(n) for n in MINIMUM_TORCH.split(".")]:
        return None
    return (
        f"mmeffvit needs torch >= {MINIMUM_TORCH}, and this is {torch}: a checkpoint can run code "
        "in older ones, even where weights alone are read"
    )


def require_torch() -> None:
    """Check what is installed.

    Raises:
        ImportError: torch is too old.
    """
    import torch

    problem = too_old(torch.__version__)
    if problem is not None:
        raise ImportError(
            f"{problem}. Run pip install --upgrade torch torchvision; compiled operators of mmcv "
            "that were made for the old torch are not needed here"
        )
