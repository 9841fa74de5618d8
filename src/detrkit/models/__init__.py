"""The network, top down: ``detr``, and the ``backbone``, ``encoder`` and ``decoders`` it composes."""
