"""The embedded environment: the virtual environment that holds TensorFlow, and the programs that run in it.

May import: common, client.
"""
