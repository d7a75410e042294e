"""What is tracing."""

import torch


def is_exporting() -> bool:
    """Whether ``torch.export`` traces; torch 2.6 does not tell, so that it never does there."""
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()
