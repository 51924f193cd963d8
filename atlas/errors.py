"""The tree of errors: a class exists because somebody catches it.

```text
AtlasError
├── InvalidInput (ValueError)        an argument or a file is not what was asked for
│   ├── UnreadableFile               truncated, or of no known format
│   └── UnknownInterval
├── InvalidSettings                  an environment variable is misspelt or out of range
├── NotEnoughData (ValueError)       too few rows, trades or trials to say anything
├── TrainingTimeout                  a search did not end in the time that it was given
├── TrainingBusy                     as many trainings as allowed are under way
├── TooManyBadRows                   more rows break their schema than the settings allow
├── FeatureMismatch                  a model and a vector disagree about their features
├── FeatureRedefined                 stored rows are of another definition
├── StoreUnavailable                 ClickHouse, Redis or SQL does not answer
│   └── PortTaken                    somebody else listens where we should
├── StackBusy                        another stack owns this state folder
├── ViewBusy                         another run brings this view online
├── ArtifactCorrupt                  a blob's bytes are not what its name promises
├── DeploymentRefused                the move is not allowed from the present state
├── StaleGeneration                  somebody else moved first (compare-and-set)
└── Halted                           the permit is absent: nothing is published
```
"""

__all__ = [
    "ArtifactCorrupt",
    "AtlasError",
    "DeploymentRefused",
    "FeatureMismatch",
    "FeatureRedefined",
    "Halted",
    "InvalidInput",
    "InvalidSettings",
    "NotEnoughData",
    "PortTaken",
    "StackBusy",
    "StaleGeneration",
    "StoreUnavailable",
    "TooManyBadRows",
    "TrainingBusy",
    "TrainingTimeout",
    "UnknownInterval",
    "UnreadableFile",
    "ViewBusy",
]


class AtlasError(Exception):
    """The root: its message says what was expected, what was found and what to do."""


class InvalidInput(AtlasError, ValueError):
    """An argument or a file is not what was asked for."""


class UnreadableFile(InvalidInput):
    """A file is truncated, or in no format that Atlas reads."""


class UnknownInterval(InvalidInput):
    """A bar interval that Atlas keeps no tables for."""


class InvalidSettings(AtlasError):
    """An environment variable is misspelt or out of range."""


class NotEnoughData(AtlasError, ValueError):
    """There are too few rows, trades or trials to say anything."""


class TooManyBadRows(AtlasError):
    """A larger share of rows breaks its schema than the settings allow.

    `rows` were met, `bad` of them broke the schema, for `reasons` (why, how often).
    """

    def __init__(
        self,
        message: str = "",
        *,
        view: str = "",
        rows: int = 0,
        bad: int = 0,
        reasons: tuple[tuple[str, int], ...] = (),
    ) -> None:
        super().__init__(message)
        self.view, self.rows, self.bad, self.reasons = view, rows, bad, reasons


class TrainingTimeout(AtlasError):
    """A search did not end in the time that it was given."""


class TrainingBusy(AtlasError):
    """As many trainings as the settings allow are under way."""


class FeatureMismatch(AtlasError):
    """A model and a feature vector disagree about their features."""


class FeatureRedefined(AtlasError):
    """Stored feature rows differ from the function's, and no bar was corrected."""


class StoreUnavailable(AtlasError):
    """ClickHouse, Redis or the SQL database does not answer."""


class PortTaken(StoreUnavailable):
    """Another program listens on a port that the stack was given."""


class StackBusy(AtlasError):
    """Another stack owns this state folder."""


class ViewBusy(AtlasError):
    """Another run brings this view online, or took over from a run that stood still."""


class ArtifactCorrupt(AtlasError):
    """The bytes of a stored model are not those that its name promises, or cannot be decrypted."""


class DeploymentRefused(AtlasError):
    """The deployment's present stage does not allow the wanted one."""


class StaleGeneration(DeploymentRefused):
    """Another writer has moved the deployment since it was read."""


class Halted(AtlasError):
    """The permit to trade is absent."""
