"""One translator of pydantic's errors, through which a refusal passes as it is."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from longjing.errors import UserError
from longjing.validation import did_you_mean_or_known, explain_data, explain_settings


class Turn(BaseModel):
    role: str


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: int
    turns: str | list[Turn] = ""

    @field_validator("steps")
    @classmethod
    def _possible(cls, steps: int) -> int:
        if steps < 0:
            raise UserError("time runs forward")
        return steps


def refused(**settings: object) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(settings)
    return caught.value


def test_a_refusal_passes_through_a_validator_with_its_place() -> None:
    assert explain_settings(refused(steps=-1), Settings) == "setting 'steps' is -1: time runs forward"
    assert explain_data(refused(steps=-1)) == "steps: time runs forward"


def test_an_unknown_setting_comes_first_with_the_name_that_may_be_meant() -> None:
    error = refused(steps=-1, stepz=2)
    assert explain_settings(error, Settings).startswith("no setting 'stepz' (did you mean 'steps'?); the settings")
    assert explain_settings(refused(), Settings) == "the setting 'steps' is missing"


def test_of_several_forms_the_nearest_is_explained() -> None:
    assert explain_data(refused(steps=1, turns=[{"role": 3}])) == "turns.0.role: Input should be a valid string"


def test_names_that_are_near() -> None:
    assert did_you_mean_or_known("reed", ["read", "zero"]) == "; did you mean `read`?"
    assert did_you_mean_or_known("x", ["read", "zero"]) == "; known are: read, zero"
