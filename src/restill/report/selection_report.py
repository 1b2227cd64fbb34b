"""The choice among a student's checkpoints as a table and as a picture."""

from __future__ import annotations

import io

from rich import box
from rich.table import Table
from rich.text import Text

from ..selection import NEAR, Choice
from .table import BEST


def selection_table(choice: Choice) -> Table:
    """All candidates; the chosen one has a star."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    clean = choice.oracle is not None
    for title in ("images", "sigma_rel", "proximal Fréchet ↓", "±", *(["clean Fréchet ↓"] if clean else []), ""):
        table.add_column(title, justify="right")
    for c in choice.candidates:
        mark = BEST if c is choice.best else NEAR if c in choice.near else ""
        length = "own" if c.sigma_rel is None else f"{c.sigma_rel:g}"
        cells = [f"{c.images:,}", length, f"{c.proximal:.4g}", f"{c.error:.2g}"]
        cells += [f"{c.clean:.4g}"] if clean else []
        table.add_row(*(Text(cell) for cell in [*cells, mark]), style="bold" if c is choice.best else "")
    return table


def selection_png(choice: Choice) -> bytes:
    """Distances over the length of the distillation, a line for each length of the average; PNG.

    Below the proximal distances with their standard errors stand those to clean images, where they are known.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, because it takes half a second
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator, StrMethodFormatter

    clean = choice.oracle is not None
    figure = Figure(figsize=(6.4, 6.4 if clean else 3.6), layout="constrained", dpi=150)
    panels = figure.subplots(2 if clean else 1, sharex=True, squeeze=False)[:, 0]
    for length in sorted({c.sigma_rel for c in choice.candidates}, key=lambda length: length or 1.0):  # own is last
        line = [c for c in choice.candidates if c.sigma_rel == length]
        images, marker = [c.images for c in line], "s" if length is None else "o"
        label = "own average" if length is None else f"$\\sigma_{{rel}}$ {length:g}"
        style = {"marker": marker, "markersize": 4, "linewidth": 1.4, "label": label}
        panels[0].errorbar(images, [c.proximal for c in line], yerr=[c.error for c in line], capsize=2, **style)
        if clean:
            panels[1].plot(images, [c.clean for c in line], **style)
    panels[0].plot(choice.best.images, choice.best.proximal, "k*", markersize=13, fillstyle="none", label="chosen")
    panels[0].set_ylabel("proximal Fréchet distance")
    if clean:
        panels[1].plot(choice.best.images, choice.best.clean, "k*", markersize=13, fillstyle="none")
        panels[1].set_ylabel("Fréchet distance to clean images")
    panels[-1].set_xlabel("images seen")
    panels[-1].xaxis.set_major_formatter(EngFormatter())
    for panel in panels:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(MaxNLocator(6))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.grid(visible=True, alpha=0.2)
    panels[0].legend(frameon=False, fontsize="small")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
