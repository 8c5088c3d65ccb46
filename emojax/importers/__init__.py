"""Published emotion models as workdirs, so that they predict, are evaluated and teach like our own."""

from emojax.importers.run import import_published as import_published
