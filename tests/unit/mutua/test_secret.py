"""Secrets are never shown."""

import copy
import json
import pickle

import msgspec
import pytest

from mutua.secret import Secret, encode_redacted


def test_no_way_of_printing_shows_the_bytes() -> None:
    secret = Secret(b"hunter2")
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>20}",
        "%s" % secret,  # noqa: UP031
        str([secret]),
        json.dumps({"key": secret}, default=encode_redacted),
        msgspec.json.encode({"key": secret}, enc_hook=encode_redacted).decode(),
    ]
    assert all("[redacted]" in text and "hunter2" not in text for text in shown)


def test_it_is_compared_and_revealed() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    assert len({Secret(b"a"), Secret(b"a")}) == 1
    assert Secret(b"a").reveal() == b"a"
    assert (len(Secret(b"abc")), bool(Secret(b""))) == (3, False)


def test_it_leaves_the_process_in_no_other_form() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(b"a"))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(b"a"))
    with pytest.raises(TypeError) as caught:
        json.dumps(Secret(b"hunter2"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(TypeError, match="no JSON form"):
        encode_redacted(object())
