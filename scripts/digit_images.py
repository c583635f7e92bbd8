"""Write one digit of each class from the test split of ``digits`` as a PNG that a person can see: 8 pixels become 128.

Usage: python scripts/digit_images.py FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import frostline


def main() -> None:
    """Write the files and say where they are."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    test = frostline.load_data("digits").test
    for label, name in enumerate(test.classes):
        row = int(np.flatnonzero(test.labels == label)[0])
        image = Image.fromarray(test.pixels[row]).resize((128, 128), Image.Resampling.NEAREST)
        image.save(folder / f"a-{name}.png")
    print(f"Wrote {len(test.classes)} images to {folder}.")


if __name__ == "__main__":
    main()
