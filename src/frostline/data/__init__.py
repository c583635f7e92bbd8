"""Images in: sources, splits, augmentation and batches."""
