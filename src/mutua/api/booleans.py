"""Booleans in annotations. Source: Go's strconv.ParseBool, which reads them in Istio."""

from typing import Final

TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
