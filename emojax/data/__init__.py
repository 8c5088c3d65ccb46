"""Input pipeline: corpora on disk to batches on devices."""

from emojax.data.corpus import Corpus as Corpus
from emojax.data.corpus import choose_categories as choose_categories
from emojax.data.corpus import default_data_dir as default_data_dir
from emojax.data.corpus import open_corpus as open_corpus
from emojax.data.corpus import open_split as open_split
from emojax.data.corpus import split_names as split_names
from emojax.data.index import SplitIndex as SplitIndex
from emojax.data.index import read_index as read_index
from emojax.data.inputs import AUDIO as AUDIO
from emojax.data.inputs import BatchInputs as BatchInputs
from emojax.data.inputs import StoredInput as StoredInput
from emojax.data.ratings import has_rating_counts as has_rating_counts
from emojax.data.ratings import has_rating_std as has_rating_std
from emojax.data.ratings import has_votes as has_votes
from emojax.data.ratings import with_rating_table as with_rating_table
from emojax.data.speaker_folds import label_strata as label_strata
from emojax.data.speaker_folds import speaker_folds as speaker_folds
from emojax.data.speaker_splits import OTHER_SPEAKERS as OTHER_SPEAKERS
from emojax.data.speaker_splits import SPEAKERS as SPEAKERS
from emojax.data.speaker_splits import all_splits as all_splits
from emojax.data.speaker_splits import with_speaker_splits as with_speaker_splits
from emojax.data.stream import BatchStream as BatchStream
from emojax.data.stream import DataConfig as DataConfig
from emojax.data.stream import Unlabelled as Unlabelled
