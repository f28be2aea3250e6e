"""A matplotlib figure as SVG that lives inside a page: no reference leaves it, and equal drawings give equal bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

# Reads only what matplotlib wrote a moment ago, never a file from elsewhere.
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

INK: Final = "#1f2933"
FAINT: Final = "#5b6770"

_STYLE: Final[dict[RcKeyType, Any]] = {
    "svg.hashsalt": "covenant",  # or else ids are random
    "svg.fonttype": "none",  # text stays text: it can be selected, searched and read aloud
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": FAINT,
    "axes.labelsize": 9.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
# Each key that is None takes its element away; with all of them gone there is no block of metadata, its date or its addresses.
_NO_METADATA: Final = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_LOCAL_REFERENCE: Final = re.compile(r"(url\(#|^#)")


def inline_svg(
    draw: Callable[[Figure], None], *, key: str, title: str, width_in: float, height_in: float
) -> str:
    """What `draw` puts on a figure, as one `<svg>` element named `title`. `key` is the prefix of its ids in the page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc of whoever runs this shall not change the report
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        draw(figure)
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    return _embedded(ET.fromstring(buffer.getvalue()), key, title)  # noqa: S314


def _embedded(root: ET.Element, key: str, title: str) -> str:
    """`root` for use within HTML: its own ids, no namespaces, no style sheet, sized by the page, named for screen readers."""
    for parent in root.iter():
        for child in [each for each in parent if _local(each.tag) in {"style", "metadata"}]:
            parent.remove(child)  # its rules would hold for the whole page
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(name): f"{key}-{value}" if name == "id" else _LOCAL_REFERENCE.sub(rf"\g<1>{key}-", value)
            for name, value in element.attrib.items()
        }
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    named = ET.Element("title", {"id": f"{key}-title"})
    named.text = title
    root.insert(0, named)
    root.attrib |= {"role": "img", "aria-labelledby": named.attrib["id"]}
    return ET.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """The name without its namespace; SVG 2 reads `href` without one too."""
    return name.rpartition("}")[2]
