"""A page that runs a model in the browser (docs/web.md)."""

from emojax.export.web.page import export_web as export_web
