"""Files of containers: copied out and in, exported, compared with the image, made into a layer."""
