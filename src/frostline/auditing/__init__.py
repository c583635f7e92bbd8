"""What is wrong with labelled images: said from their pixels and from their features."""
