"""The decoders: one file each, over the shared layers."""
