"""Export of trained models to files that run without emojax: ONNX, StableHLO, Hugging Face folders (docs/export.md)."""

from emojax.export.run import FORMATS as FORMATS
from emojax.export.run import export_workdir as export_workdir
