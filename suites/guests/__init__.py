"""What HA does for each single guest."""
