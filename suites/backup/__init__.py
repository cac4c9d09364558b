"""Backups, and guests that are made of them again."""
