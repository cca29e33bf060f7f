"""Where servers run. `base` is the protocol of an engine; `local` starts processes, `docker/` containers.

A new engine is a module or package here, and a line in `choose`; engines do not import each other.
May import: common, client, embedded, models, images.
"""
