"""Speech and text encoders from published checkpoints, as pure Flax modules."""

from emojax.encoders.checkpoint_files import checkpoint_fingerprint as checkpoint_fingerprint
from emojax.encoders.encoder import Encoder as Encoder
from emojax.encoders.encoder import resolve_layers as resolve_layers
from emojax.encoders.encoder import select_layers as select_layers
from emojax.encoders.families import ComputeOptions as ComputeOptions
from emojax.encoders.families import EncoderOutput as EncoderOutput
from emojax.encoders.parameters import AxesTable as AxesTable
from emojax.encoders.parameters import axes_by_path as axes_by_path
from emojax.encoders.parameters import freeze_mask as freeze_mask
from emojax.encoders.parameters import logical_axes as logical_axes
from emojax.encoders.pretrained import load_encoder as load_encoder
from emojax.encoders.pretrained import save_encoder as save_encoder
