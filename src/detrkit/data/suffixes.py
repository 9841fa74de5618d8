"""What names of image files end with, the usual first; capitals are allowed too.

It stands apart from the reading of images, so that whoever asks for names alone does without torch.
"""

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "TIFF", "WEBP", "GIF", "PPM", "JPEG2000", "TGA")
"""Pillow's names of the formats that are read, whatever a file is called. Pillow knows more, among them
PostScript, for which it starts another program."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
