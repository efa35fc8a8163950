"""How wide the parts of a picture's sheet are, in inches."""

__all__ = ["CAPTION_SIZE", "CAPTION_WIDTH", "LABEL", "LEGEND", "WIDTH"]

# Room for a legend on the right.
WIDTH, LEGEND = 9.6, 1.1
# And on the left for a method's name.
LABEL = 1.9
# Of a caption; its letters in points.
CAPTION_WIDTH, CAPTION_SIZE = 0.75 * WIDTH, 12.0
