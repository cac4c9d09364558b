"""pytest glue."""


def pytest_addoption(parser):  # type: ignore[no-untyped-def]
    parser.addini("pveha", "this configuration is meant for pytest-pveha's suites", type="bool", default=False)
