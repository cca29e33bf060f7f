"""Divides a SavedModel between TensorFlow and OpenVINO.

    flat         a signature as one graph: no functions, no variables, tables with their contents
    frames       ways through graphs with loops and conditions
    folding      what does not depend on the input becomes constants
    settling     shapes that TensorFlow's own inference does not find out
    facts        what is known of each tensor: what it depends on, the range of its numbers
    operations   the operations that OpenVINO is proven to compute as TensorFlow does
    counting     how many multiplications an operation needs
    division     which operations are front, body and tail
    writing      the graphs and files of the artefact
    bounds       up to which magnitude of its inputs the body is right
    errors       what keeps a signature with TensorFlow

docs/optimized.md explains the whole.
"""
