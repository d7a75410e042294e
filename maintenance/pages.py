"""Texts between markers of a page."""

from __future__ import annotations

import re
from pathlib import Path

from mmeffvit.files import whole_file


def fill(page: Path, name: str, text: str) -> None:
    """Write a text between ``<!-- name -->`` and ``<!-- /name -->`` of a page."""
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    with whole_file(page) as scratch:
        scratch.write_text(block.sub(lambda match: match[1] + text + match[2], page.read_text()))
