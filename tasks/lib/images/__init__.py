"""Docker images: built from docker/ or pulled from a registry, and why that failed.

May import: common, client, embedded.
"""
