"""Tests of trained models: correctness, fairness, robustness, with a threshold per value (docs/model_tests.md)."""

from emojax.model_tests.catalogue import CATALOGUE as CATALOGUE
from emojax.model_tests.config import ModelTestsConfig as ModelTestsConfig
from emojax.model_tests.config import parse_model_tests as parse_model_tests
from emojax.model_tests.measurement import Measurement as Measurement
from emojax.model_tests.model import Clip as Clip
from emojax.model_tests.model import Model as Model
from emojax.model_tests.model import Outputs as Outputs
from emojax.model_tests.run import run_model_tests as run_model_tests
from emojax.model_tests.run import run_workdir_tests as run_workdir_tests
from emojax.model_tests.utterances import Utterances as Utterances
