"""Why a model answers what it does, as pictures and records."""
