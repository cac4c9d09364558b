"""What all of the project's own tests share."""

from hypothesis import settings

pytest_plugins = ["pytester"]

settings.register_profile("no figure decides", deadline=None)
settings.load_profile("no figure decides")
