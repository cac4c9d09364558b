"""What all of the project's own tests share."""

import signal

from hypothesis import settings

pytest_plugins = ["pytester"]

settings.register_profile("no figure decides", deadline=None)
settings.load_profile("no figure decides")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # begun in the background of a script, which ignores it: Ctrl-C is tested all the same
    signal.signal(signal.SIGINT, signal.default_int_handler)
