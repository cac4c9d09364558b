"""One client per protocol, and no idea of high availability.

Every call takes a Deadline, runs under ``clock.guard`` and ends as a value or as one of ``errors.SiteError``:
Unreachable (nobody answered), AuthRefused (they answered and refused us), ProtocolError (that was no answer).
The libraries' own timeouts are backstops, far above any deadline: they never decide what a reader is told.
"""
