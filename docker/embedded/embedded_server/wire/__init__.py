"""Requests and answers as JSON and as TensorFlow Serving's messages, to arrays and back.

The rules are TensorFlow Serving's (json_tensor.cc and its apis).
"""
