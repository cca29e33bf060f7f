"""Versions come and go: finds them on disk, loads, warms up and unloads them, in a thread of its own."""
