"""What the documents tell people to type: commands, and blocks of Python."""

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "projects/README.md")),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("configs/*/README.md"),
    ]
)
#: written and typed literally into a copy of the project by the test that is named
WALKED_THROUGH = {"docs/add_a_network.md": "docs/test_add_a_network.py"}
_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
#: first words of what is typed into a shell
_SHELL = re.compile(r"(python|make|pip|bash|git|cd) ")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a block, or one in the text."""

    place: str
    words: tuple[str, ...]

    @property
    def document(self) -> str:
        return self.place.partition(":")[0]

    def __str__(self) -> str:
        return " ".join(self.words)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


@cache
def blocks() -> list[Block]:
    """All fenced blocks of all documents."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        document = str(path.relative_to(ROOT))
        for match in _BLOCK.finditer(text):
            found.append(Block(document, _line(text, match.start()) + 1, *match.groups()))
    return found


def _commands(place: str, text: str) -> list[Command]:
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while "&&" in words:
            end = words.index("&&")
            found.append(Command(place, tuple(words[:end])))
            words = words[end + 1 :]
        if words:
            found.append(Command(place, tuple(words)))
    return found


@cache
def commands() -> list[Command]:
    """All commands, each once: of blocks of a shell, and what the text has in back quotes."""
    found = []
    for block in blocks():
        if block.document in WALKED_THROUGH:
            continue
        if block.language in ("bash", "shell", "sh", "console"):
            found += _commands(block.place, block.text)
    for path in DOCUMENTS:
        text = path.read_text()
        # blocks become blank lines, so that the others keep their numbers
        prose = _BLOCK.sub(lambda match: "\n" * match[0].count("\n"), text)
        for match in _SPAN.finditer(prose):
            span = " ".join(match[1].split())
            if _SHELL.match(span):
                place = f"{path.relative_to(ROOT)}:{_line(prose, match.start())}"
                # what may be left out is taken along
                found += _commands(place, re.sub(r"[\[\]]", "", span))
    return list({command.words: command for command in reversed(found)}.values())[::-1]


def python_blocks() -> list[Block]:
    return [block for block in blocks() if block.language == "python"]
