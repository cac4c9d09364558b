"""A second fault while the site still recovers from the first."""
