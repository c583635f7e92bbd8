"""A saved model judged on changed images."""
