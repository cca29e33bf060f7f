"""The proof that an optimized signature answers like TensorFlow.

breaking   requests: ordinary ones, and ones that are made to break the optimized model
compare    two answers to one request compared
examples   tf.Examples that a SavedModel can parse
proof      one signature proven: every request to both, again, and several at once
worker     the process that does it for every signature and precision; `prove` starts it
"""
