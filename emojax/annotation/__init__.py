"""Annotation of recordings: segments of speech with speaker, transcript and emotion, and a track over time."""

from emojax.annotation.annotation import Annotation as Annotation
from emojax.annotation.annotation import Segment as Segment
from emojax.annotation.annotation import Track as Track
from emojax.annotation.annotation import read_annotation as read_annotation
from emojax.annotation.config import AnnotateConfig as AnnotateConfig
from emojax.annotation.config import parse_annotation as parse_annotation
from emojax.annotation.run import annotate_files as annotate_files
