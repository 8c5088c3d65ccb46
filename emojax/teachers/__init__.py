"""Teachers of distillation: trained models or their cached outputs, averaged, calibrated on training data."""

from emojax.teachers.calibration import calibrate as calibrate
from emojax.teachers.ensemble import Ensemble as Ensemble
from emojax.teachers.ensemble import load_ensemble as load_ensemble
from emojax.teachers.hidden_states import frame_shift as frame_shift
from emojax.teachers.stores import TeacherSplit as TeacherSplit
from emojax.teachers.teacher import Teacher as Teacher
from emojax.teachers.teacher import TeacherArrays as TeacherArrays
from emojax.teachers.teacher import TeacherFunction as TeacherFunction
from emojax.teachers.teacher import load_teacher as load_teacher
