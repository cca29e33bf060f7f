"""What the command line and configuration files say, checked.

The flags and messages are TensorFlow Serving's, and some of our own. A new flag belongs here.
"""
