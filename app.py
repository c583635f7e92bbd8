"""Frostline as a Hugging Face Space of the Docker kind, or anywhere that starts ``python app.py``: the service with its page.

FROSTLINE_MODEL: a run, a model directory or its ZIP; by default the classifier in the package. PORT: by default 7860, as Spaces
expect. HOST: by default 0.0.0.0, since whoever starts this wants it reached. FROSTLINE_API_KEY: what visitors must show.
"""

from __future__ import annotations

import os
import sys

from frostline.cli import main

if __name__ == "__main__":
    model, host, port = (os.environ.get(*pair) for pair in (("FROSTLINE_MODEL", "inside"), ("HOST", "0.0.0.0"), ("PORT", "7860")))
    sys.argv[1:] = ["serve", "--model", model or "inside", "--host", host or "0.0.0.0", "--port", port or "7860", "--page"]
    main()
