"""From a dataset on disk to batches: formats, images, transforms, order and loading."""
