"""Import of published emotion models as workdirs, for prediction, evaluation and distillation."""

from emojax.importers.run import import_published as import_published
