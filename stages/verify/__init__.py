"""Hash, decode and describe every file; find the test images that are copies of training images."""
