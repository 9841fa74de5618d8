"""What names of image files end with, the usual first; capitals are allowed too.

It stands apart from the reading of images, so that whoever asks for names alone does without torch.
"""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
