"""The parts of a code's page."""

import msgspec


class Page(msgspec.Struct, frozen=True):
    """`meaning`: what is the case; `example`: YAML; `outcome`: what happens with it; `remedy`: what to do."""

    code: str
    meaning: str
    example: str
    outcome: str
    remedy: str
