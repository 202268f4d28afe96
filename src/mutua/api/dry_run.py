"""The annotation that makes a policy a rehearsal: it is evaluated, told and counted, and decides nothing."""

from typing import Final

from mutua.api.meta import ObjectMeta

ANNOTATION: Final = "istio.io/dry-run"

# Go's strconv.ParseBool, which reads the annotation in Istio. Any other text means that the policy is enforced.
TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def is_dry_run(metadata: ObjectMeta) -> bool:
    """Whether the object only rehearses what it says."""
    return metadata.annotations.get(ANNOTATION, "") in TRUE
