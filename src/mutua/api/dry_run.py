"""The annotation that makes a policy a rehearsal: it is evaluated, told and counted, and decides nothing."""

from typing import Final

from mutua.api.booleans import TRUE
from mutua.api.meta import ObjectMeta

ANNOTATION: Final = "istio.io/dry-run"


def is_dry_run(metadata: ObjectMeta) -> bool:
    """Whether the object only rehearses what it says. A text that is no boolean means that it is enforced."""
    return metadata.annotations.get(ANNOTATION, "") in TRUE
