"""The repository's pytest configuration lies in pyproject.toml; nothing more is needed here.

The suites get their fixtures from the installed plugin, so that they run the same from a wheel as from here.
"""
