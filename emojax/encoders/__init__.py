"""Speech and text encoders from published checkpoints, as pure Flax modules."""

from emojax.encoders.ctc import SpeechRecognizer as SpeechRecognizer
from emojax.encoders.ctc import load_recognizer as load_recognizer
from emojax.encoders.encoder import Encoder as Encoder
from emojax.encoders.encoder_output import EncoderOutput as EncoderOutput
from emojax.encoders.family import ComputeOptions as ComputeOptions
from emojax.encoders.fingerprint import checkpoint_fingerprint as checkpoint_fingerprint
from emojax.encoders.freezing import freeze_mask as freeze_mask
from emojax.encoders.layer_selection import resolve_layers as resolve_layers
from emojax.encoders.layer_selection import select_layers as select_layers
from emojax.encoders.load import load_encoder as load_encoder
from emojax.encoders.logical_axes import AxesTable as AxesTable
from emojax.encoders.logical_axes import axes_by_path as axes_by_path
from emojax.encoders.logical_axes import logical_axes as logical_axes
from emojax.encoders.save import save_encoder as save_encoder
