"""A variant's server from the user's point of view: started with all it needs, and the curl line for it.

May import: everything up to optimize.
"""
