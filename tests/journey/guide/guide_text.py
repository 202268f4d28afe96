"""The guide's blocks, in the order of the text: what its reader types, and the files that its reader writes."""

import re
from dataclasses import dataclass
from pathlib import Path

GUIDE = Path(__file__).parents[4] / "shared" / "guide.md"

_BLOCK = re.compile(r"^```(bash|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"<<\s*'?(\w+)'?")


@dataclass(frozen=True)
class Block:
    """One fenced block, with the heading that it stands under."""

    heading: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that a YAML block is written to: its first comment."""
        return self.text.partition("\n")[0].removeprefix("#").strip()

    @property
    def commands(self) -> list[str]:
        """What is typed at once: paragraphs, where a here-document counts as one."""
        found: list[str] = []
        end = ""
        for paragraph in self.text.split("\n\n"):
            if end:
                found[-1] += f"\n\n{paragraph}"
            else:
                found.append(paragraph)
                begun = _HERE_DOCUMENT.search(paragraph)
                end = begun[1] if begun else ""
            if end and re.search(rf"^{end}$", paragraph, re.MULTILINE):
                end = ""
        return found


def blocks(path: Path = GUIDE) -> list[Block]:
    """Every bash and YAML block; none if there is no guide."""
    if not path.exists():
        return []
    text = path.read_text()
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(_without_blocks(text))]
    found = []
    for match in _BLOCK.finditer(text):
        heading = next(name for start, name in reversed(headings) if start < match.start())
        found.append(Block(heading, match[1], match[2]))
    return found


def _without_blocks(text: str) -> str:
    """The same text and positions, with everything inside a block blank: a shell's comments are no headings."""
    return re.sub(r"^```.*?^```$", lambda match: " " * len(match[0]), text, flags=re.MULTILINE | re.DOTALL)
