from importlib.metadata import version

from fashion.versions import installed, versions


def test_what_nobody_installed_is_unknown_and_no_error():
    assert versions("numpy", "no-such-package") == {"numpy": version("numpy"), "no-such-package": "unknown"}


def test_what_is_not_installed_is_left_out():
    assert installed("numpy", "no-such-package") == {"numpy": version("numpy")}
