"""The Docker engine: servers as containers of this machine. The only package that starts containers."""
