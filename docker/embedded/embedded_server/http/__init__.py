"""The REST interface: connections, routes, and the threads that answer.

A new REST route belongs in `rest`.
"""
