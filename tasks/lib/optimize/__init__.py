"""The optimized artefact of a model version: convert, prove, compare with stock, choose, store.

What OpenVINO may execute is decided in docker/embedded/embedded_server/converting, not here.
May import: everything up to measure.
"""
