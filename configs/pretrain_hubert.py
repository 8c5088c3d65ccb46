"""What `--mode=pretrain` trains: HuBERT-base on units of MFCC, the first iteration of Hsu et al. 2021.

python launch.py --mode=pretrain --config=configs/pretrain_hubert.py --workdir=DIR

The second iteration predicts units of the first one's states:
`--config.units.checkpoint=DIR/encoder --config.units.layer=6 --config.units.clusters=500` into another workdir.
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the config."""
    shared = default.get_config()
    config = ConfigDict()

    # Of parameters, masks, order of the data, cropping, dropout and k-means. Same config, same result.
    config.seed = 0

    config.corpus = ConfigDict()
    # TFDS name of a corpus built with `python -m tfds_builders`, and the folder that holds it; labels are not read.
    config.corpus.name = "msp_podcast"
    config.corpus.data_dir = ""
    # Splits; empty: those the corpus itself names for the purpose.
    config.corpus.train_split = ""
    config.corpus.validation_split = ""

    # As in configs/default.py.
    config.data = shared.data
    # As in configs/default.py. Speed changes what is heard and its units; units of clips with room, noise and gain are
    # those of the clip without (denoising, as in WavLM).
    config.augment = shared.augment

    encoder = config.encoder = ConfigDict()
    # Folder or Hugging Face name of a HuBERT to go on from, which then gives the sizes; empty: random parameters.
    encoder.checkpoint = ""
    # Channels of the seven convolutions (>= 1 each).
    encoder.channels = (512,) * 7
    # Width of the transformer, a multiple of 16 and of the heads; its layers, heads, and feed-forward width.
    encoder.hidden_size = 768
    encoder.num_layers = 12
    encoder.num_heads = 12
    encoder.intermediate_size = 3072
    # Frames the positional convolution sees (>= 1).
    encoder.position_taps = 128
    # Layer norm before each sublayer, as in HuBERT-large, instead of after it: learns more steadily.
    encoder.norm_first = False
    # Share of units dropped, and of layers, [0, 1).
    encoder.dropout = 0.1
    encoder.layer_drop = 0.05
    # Of matrix products: "float32" or "bfloat16".
    encoder.dtype = "float32"
    # Compute layers again in the backward pass instead of keeping their activations.
    encoder.remat = False

    units = config.units = ConfigDict()
    # Folder or Hugging Face name of the speech encoder whose states are clustered; empty: MFCC.
    units.checkpoint = ""
    # Layer the states are taken from: 0 is what enters the first, -1 the last states.
    units.layer = 6
    # Whether each utterance's mean is taken off before: then units are sounds rather than voices, which matters where
    # few voices are heard.
    units.centred = False
    # Number of units (>= 2).
    units.clusters = 100
    # Frames, of 20 ms each, that k-means looks at.
    units.fit_frames = 500_000

    prediction = config.prediction = ConfigDict()
    # Share of frames in hidden spans, before overlaps (0 < share <= 1), and the frames of a span (>= 1).
    prediction.mask_probability = 0.8
    prediction.mask_length = 10
    # Share of the loss that visible frames have, [0, 1); the rest is that of hidden ones.
    prediction.visible_weight = 0.0
    # Size of the space in which states and units are compared (>= 1), and the temperature (> 0).
    prediction.projection_size = 256
    prediction.temperature = 0.1

    # As in configs/default.py.
    config.optimizer = shared.optimizer
    config.optimizer.learning_rate = 5e-4
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 2000
    config.training = shared.training
    config.mesh = shared.mesh
    return config
