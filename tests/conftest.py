"""For every test: properties have no time limit, since a busy machine is no finding; golden files can be rewritten.

A shell that runs them in the background has Ctrl-C ignored by all that it starts; tests press it all the same.
"""

import signal

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden", action="store_true", help="write golden files anew from what is, instead of comparing"
    )
