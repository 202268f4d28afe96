"""Log lines as Istio's: time, level, scope, message, key=value; one event is one line, and no line holds a secret."""

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

ROOT = "mutua"

_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}

_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"  # PEM keys, even cut off
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]*",  # JSON web tokens
    re.DOTALL,
)
_NEEDS_QUOTES = re.compile(r'[\s="\x00-\x1f\x7f]|^$')


class Log:
    """The log of one scope, such as `ca`. Fields are keyword arguments: `log.info("issued", serial="1f")`."""

    def __init__(self, scope: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{scope}")

    def debug(self, message: str, /, **fields: object) -> None:
        """For whoever looks for a bug."""
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        """Something happened that is meant to happen."""
        self._write(logging.INFO, message, fields)

    def warn(self, message: str, /, **fields: object) -> None:
        """Something failed, and is dealt with."""
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Something failed, and a person must look."""
        self._write(logging.ERROR, message, fields)

    def _write(self, level: int, message: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, extra={"fields": fields})


class Limit:
    """At most so many lines a second about what strangers can cause as often as they like."""

    def __init__(self, lines_per_second: int = 10) -> None:
        self._most = lines_per_second
        self._second = 0
        self._lines = 0
        self._left_out = 0

    def take(self, seconds: float) -> int | None:
        """At the time `seconds`: None if a line would be too many, else how many were left out since the last one."""
        if int(seconds) != self._second:
            self._second, self._lines = int(seconds), 0
        if self._lines >= self._most:
            self._left_out += 1
            return None
        self._lines += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


class _LibrariesLimit(logging.Filter):
    """Libraries tell about each broken request, and anybody who reaches a port can send as many as they like."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = Limit()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(f"{ROOT}."):
            return True
        left_out = self._limit.take(record.created)
        if left_out:
            record.fields = {"left_out_before": left_out}
        return left_out is not None


class Formatter(logging.Formatter):
    """One line per record; line breaks within are written as escapes, so that nobody can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in UTC with microseconds, level, scope and text, separated by tabs."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        scope = record.name.removeprefix(f"{ROOT}.")
        words = [record.getMessage()]
        fields: Mapping[str, object] = getattr(record, "fields", {})
        words += [f"{key}={_value(value)}" for key, value in fields.items()]
        if record.exc_info:
            words.append(f"exception={_value(self.formatException(record.exc_info))}")
        text = redacted(" ".join(words)).replace("\n", "\\n").replace("\r", "\\r")
        return f"{time}\t{_LEVELS.get(record.levelno, record.levelname.lower())}\t{scope}\t{text}"


def redacted(text: str) -> str:
    """The text without private keys and tokens: the last net, below never putting them there."""
    return _SECRETS.sub("[redacted]", text)


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Send every scope's lines to `stream` (standard error unless given), for the life of this process."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter())
    handler.addFilter(_LibrariesLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel({"warn": "WARNING"}.get(level, level.upper()))


def _value(value: object) -> str:
    text = str(value)
    if _NEEDS_QUOTES.search(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'"{escaped}"'
    return text
