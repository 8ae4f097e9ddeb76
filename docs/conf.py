"""The site: `make docs` builds it, and a warning is an error.

`extension/` has what is generated from the package itself: the API, the command line, the tables of
arguments. Where a page has a line such as `<!-- generated: commands -->`, its text goes there.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
warnings.filterwarnings("ignore")  # of torch and PyG, when they are imported

import gnnscale  # noqa: E402

project = "gnnscale"
author = "The gnnscale authors"
copyright = author
version = release = gnnscale.__version__
html_title = f"gnnscale {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "extension"]
exclude_patterns = ["_site", "extension", "screenshots"]
nitpicky = True  # a reference that leads nowhere is a warning
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["myst.header"]  # included pages begin below their title

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
default_role = "name"

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
