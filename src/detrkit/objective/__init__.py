"""What a prediction costs, and how it becomes detections."""
