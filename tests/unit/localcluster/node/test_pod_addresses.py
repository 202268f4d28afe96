"""Addresses of pods, given out and taken back."""

import errno
import ipaddress

import pytest

from localcluster.node.network import AddressPool, hardware_address


def test_the_nodes_own_address_is_never_given_out() -> None:
    pool = AddressPool()

    assert [pool.take() for _ in range(3)] == ["10.244.0.2", "10.244.0.3", "10.244.0.4"]


def test_an_address_comes_back_only_after_all_others() -> None:
    pool = AddressPool(ipaddress.IPv4Network("10.244.0.0/29"))
    first = pool.take()
    pool.give_back(first)

    taken = [pool.take() for _ in range(5)]

    assert taken == ["10.244.0.3", "10.244.0.4", "10.244.0.5", "10.244.0.6", first]


def test_an_address_in_use_is_passed_over() -> None:
    pool = AddressPool(ipaddress.IPv4Network("10.244.0.0/29"))
    kept = pool.take()
    for _ in range(10):
        other = pool.take()
        assert other != kept
        pool.give_back(other)


def test_no_address_left_is_an_error_that_says_so() -> None:
    pool = AddressPool(ipaddress.IPv4Network("10.244.0.0/30"))
    pool.take()

    with pytest.raises(OSError, match="every pod address is in use") as refused:
        pool.take()
    assert refused.value.errno == errno.EADDRNOTAVAIL


def test_the_hardware_address_follows_from_the_address() -> None:
    assert hardware_address("10.244.1.255") == "0a:58:0a:f4:01:ff"
