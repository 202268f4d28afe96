"""The API's answers to raw requests: formats, errors, selectors, pages and watches."""

import ssl
from http.client import HTTPSConnection
from typing import Any

import pytest
from api_server import ApiServer, Watch

Object = dict[str, Any]
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture(autouse=True)
def empty(server: ApiServer) -> None:
    """No config maps but the cluster's own."""
    server.request("DELETE", f"{CONFIG_MAPS}?labelSelector=test")


def create(server: ApiServer, name: str, **labels: str) -> Object:
    body = {"metadata": {"name": name, "labels": {"test": "1", **labels}}}
    code, created = server.request("POST", CONFIG_MAPS, body)
    assert code == 201, created
    return dict(created)


def test_without_a_credential_only_health_and_version_answer(server: ApiServer) -> None:
    for path in ("/healthz", "/readyz", "/livez", "/version"):
        assert server.request("GET", path, token="")[0] == 200
    for path in ("/api", "/apis", "/api/v1/namespaces", "/openapi/v3", "/nowhere"):
        for token in ("", "wrong"):
            code, status = server.request("GET", path, token=token)
            assert (code, status["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v2", 404),
        ("/api/v1/things", 404),
        ("/apis/nope/v1", 404),
        ("/apis/apps/v1beta1/deployments", 404),
        ("/api/v1/namespaces/default/pods/x/nope", 404),
        ("/api/v1/pods/x", 404),
        ("/api/v1/namespaces/default/nodes", 404),
        ("/api/v1/namespaces/default/configmaps/absent", 404),
        ("/api/v1/pods?fieldSelector=spec.colour=red", 400),
        ("/api/v1/pods?labelSelector=a+in", 400),
        ("/api/v1/pods?limit=x", 400),
        ("/api/v1/pods?continue=x", 400),
        ("/api/v1/pods?watch=1&resourceVersion=x", 400),
        ("/api/v1/pods?watch=1&resourceVersion=99999999", 410),
    ],
)
def test_wrong_addresses_and_queries(server: ApiServer, path: str, code: int) -> None:
    found, status = server.request("GET", path)

    assert (found, status["kind"], status["code"]) == (code, "Status", code)


def test_bodies_that_cannot_be_used(server: ApiServer) -> None:
    def post(raw: bytes, media_type: str = "application/json") -> int:
        return server.request("POST", CONFIG_MAPS, raw=raw, Content_Type=media_type)[0]

    assert post(b"{") == 400
    assert post(b"[]") == 400
    assert post(b'{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"}}') == 400
    assert post(b'{"metadata":{"name":"x","namespace":"other"}}') == 400
    assert post(b'{"metadata":{"name":"x"},"data":{"a":1}}') == 400
    assert post(b'{"metadata":[]}') == 400
    assert post(b"k8s\x00junk", "application/vnd.kubernetes.protobuf") == 400
    assert post(b"<a/>", "application/xml") == 415
    assert post(b"a: [", "application/yaml") == 400
    assert post(b'{"metadata":{"name":"x"},"data":{"a":"' + b"x" * 3 * 1024 * 1024 + b'"}}') == 413
    assert server.request("POST", CONFIG_MAPS, {}, Accept="application/vnd.kubernetes.protobuf")[0] in (406, 422)
    assert server.request("PUT", CONFIG_MAPS, {})[0] == 405
    assert server.request("POST", f"{CONFIG_MAPS}?fieldValidation=Maybe", {})[0] == 400


def test_yaml_is_read_and_written_and_dates_stay_text(server: ApiServer) -> None:
    raw = b"metadata: {name: y, labels: {test: '1'}}\ndata: {day: 2024-01-01, switch: 'on'}\n"
    code, created = server.request("POST", CONFIG_MAPS, raw=raw, Content_Type="application/yaml")

    assert (code, created["data"]) == (201, {"day": "2024-01-01", "switch": "on"})
    assert "day: '2024-01-01'" in server.request("GET", f"{CONFIG_MAPS}/y", Accept="application/yaml")[1]


def test_tables_hold_metadata_or_the_whole_object(server: ApiServer) -> None:
    create(server, "a")

    _, short = server.request("GET", f"{CONFIG_MAPS}/a", Accept=TABLE)
    _, whole = server.request("GET", f"{CONFIG_MAPS}?labelSelector=test&includeObject=Object", Accept=TABLE)

    assert (short["kind"], short["rows"][0]["object"]["kind"]) == ("Table", "PartialObjectMetadata")
    assert whole["rows"][0]["object"]["kind"] == "ConfigMap"
    assert [column["name"] for column in whole["columnDefinitions"]] == ["Name", "Data", "Age"]


def test_views_of_many_objects_lack_none(server: ApiServer) -> None:
    names = [f"many-{number:03}" for number in range(205)]
    for name in names:
        create(server, name)

    _, table = server.request("GET", f"{CONFIG_MAPS}?labelSelector=test", Accept=TABLE)
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    _, about = server.request("GET", f"{CONFIG_MAPS}?labelSelector=test", Accept=partial)
    _, nothing = server.request("GET", f"{CONFIG_MAPS}?labelSelector=absent", Accept=TABLE)

    assert [row["cells"][0] for row in table["rows"]] == names
    assert [row["object"]["metadata"]["name"] for row in table["rows"]] == names
    assert [item["metadata"]["name"] for item in about["items"]] == names
    assert about["metadata"]["resourceVersion"] == table["metadata"]["resourceVersion"]
    assert (nothing["kind"], nothing["rows"]) == ("Table", [])
    assert nothing["columnDefinitions"] == table["columnDefinitions"]


def test_metadata_only(server: ApiServer) -> None:
    create(server, "a")
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

    _, found = server.request("GET", f"{CONFIG_MAPS}?labelSelector=test", Accept=accept)

    assert found["kind"] == "PartialObjectMetadataList"
    assert set(found["items"][0]) == {"kind", "apiVersion", "metadata"}


def test_lists_come_in_pages(server: ApiServer) -> None:
    for name in "abcde":
        create(server, name)
    seen, token = [], ""
    pages = 0
    while pages == 0 or token:
        _, page = server.request("GET", f"{CONFIG_MAPS}?labelSelector=test&limit=2&continue={token}")
        seen += [item["metadata"]["name"] for item in page["items"]]
        token, pages = page["metadata"].get("continue", ""), pages + 1

    assert (seen, pages) == (list("abcde"), 3)


def test_discovery_in_both_forms(server: ApiServer) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

    _, legacy = server.request("GET", "/apis")
    _, aggregated = server.request("GET", "/apis", Accept=accept)
    _, resources = server.request("GET", "/apis/apps/v1")

    assert {group["name"] for group in legacy["groups"]} == {item["metadata"]["name"] for item in aggregated["items"]}
    assert aggregated["apiVersion"] == "apidiscovery.k8s.io/v2"
    assert "deployments/scale" in {resource["name"] for resource in resources["resources"]}
    assert server.request("GET", "/api")[1]["versions"] == ["v1"]


def test_a_watch_tells_additions_changes_and_deletions(server: ApiServer) -> None:
    version = create(server, "a")["metadata"]["resourceVersion"]
    with Watch(server, f"{CONFIG_MAPS}?watch=true&labelSelector=test&resourceVersion={version}") as watch:
        create(server, "b")
        server.request("PATCH", f"{CONFIG_MAPS}/b", {"data": {"x": "1"}}, Content_Type="application/merge-patch+json")
        server.request("DELETE", f"{CONFIG_MAPS}/b")
        events = [watch.event() for _ in range(3)]

    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "b"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)


def test_leaving_the_selection_is_a_deletion_and_entering_an_addition(server: ApiServer) -> None:
    create(server, "a", colour="red")
    with Watch(server, f"{CONFIG_MAPS}?watch=true&labelSelector=test,colour=red") as watch:
        first = watch.event()
        for colour in ("blue", "red"):
            patch = {"metadata": {"labels": {"colour": colour}}}
            server.request("PATCH", f"{CONFIG_MAPS}/a", patch, Content_Type="application/merge-patch+json")
        types = [first["type"], watch.event()["type"], watch.event()["type"]]

    assert types == ["ADDED", "DELETED", "ADDED"]


def test_a_watch_list_ends_its_beginning_with_a_bookmark(server: ApiServer) -> None:
    create(server, "a")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    with Watch(server, f"{CONFIG_MAPS}?{query}&labelSelector=test") as watch:
        added, bookmark, *rest = watch.rest()

    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert [event["type"] for event in rest] in ([], ["BOOKMARK"])


def test_a_watched_table_names_its_columns_once(server: ApiServer) -> None:
    create(server, "a")
    with Watch(server, f"{CONFIG_MAPS}?watch=1&labelSelector=test", TABLE) as watch:
        first = watch.event()
        create(server, "b")
        second = watch.event()

    assert first["object"]["columnDefinitions"]
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "b"


def test_deletecollection_takes_what_the_selector_names(server: ApiServer) -> None:
    create(server, "a", keep="no")
    create(server, "b", keep="yes")

    _, deleted = server.request("DELETE", f"{CONFIG_MAPS}?labelSelector=test,keep=no")

    assert [item["metadata"]["name"] for item in deleted["items"]] == ["a"]
    assert server.request("GET", f"{CONFIG_MAPS}/b")[0] == 200


def test_binding_and_eviction(server: ApiServer) -> None:
    pods = "/api/v1/namespaces/default/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    assert server.request("POST", pods, pod)[0] == 201
    binding = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "local"}}

    assert server.request("POST", f"{pods}/p/binding", binding)[0] == 201
    assert server.request("POST", f"{pods}/p/binding", binding)[0] == 409
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": {"gracePeriodSeconds": 7}}
    assert server.request("POST", f"{pods}/p/eviction", eviction)[0] == 201
    marked = server.request("GET", f"{pods}/p")[1]
    assert (marked["spec"]["nodeName"], marked["metadata"]["deletionGracePeriodSeconds"]) == ("local", 7)
    server.request("DELETE", f"{pods}/p", {"gracePeriodSeconds": 0})


def test_the_certificate_is_the_clusters(server: ApiServer) -> None:
    connection = HTTPSConnection("127.0.0.1", server.port, context=ssl.create_default_context(), timeout=10)

    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/readyz")
    connection.close()


def test_pages_show_the_moment_of_the_first_one(server: ApiServer) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    for name in ("page-a", "page-b", "page-d"):
        server.request("POST", path, {"metadata": {"name": name, "labels": {"paged": "1"}}})
    _, first = server.request("GET", f"{path}?labelSelector=paged&limit=1")
    server.request("POST", path, {"metadata": {"name": "page-c", "labels": {"paged": "1"}}})
    server.request("DELETE", f"{path}/page-d")
    _, rest = server.request("GET", f"{path}?labelSelector=paged&continue={first['metadata']['continue']}")

    assert [item["metadata"]["name"] for item in first["items"] + rest["items"]] == ["page-a", "page-b", "page-d"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
