"""Which data sets of PyTorch Geometric there are, and what PyG calls them. Imports neither."""

from __future__ import annotations

from dataclasses import dataclass

#: Classes that hold one data set, by its name.
_SINGLE = {
    "actor": "Actor",
    "amazon_products": "AmazonProducts",
    "flickr": "Flickr",
    "ppi": "PPI",
    "reddit": "Reddit",
    "reddit2": "Reddit2",
    "yelp": "Yelp",
}
#: Classes that hold several: their names, and what PyG calls each; None for those of any name.
_FAMILIES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "amazon": ("Amazon", ("Computers", "Photo")),
    "citation_full": ("CitationFull", ("cora", "cora_ml", "citeseer", "dblp", "pubmed")),
    "coauthor": ("Coauthor", ("CS", "Physics")),
    "heterophilous": (
        "HeterophilousGraphDataset",
        ("roman_empire", "amazon_ratings", "minesweeper", "tolokers", "questions"),
    ),
    "planetoid": ("Planetoid", ("Cora", "CiteSeer", "PubMed")),
    "tudataset": ("TUDataset", None),
    "webkb": ("WebKB", ("cornell", "texas", "wisconsin")),
}
#: Classes whose graphs have several kinds of nodes or edges.
_HETEROGENEOUS = (
    *("aminer", "amazonbook", "dblp", "hgbdataset", "imdb", "lastfm", "movielens"),
    *("hm", "igmcdataset", "movielens100k", "movielens1m", "ogbmag", "opfdataset", "osegvcs"),
    *("rcdd", "taobao"),
)


@dataclass(frozen=True)
class PyGEntry:
    """A data set of PyG.

    Attributes:
        name: what :func:`gnnscale.load` calls it, as "planetoid/cora"; that of its card.
        class_name: the class in ``torch_geometric.datasets``.
        member: the ``name=`` that the class takes; None where it takes none.
    """

    name: str
    class_name: str
    member: str | None = None


def find_pyg(name: str) -> PyGEntry | None:
    """The data set called ``name``, in either case; None where it is none of PyG's.

    PyG's own names will do: "Planetoid/Cora", "AmazonProducts".
    """
    family, _, member = name.partition("/")
    found = _key(family)
    if not member:
        single = next((key for key in _SINGLE if _key(key) == found), None)
        return None if single is None or "/" in name else PyGEntry(single, _SINGLE[single])
    several = _family(family)
    if several is None or "/" in member:
        return None
    class_name, members = _FAMILIES[several]
    if members is None:  # a name of this class is also that of files, in which case counts
        return PyGEntry(f"{several}/{member}", class_name, member)
    known = next((m for m in members if _key(m) == _key(member)), None)
    return None if known is None else PyGEntry(f"{several}/{known.lower()}", class_name, known)


def is_family(name: str) -> bool:
    """Whether a name is of the form "planetoid/…", whether or not there is such a data set."""
    family, slash, _ = name.partition("/")
    return bool(slash) and _family(family) is not None


def is_heterogeneous(name: str) -> bool:
    """Whether PyG calls a data set so that has several kinds of nodes or edges."""
    return _key(name.partition("/")[0]) in _HETEROGENEOUS


def members_of(name: str) -> list[str]:
    """The data sets that there are of the family of ``name``."""
    family = name.partition("/")[0]
    key = _family(family)
    return (
        []
        if key is None
        else [f"{key}/{member.lower()}" for member in _FAMILIES[key][1] or ("MUTAG", "…")]
    )


def _family(name: str) -> str | None:
    """The family that a name, or the name of PyG's class, is of."""
    wanted = _key(name)
    return next(
        (key for key, (made, _) in _FAMILIES.items() if wanted in (_key(key), made.lower())), None
    )


def _key(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
