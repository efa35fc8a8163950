"""
The site, by Sphinx.

    sphinx-build -W docs docs/_build/html     # as the gate "docs" does
    python docs/_site/check.py docs/_build/html

What is not written by hand is made when the build starts (``_site/``), into files that
git ignores: the reference from each module's ``__all__``, copies of the notebooks and
of what stands at the root, and the pages to explore. No network is asked.
"""

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_site"), str(HERE.parent)]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"

import formulas  # noqa: E402
import live  # noqa: E402
import outside  # noqa: E402
import reference  # noqa: E402
from captum_pairs import __version__  # noqa: E402

project = "captum-pairs"
author = "The captum-pairs authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_site", "upstream", "search.md"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
# the notebooks are executed by tutorials/run.py, which also tests what they claim
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_preprocess_types = False
napoleon_custom_sections = [("Args, attributes", "params_style")]
intersphinx_mapping = reference.inventories()
intersphinx_timeout = 1

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"captum-pairs {version}"
html_static_path = ["_static", "_made"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_theme_options = {"top_of_page_buttons": []}


def setup(app: Any) -> None:
    """What Sphinx calls."""
    outside.copy(HERE)
    reference.write(HERE / "api")
    live.write(HERE / "_made" / "live")
    app.connect("source-read", outside.lead_out)
    # its table of contents has the pages that there are
    app.connect("env-get-outdated", lambda *_: ["index"])
    app.connect("autodoc-process-docstring", reference.process, priority=100)
    formulas.setup(app)
