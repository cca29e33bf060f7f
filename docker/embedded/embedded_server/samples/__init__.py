"""Sample requests of a model, made from what its graph does with its inputs.

`uses` says what the graph does with an input, `values` makes values for such a use, `making` puts them
together to requests that TensorFlow answers.
"""
