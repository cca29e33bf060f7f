"""`invoke predict`: asks a running server, and shows its answers with the names of classes.

May import: everything up to optimize.
"""
