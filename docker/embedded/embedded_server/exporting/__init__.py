"""Makes SavedModels of files with weights, and refuses what could run code or read other files.

    configuration   what the file says the model is made of: every object in it, at every depth
    known           the classes and functions of Keras that such an object may be
    hdf5            the weights: nothing that leads out of the file
    state_dict      reads the weights of PyTorch, without PyTorch and without running what the file says
    photo_classifier  what the models of the catalogue are saved as
    errors          why a file is refused

docs/bringing.md says what is refused and why.
"""
