"""Every field of every experiment, with its unit and what is allowed. Other configs state only what differs.

As it stands: the log-mel TC-GRU of Mitra et al. 2022 (Network B) trained on MSP-Podcast's usual split names.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the defaults."""
    config = ConfigDict()

    # Of parameters, order of the data, cropping, dropout, augmentation and bootstrap. Same config, same result.
    config.seed = 0

    config.corpus = ConfigDict()
    # TFDS name of a corpus built with `python -m tfds_builders`: NAME, NAME/CONFIG or NAME/CONFIG:VERSION.
    config.corpus.name = "msp_podcast"
    # Folder that holds NAME/. Empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    config.corpus.data_dir = ""
    # Splits have the corpus's own names; empty: those the corpus itself names for the purpose. What is trained on must
    # not be validated or tested on.
    config.corpus.train_split = ""
    config.corpus.validation_split = ""
    # Evaluated at the end, each on its own; never averaged.
    config.corpus.test_splits = ()
    # Of a corpus with folds (IEMOCAP: five), which one names the empty splits above; 0: its usual splits.
    config.corpus.fold = 0
    # Categories that are learned and told, in this order; utterances of others count for attributes alone. Empty: all.
    config.corpus.categories = ()
    # Utterances whose labels are not looked at, for the teacher alone: a split, e.g. "train[50%:]" beside a train_split
    # "train[:50%]"; "": none. It is of the same corpus, or of another one, named as above.
    config.corpus.unlabelled_split = ""
    config.corpus.unlabelled_name = ""

    config.data = ConfigDict()
    # Utterances per step, over all devices and hosts; a multiple of the number of devices. CCC is computed over it.
    config.data.batch_size = 32
    # Ascending static lengths in seconds that utterances are padded to; each is compiled once. In training what is
    # longer than the last is cropped at random; evaluation adds doubled lengths instead and crops nothing.
    config.data.bucket_seconds = (3.0, 5.0, 8.0, 12.0)
    # Where `bucket_seconds` is empty: so many lengths (>= 1), none longer than so many seconds (> 0), chosen so that
    # the training split needs the least padding.
    config.data.num_buckets = 4
    config.data.max_seconds = 12.0
    # Processes that load batches beside the training process; 0: two threads inside it.
    config.data.workers = 1
    # Tokens a transcript is padded or cut to, special tokens included (>= 1).
    config.data.max_tokens = 64
    # Share of every training batch that `corpus.unlabelled_split` fills, if there is one (0 < share < 1).
    config.data.unlabelled_share = 0.5

    # Changes of the waveform in training, inside the step, each with its probability per utterance; 0: off. They are
    # drawn anew in every step. Views that read a store do not hear them.
    augment = config.augment = ConfigDict()
    # Played faster or slower by up to this share (0 <= share < 0.5), pitch and all.
    augment.speed = ConfigDict({"probability": 0.0, "max_change": 0.1})
    # A room, its response cut after so many seconds (> 0). folder: searched for responses (RIRS_NOISES or any other);
    # "": seven bundled ones.
    augment.reverberation = ConfigDict({"probability": 0.0, "max_seconds": 1.0, "folder": ""})
    # Noise, speech that many dB above it, drawn evenly. folder: searched for noises (MUSAN, ESC-50, DEMAND or others;
    # a fifth of the files is kept for evaluation); "": the bundled ones.
    augment.noise = ConfigDict({"probability": 0.0, "low_snr_db": 0.0, "high_snr_db": 20.0, "folder": ""})
    # Louder or quieter by up to so many dB (>= 0).
    augment.gain = ConfigDict({"probability": 0.0, "max_db": 6.0})
    # Files of either kind held on the device (>= 1), and seconds taken of each noise (> 0).
    augment.bank_clips = 128
    augment.bank_seconds = 5.0

    config.model = ConfigDict()
    # What the model perceives: "log_mel" (its own filterbank), "acoustic" (states of a speech encoder), "lexical"
    # (states of a text encoder on the transcript). Several are fused.
    config.model.views = ("log_mel",)
    # Of matrix products: "float32" or "bfloat16". Parameters, statistics, losses and outputs are always float32.
    config.model.dtype = "float32"

    view = config.model.log_mel = ConfigDict()
    # "none"; "utterance": each utterance to mean 0 and variance 1 per band, which forgets its level; "corpus": by the
    # training corpus's mean and standard deviation, which keeps differences of level.
    view.normalisation = "corpus"
    view.filterbank = ConfigDict()
    # Mel bands (>= 1).
    view.filterbank.num_bands = 40
    # Length of a frame and distance between two, in ms; whole numbers of samples at 16 kHz.
    view.filterbank.window_ms = 25.0
    view.filterbank.hop_ms = 10.0
    # Samples of the Fourier transform (>= the frame); frames are zero-padded to it.
    view.filterbank.fft_size = 512
    # Lower edge of the first and upper edge of the last band, in Hz, 0 <= low < high <= 8000.
    view.filterbank.low_hz = 20.0
    view.filterbank.high_hz = 8000.0
    # "htk" or "slaney".
    view.filterbank.mel_scale = "htk"
    # "none": triangles of height 1; "slaney": of equal area.
    view.filterbank.mel_norm = "none"
    # Energies below it are raised to it before the logarithm (> 0); 16-bit quantisation noise lies near 1e-8.
    view.filterbank.floor = 1e-8
    view.deltas = ConfigDict()
    # 0: none; 1: slopes; 2: slopes and slopes of slopes.
    view.deltas.order = 0
    # Frames a slope is fitted to (odd, >= 3).
    view.deltas.width = 9
    # The rest of the view happens in training only; 0 switches each off.
    # Frequencies are scaled by up to this share, as another vocal tract would (0 <= share < 0.5).
    view.vtlp = ConfigDict({"max_warp": 0.0})
    # Durations are scaled by up to this share (0 <= share < 0.5).
    view.time_stretch = ConfigDict({"max_stretch": 0.0})
    view.spec_augment = ConfigDict()
    # Stretches of time replaced by the utterance's mean, their greatest width in frames, and the same as a share of
    # the utterance (0 to 1); the smaller holds.
    view.spec_augment.num_time_masks = 0
    view.spec_augment.max_time_width = 40
    view.spec_augment.max_time_fraction = 0.2
    # Groups of neighbouring bands replaced likewise, and their greatest width in bands.
    view.spec_augment.num_frequency_masks = 0
    view.spec_augment.max_frequency_width = 8
    # So many neighbouring frames are put side by side as one (>= 1): a network that runs that much less often.
    view.stack = 1
    view.network = _network()

    config.model.acoustic = _encoder_view()
    config.model.lexical = _encoder_view()

    fusion = config.model.fusion = ConfigDict()
    # Of several views: "early" (their embeddings side by side, then a dense layer), "late" (each predicts, the
    # predictions are combined linearly), "gated" (a weighted sum, weights per utterance) or "cross_attention" (frames
    # of each look at the frames of the others, then as "early").
    fusion.kind = "early"
    # Units of the joint embedding and of the attention (>= 1).
    fusion.size = 128
    # Attention heads of "cross_attention" (>= 1, divides size).
    fusion.attention_heads = 4
    # Probability that training leaves out a view of an utterance, never all of them, [0, 1): so that the model can do
    # without a transcript or without sound.
    fusion.view_dropout = 0.1

    config.objective = ConfigDict()
    # Weights of 1 - CCC of activation, valence, dominance; they sum to 1, or are all 0 to train on categories alone.
    # Attributes without ratings are left out and the others scaled up.
    config.objective.attribute_weights = (1 / 3, 1 / 3, 1 / 3)
    # Weight of the categories' cross-entropy (>= 0); 0 ignores categories.
    config.objective.emotion_weight = 0.0
    # "none", or "inverse_frequency" of the training categories.
    config.objective.class_balance = "none"
    # Share of the target spread evenly over all categories, [0, 1).
    config.objective.label_smoothing = 0.0
    # "consensus" category, or the distribution of raters' "votes".
    config.objective.emotion_target = "consensus"
    # "fixed": the weights above; "learned": each task's is also divided by an uncertainty that is learned with it.
    config.objective.weighting = "fixed"

    config.teacher = ConfigDict()
    # Workdir of the teacher, or several with commas between: their mean. It runs inside the step; "": none.
    config.teacher.workdir = ""
    # Weight of each of several teachers in the mean (> 0); (): all alike.
    config.teacher.weights = ()
    # Instead: folder of a teacher's outputs, written by `--mode=extract --config=configs/extract_teacher.py`; one for
    # each corpus that is read (`corpus.unlabelled_name`), with commas between.
    config.teacher.cache = ""
    # Of the teacher's matrix products: "float32" or "bfloat16".
    config.teacher.dtype = "float32"

    distillation = config.distillation = ConfigDict()
    # Weight of the labels' loss (>= 0); 0: labels are not looked at.
    distillation.label_weight = 1.0
    # Weight of the loss towards the teacher's attributes (>= 0), and which: "ccc" or "mse".
    distillation.attribute_weight = 0.0
    distillation.attribute_loss = "ccc"
    # Weight of the divergence from the teacher's categories (>= 0), and the temperature of both (> 0).
    distillation.emotion_weight = 0.0
    distillation.temperature = 2.0
    # Weight of the distance to the teacher's embedding (>= 0), and which: "mse" or "cosine" after a linear projection,
    # "cka" or "relational" without one.
    distillation.embedding_weight = 0.0
    distillation.embedding_loss = "mse"
    # When the teacher's attributes count: "none": always; "residual": where it is close to the label; "hard": there the
    # teacher, elsewhere the label; "relative": where it is closer to the label than the student; "soft": the less, the
    # farther it is. Formulas: emojax/objectives/distillation.py.
    distillation.condition = "none"
    # Share of the training labels the teacher counts as close to (0 < share < 1), and whether a linear bias of the
    # teacher is taken out before that is measured.
    distillation.quantile = 0.5
    distillation.debias = True

    config.optimizer = ConfigDict()
    # AdamW's peak learning rate (> 0).
    config.optimizer.learning_rate = 1e-3
    # The same of encoders that are trained (>= 0), and the factor from each of their layers to the one below,
    # 0 < factor <= 1; 1: all layers alike.
    config.optimizer.encoder_learning_rate = 2e-5
    config.optimizer.layer_decay = 1.0
    # "constant", or "cosine" down to 0 at the last step, after the warm-up.
    config.optimizer.schedule = "constant"
    # Steps of linear warm-up (>= 0).
    config.optimizer.warmup_steps = 100
    # Decoupled weight decay of matrices (>= 0); vectors are spared.
    config.optimizer.weight_decay = 0.0
    # Gradients are scaled down to this global norm (>= 0); 0: not clipped.
    config.optimizer.clip_norm = 1.0
    # Moving average of the parameters, which is then what predicts: weight of the past, [0, 1); 0: no average.
    config.optimizer.ema_decay = 0.0

    config.training = ConfigDict()
    # Passes over the training split (>= 1).
    config.training.epochs = 50
    # Passes between validations (>= 1). Each saves a checkpoint; the best by `evaluation.score` is kept.
    config.training.evaluate_every_epochs = 1
    # Steps between further checkpoints (>= 0); 0: none. Best and latest are kept.
    config.training.checkpoint_every_steps = 1000
    # Folder of the checkpoints, on a bucket (gs://BUCKET/FOLDER) for instance; "": WORKDIR/checkpoints.
    config.training.checkpoint_dir = ""
    # Steps between lines of metrics.jsonl (>= 1).
    config.training.log_every_steps = 10
    # Validations without a better score after which training stops (>= 0); 0: never.
    config.training.patience = 10
    # Parts each batch is computed in, one after the other, to save memory (>= 1, divides the batch size). Losses and
    # gradients stay those of the whole batch; it costs one more forward pass.
    config.training.micro_batches = 1
    # Steps traced for TensorBoard or XProf into WORKDIR/profile, from the sixth of a command on (>= 0); 0: none.
    config.training.profile_steps = 0

    config.evaluation = ConfigDict()
    # What ranks checkpoints: "ccc", the mean CCC of the rated attributes; "uar"; "auto": CCC where there are ratings.
    config.evaluation.score = "auto"
    # Utterances are predicted in windows of so many seconds (>= 0), whose predictions are averaged; 0: whole.
    config.evaluation.window_seconds = 0.0
    # Resamples of the bootstrap intervals (>= 1).
    config.evaluation.bootstrap_resamples = 1000

    config.mesh = ConfigDict()
    # Devices along each axis (>= 1); -1: the rest, for one of them. Batches are divided over `data` and `fsdp`; `fsdp`
    # also divides parameters and optimizer state; `tensor` divides attention heads and feed-forward units of encoders,
    # and every device along it computes the same rows.
    config.mesh.data = -1
    config.mesh.fsdp = 1
    config.mesh.tensor = 1
    return config


def _network() -> ConfigDict:
    """From frames of a view to its embedding: a TC-GRU, or, with 0 layers and channels, pooling alone."""
    network = ConfigDict()
    # GRU layers (>= 0), and the units of each (>= 1).
    network.gru_layers = 2
    network.gru_size = 128
    # Channels of the time convolution beside the direct path (Network B); 0 leaves it out (Network A).
    network.conv_channels = 128
    # Frames it sees; odd unless causal.
    network.conv_kernel = 3
    # True: it sees no later frame, for streaming.
    network.causal = False
    # Residual convolutions over the past, one per number, which is the distance of the conv_kernel frames it sees
    # (>= 1); their channels (>= 1). They come before the GRU layers, or stand in place of them.
    network.block_dilations = ()
    network.block_channels = 128
    # "last" valid frame (the paper's), "mean", "statistics" (mean and standard deviation), "attentive" (a mean with
    # learned weights) or "attentive_statistics".
    network.pooling = "last"
    # Units of the embedding layer (>= 1), which the heads read; its layer norm and activation ("none", "relu", "tanh").
    network.embedding_size = 128
    network.embedding_norm = False
    network.embedding_activation = "none"
    # Share of units dropped before the second and later GRU layers and before the embedding layer, [0, 1).
    network.dropout = 0.0
    return network


def _encoder_view() -> ConfigDict:
    """A view through a pre-trained encoder."""
    view = ConfigDict()
    # Folder or Hugging Face name of the checkpoint: HuBERT, wav2vec 2.0 or WavLM ("acoustic"), BERT or RoBERTa
    # ("lexical"). A copy of it is kept in the workdir.
    view.checkpoint = ""
    # Branch, tag or commit on the hub; empty: the main branch.
    view.revision = ""
    # Folder of states written by `--mode=extract` with the same checkpoint and layers; empty: computed in every step.
    view.store = ""
    # Layers by number: 0 is what enters the first layer, -1 the encoder's last states.
    view.layers = (-1,)
    # Several layers: "concatenate" them, their "mean", or a "weighted" mean with learned weights.
    view.combine = "weighted"
    # Of the encoder: "nothing" is trained, its "top" layers, or "all".
    view.train = "nothing"
    # Layers trained with "top" (>= 1).
    view.top_layers = 4
    # Whether "all" includes the convolutions before the transformer of a speech encoder.
    view.train_convolutions = False
    # Compute layers again in the backward pass instead of keeping their activations: less memory, more time.
    view.remat = False
    # One compiled layer run over stacked parameters: shorter compilation, less memory; not with "top".
    view.scan_layers = False
    view.network = _network()
    return view
