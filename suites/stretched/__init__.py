"""Sites in two rooms: what lies between them, what is lost with one of them, and who decides."""
