"""A saved model in other forms, each checked against it."""
