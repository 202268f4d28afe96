"""Pages in Prometheus' text format: what becomes of names, of a hostile value, of an application's part."""

from hypothesis import given
from hypothesis import strategies as st

from mutua.reports.exposition import Sample, application_page, envoy_page, samples

ENVOY = b"""# TYPE envoy_mutua_istio_requests_total counter
envoy_mutua_istio_requests_total{reporter="source",name="envoy_mutua_x"} 7
# TYPE envoy_server_uptime gauge
envoy_server_uptime{} 12
"""


def test_the_mesh_s_metrics_have_istio_s_names_and_others_keep_theirs() -> None:
    assert envoy_page(ENVOY) == (
        b"# TYPE istio_requests_total counter\n"
        b'istio_requests_total{reporter="source",name="envoy_mutua_x"} 7\n'
        b"# TYPE envoy_server_uptime gauge\n"
        b"envoy_server_uptime{} 12\n"
    )


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert envoy_page(b'envoy_mutua_a{b="\xff"} 1\n') == 'a{b="\ufffd"} 1\n'.encode()


def test_an_application_cannot_tell_the_mesh_s_metrics() -> None:
    page = (
        b"# HELP istio_requests_total forged\n# TYPE istio_requests_total counter\r\n"
        b'istio_requests_total{a="b"} 99\nenvoy_x 1\nmutua_denied_total 1\n'
        b"# TYPE up gauge\nup 1\n# a comment about istio_requests_total\n# EOF\n"
    )
    assert application_page(page) == b"# TYPE up gauge\nup 1\n# a comment about istio_requests_total\n"


def test_a_part_ends_its_last_line() -> None:
    assert application_page(b"up 1") == b"up 1\n"
    assert application_page(b"") == b""


def test_lines_that_cannot_be_read_are_left_out() -> None:
    page = b'envoy_mutua_a{b="c"} many\nnonsense\nenvoy_mutua_a{b="c"} 2\nenvoy_mutua_plain 3\n'
    assert list(samples(page)) == [Sample("a", {"b": "c"}, 2), Sample("plain", {}, 3)]


@given(st.dictionaries(st.text("abc_", min_size=1), st.text()))
def test_every_label_comes_back_as_it_was(labels: dict[str, str]) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inner = ",".join(f'{key}="{escaped(text)}"' for key, text in labels.items())
    page = f"envoy_mutua_istio_requests_total{{{inner}}} 1\n".encode("utf-8", "replace")
    expected = {key: text.encode("utf-8", "replace").decode() for key, text in labels.items()}
    assert list(samples(page)) == [Sample("istio_requests_total", expected, 1)]
