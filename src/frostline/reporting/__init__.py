"""The report: a document made of saved records alone, and the forms in which it is written."""
