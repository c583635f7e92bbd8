"""What there is to choose from, printed for a person: recipes, models, and what is cached."""

from __future__ import annotations

import inspect
from pathlib import Path

from rich.table import Table

from frostline.show import MIB, console, print_table


def recipes() -> None:
    """Name and first lines of each recipe."""
    from frostline.recipes import RECIPES

    table = Table("recipe", "what it does", show_lines=True)
    for name, make in RECIPES.items():
        table.add_row(name, " ".join((inspect.getdoc(make) or "").split()))
    console.print(table)


def models() -> None:
    """The table of backbones, and the scratch networks."""
    from frostline.models.backbones import BACKBONES
    from frostline.models.cnn import NETWORKS

    table = Table("backbone", "timm's name", "photos at", "small images at")
    for name, row in BACKBONES.items():
        table.add_row(name, row.timm, f"{row.photos} px", f"{row.arrays} px")
    table.add_row("cifar-fast", "inside the package", "32 px", "32 px")
    print_table(table)
    console.print(f"Any other: --set backbone=timm:NAME\nFrom scratch: {', '.join(NETWORKS)} (--set network=NAME)")


def cache() -> None:
    """What is cached, and how large it is."""
    from frostline.feature_cache import entries, features_folder, graphs_folder

    table = Table("network", "view", "precision", "rows", "MiB")
    found = entries()
    for entry in found:
        key = entry["key"]
        cells = (key.get(name, "?") for name in ("network", "view", "precision"))
        table.add_row(*map(str, cells), f"{entry['rows']:,}", f"{entry['bytes'] / MIB:,.1f}")
    print_table(table)
    console.print(f"{sum(entry['bytes'] for entry in found) / MIB:,.1f} MiB of features in {features_folder()}.")
    console.print(
        f"{_size(graphs_folder()) / MIB:,.1f} MiB of compiled graphs in {graphs_folder()}.\n'frostline cache --clear' deletes both."
    )


def cleared() -> None:
    """Clear the cache and say what was freed."""
    from frostline.feature_cache import clear

    console.print(f"Freed {clear() / MIB:,.1f} MiB.")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
