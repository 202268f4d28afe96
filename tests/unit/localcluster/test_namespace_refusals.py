"""What the kernel refused, to what the user is told."""

import errno

import pytest

from localcluster.namespaces import Refusal, explain

MAXIMUM = "/proc/sys/user/max_user_namespaces"
DEBIAN = "/proc/sys/kernel/unprivileged_userns_clone"
APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


@pytest.mark.parametrize(
    ("number", "is_root", "settings", "hint"),
    [
        (errno.ENOSPC, False, {MAXIMUM: "0"}, "sysctl -w user.max_user_namespaces"),
        (errno.EPERM, False, {DEBIAN: "0"}, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (errno.EPERM, False, {APPARMOR: "1"}, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
        (errno.EPERM, True, {APPARMOR: "1", DEBIAN: "0"}, "--privileged"),
        (errno.ENOSPC, False, {MAXIMUM: "100"}, "used up"),
        (errno.EINVAL, False, {}, "CONFIG_USER_NS"),
        (errno.EPERM, False, {}, "--privileged"),
    ],
)
def test_the_hint_names_what_would_help(number: int, is_root: bool, settings: dict[str, str], hint: str) -> None:
    error = explain(Refusal("make a user namespace", number, is_root), settings.get)

    assert "this machine does not let us make a user namespace" in str(error)
    assert hint in error.hint
