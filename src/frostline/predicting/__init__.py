"""Any number of named images into rows of predictions."""
