"""Why a fault may not be injected now: each says why not, in its arithmetic, or None. Pure."""
