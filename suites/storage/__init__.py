"""Storage: what fails below the guests."""
