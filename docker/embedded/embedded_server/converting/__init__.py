"""Divides a SavedModel between TensorFlow and OpenVINO.

    flat         a signature as one graph: no functions, no variables, tables with their contents
    folding      what does not depend on the input becomes constants
    facts        what is known of each tensor: what it depends on, its shape, the range of its numbers
    operations   the operations that OpenVINO is proven to compute as TensorFlow does
    counting     how many multiplications an operation needs
    division     which operations are front, body and tail
    bounds       up to which magnitude of its inputs the body is right
    writing      the files of the artefact

docs/optimized.md explains the whole. Modules import those above them and the server's common base, never
`convert`.
"""
