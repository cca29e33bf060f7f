"""The local engine: embedded servers as processes of this machine."""
