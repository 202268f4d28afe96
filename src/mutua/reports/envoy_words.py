"""What an Envoy says when it refuses a resource, without the resource itself that it repeats."""

import re
from typing import Final

CUT_SHORT: Final = "Envoy's words were cut short"
"""Where Envoy's answer, at most 4 KiB, ends before it comes to its reason."""

# Envoy prints the resource after this word, as protobuf text, and then a colon and what is wrong with it.
_REPEATED: Final = re.compile(r"goo\.gle/debug\w*\s*\n(?P<body>.*?)(?:\n: (?P<reason>[^\n]*)|\Z)", re.DOTALL)
_LOGGED_REASON: Final = re.compile(r"^: (.*?)(?:\tthread=\d+)?$", re.MULTILINE)


def reason(words: str) -> str:
    """The reason alone, on one line; what came before the repeated resource if it was cut short."""
    repeated = _REPEATED.search(words)
    if repeated is None:
        return " ".join(words.split())
    if repeated["reason"]:
        return repeated["reason"].strip()
    before = words[: repeated.start()].strip().rstrip(":")
    return f"{before}: {CUT_SHORT}" if before else CUT_SHORT


def logged_reason(log: str, resource: str) -> str:
    """Why the Envoy refused a resource of this name last, by its own log; "" if the log does not say."""
    at = max(log.rfind(f'name: "{resource}"'), log.rfind(f'cluster_name: "{resource}"'))
    found = _LOGGED_REASON.search(log, at) if at >= 0 else None
    return found[1].strip() if found else ""
