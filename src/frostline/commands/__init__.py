"""The commands: each is wiring: parse, call one stage, print. Everything heavy is imported inside the command that needs it."""
