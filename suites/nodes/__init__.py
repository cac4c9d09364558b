"""Loss of whole nodes."""
