"""The ways to end a node that the others can no longer trust."""
