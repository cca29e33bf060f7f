"""Looks at a Keras file before Keras loads it, and refuses what could run code or read other files.

    configuration   what the file says the model is made of: every object in it, at every depth
    known           the classes and functions of Keras that such an object may be
    hdf5            the weights: nothing that leads out of the file
    errors          why a file is refused

docs/bringing.md says what is refused and why.
"""
