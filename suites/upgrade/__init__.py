"""What an update does to a cluster."""
