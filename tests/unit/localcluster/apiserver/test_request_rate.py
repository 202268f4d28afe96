"""Counting requests, on a clock of the test's own."""

from localcluster.apiserver.http.requests import Requests


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    now = [100.0]
    requests = Requests(lambda: now[0])
    for second in (100.0, 100.5, 104.0):
        now[0] = second
        requests.count("GET", 200)
    assert requests.per_second == 0.3
    now[0] = 110.0
    assert requests.per_second == 0.1
    now[0] = 200.0
    assert requests.per_second == 0.0


def test_the_total_is_told_by_method_and_code() -> None:
    requests = Requests(lambda: 0.0)
    for code in (200, 200, 404):
        requests.count("GET", code)
    told = requests.exposition().splitlines()
    assert 'apiserver_request_total{verb="GET",code="200"} 2' in told
    assert 'apiserver_request_total{verb="GET",code="404"} 1' in told
    assert "localcluster_requests_per_second 0.3" in told
