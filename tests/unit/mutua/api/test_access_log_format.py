"""What of Envoy's format strings is taken; the test with a real Envoy says that it agrees."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutua.api import access_log_format, decode
from mutua.api.meshconfig import AccessLogEncoding
from mutua.mesh import build
from mutua.mesh.snapshot import Settings

TEXT, JSON = AccessLogEncoding.TEXT, AccessLogEncoding.JSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("100%", "what begins with '%' is no command; a per cent sign is written %%"),
        ("%req(a)%", "no command"),
        ("%NOPE%", "%NOPE%: Envoy has no such command"),
        ("%REQ%", "REQ needs a parameter"),
        ("%REQ(a?b?c)%", "cannot have the parameter 'a?b?c'"),
        ("%PROTOCOL(x)%", "PROTOCOL takes neither parameter nor length"),
        ("%START_TIME(%s%n)%", "START_TIME cannot have the parameter '%s%n'"),
        ("%START_TIME:5%", "START_TIME takes no length"),
        ("%CEL(request.path)%", "cannot be checked"),
        ("x" * 20_000, "has 20000 characters"),
    ],
)
def test_what_envoy_would_refuse_is_refused_with_the_reason(text: str, said: str) -> None:
    (problem,) = access_log_format.mistakes(text, TEXT)
    assert said in problem


def test_json_is_looked_through() -> None:
    text = json.dumps({"a": "%NOPE%", "b": {"c": ["%PROTOCOL%", "%X%"]}, "d": 1})
    assert [each.split(":")[0] for each in access_log_format.mistakes(text, JSON)] == ["/a", "/b/c/1"]
    for wrong in ("%PROTOCOL%", "[]", '"x"', "[" * 5000, '{"a": NaN}'):
        assert list(access_log_format.mistakes(wrong, JSON)), wrong


@given(st.text(alphabet="%REQ():a?5PATH_\n"), st.sampled_from(AccessLogEncoding))
def test_nothing_is_raised(text: str, encoding: AccessLogEncoding) -> None:
    list(access_log_format.mistakes(text, encoding))


def test_sidecars_never_get_a_format_that_is_wrong() -> None:
    for text, kept in (("%NOPE%", ""), ("%PROTOCOL%", "%PROTOCOL%")):
        config, findings = decode.mesh_config({"accessLogFile": "/dev/stdout", "accessLogFormat": text})
        assert [finding.field for finding in findings] == ([] if kept else ["accessLogFormat"])
        assert build.mesh_view(Settings(config)).access_log_format == kept
