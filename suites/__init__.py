"""The acceptance suites: what is broken on purpose, and what must then be true."""
