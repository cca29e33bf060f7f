"""TensorFlow's graphs: loading a SavedModel, and reading a signature as one flat graph.

Used to execute a SavedModel and to convert it; imports neither.
"""
