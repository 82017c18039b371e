"""A frozen encoder at work: features of images, their nearest neighbours, photographs from anywhere."""
