"""Pages in Prometheus' text format: what becomes of names, of a hostile value, of an application's part."""

from hypothesis import given
from hypothesis import strategies as st

from mutua.envoy.telemetry_tags import Names
from mutua.reports.exposition import Sample, application_page, envoy_page, samples

OWN = Names("web", "shop", "web", "web")
WAY = 'way="destination;mutual_tls;web.shop.svc.cluster.local;web;shop;8080"'
FRONTEND = 'identities="spiffe://cluster.local/ns/shop/sa/frontend;spiffe://cluster.local/ns/shop/sa/web"'


def page_of(tags: str, value: str = "7", name: str = "istio_requests_total") -> bytes:
    return f"envoy_mutua_{name}{{{tags}}} {value}\n".encode()


def labels_of(tags: str) -> dict[str, str]:
    (found,) = samples(page_of(tags), OWN)
    return found.labels


def test_the_mesh_s_metrics_have_istio_s_names_and_others_keep_theirs() -> None:
    page = (
        b"# TYPE envoy_mutua_istio_requests_total counter\n"
        + page_of(f'{WAY},protocol="http",answer="200;-;"')
        + b'# TYPE envoy_server_uptime gauge\nenvoy_server_uptime{a="envoy_mutua_x"} 12\n'
    )
    lines = envoy_page(page, OWN).decode().splitlines()
    assert lines[0] == "# TYPE istio_requests_total counter"
    assert lines[1].startswith('istio_requests_total{reporter="destination",source_workload="unknown",')
    assert lines[1].endswith(
        'request_protocol="http",response_code="200",grpc_response_status="",response_flags="-"} 7'
    )
    assert lines[2:] == ["# TYPE envoy_server_uptime gauge", 'envoy_server_uptime{a="envoy_mutua_x"} 12']


def test_a_bucket_keeps_its_bound() -> None:
    page = page_of(f'{WAY},le="0.5"', "1", "istio_request_duration_milliseconds_bucket")
    assert envoy_page(page, OWN).decode().endswith(',connection_security_policy="mutual_tls",le="0.5"} 1\n')


def test_a_server_s_caller_is_in_the_namespace_that_its_certificate_says() -> None:
    found = labels_of(f'{WAY},peer="frontend;payments;app;service",{FRONTEND}')
    assert (found["source_workload"], found["source_workload_namespace"]) == ("frontend", "shop")
    assert (found["source_app"], found["source_canonical_service"]) == ("app", "service")
    assert (found["destination_workload"], found["destination_workload_namespace"]) == ("web", "shop")


def test_what_means_the_same_is_one_series() -> None:
    page = page_of(f'{WAY},peer="frontend;one;a;b",{FRONTEND}', "3")
    page += page_of(f'{WAY},peer="frontend;other;a;b",{FRONTEND}', "4")
    (line,) = envoy_page(page, OWN).decode().splitlines()
    assert line.endswith(" 7")


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert '"\ufffd"' in envoy_page(b'envoy_mutua_a{way="x",client="\xff"} 1\n', OWN).decode()


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
    page = page_of(WAY, "many") + b"nonsense\nenvoy_mutua_a{ 2\n" + page_of(WAY, "2")
    assert [each.value for each in samples(page, OWN)] == [2]


@given(st.text(st.characters(exclude_characters=";"), max_size=60), st.text(max_size=60))
def test_whatever_a_peer_calls_itself_comes_back_and_is_one_line(workload: str, client: str) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    def printable(text: str) -> str:
        return text.encode("utf-8", "replace").decode()

    tags = f'{WAY},peer="{escaped(workload)};a;b;c",client="{escaped(client)}"'
    page = f"envoy_mutua_istio_requests_total{{{tags}}} 1\n".encode("utf-8", "replace")
    (sample,) = samples(page, OWN)
    assert isinstance(sample, Sample)
    assert sample.labels["source_workload"] == (printable(workload) or "unknown")
    assert sample.labels["source_address"] == printable(client)
    assert envoy_page(page, OWN).decode().count("\n") == 1
