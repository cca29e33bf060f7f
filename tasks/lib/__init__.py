"""The logic behind the tasks. Knows nothing of Invoke; each package says what lives there.

A package may import those below it (pyproject.toml holds this as an import-linter contract):

    benchmark
    predict  serving  testsuite
    optimize  results
    measure
    engines
    images  models
    embedded
    client
    common
"""
