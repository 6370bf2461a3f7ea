"""What requests and answers look like; FastAPI makes the documentation page of them."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fashion.search.filters import LONGEST
from fashion.serve.errors import ApiError


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


EMPTY_IS_NONE = AfterValidator(lambda value: value or None)
"""A form's empty field is none."""

# The examples are what the documentation page fills in: nothing, which asks for nothing.
FilterText = Annotated[
    str | None,
    Field(max_length=LONGEST, description="Only these items: label = 'dress' and price < 50", examples=[""]),
    EMPTY_IS_NONE,
]


class How(Body):
    """Which of the nearest items are wanted."""

    k: int = Field(10, ge=1, description="At most so many hits.")
    filter: FilterText = None
    group_by: Annotated[str | None, EMPTY_IS_NONE] = Field(
        None, description="Only the best item of each value of this column: product_id", examples=[""]
    )
    score_threshold: float | None = Field(None, ge=-1, le=1, description="No items below this cosine.")
    fold_duplicates: bool = Field(False, description="Of nearly identical pictures only the best.")

    @field_validator("fold_duplicates", mode="before")
    @classmethod
    def _true_or_false(cls, value: Any) -> Any:
        """In a form and an address too, as the document says: no 1, yes or on."""
        if isinstance(value, bool) or str(value).lower() in ("true", "false"):
            return value
        raise PydanticCustomError("boolean", "Input should be true or false")


class Named(Body):
    """An item that its owner names."""

    external_id: str = Field(min_length=1)


class Like(How, Named):
    """How to search with it."""


class Wanted(Body):
    """One item that its owner names, or many in order of their ids."""

    external_id: str | None = Field(None, min_length=1, description="This item alone; leave the others out.")
    filter: FilterText = None
    after: int = Field(-1, ge=-1, le=2**63 - 1, description="Only items of larger ids: the last answer's `after`.")
    limit: int = Field(100, ge=1, le=1000, description="At most so many items.")


class Pictures(Body):
    """Pictures as base64: of a search they show one item."""

    images: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1, description="Picture files, base64.")

    def decoded(self) -> list[bytes]:
        return [decode(text) for text in self.images]


class SearchRequest(Pictures, How):
    pass


Columns = dict[str, str | int | float | bool | None]


class NewItem(Body):
    external_id: str = Field(min_length=1, max_length=500)
    image: str = Field(description="A picture file, base64.")
    columns: Columns = Field(default_factory=dict, max_length=100)


class NewItems(Body):
    items: list[NewItem] = Field(min_length=1)


class ChangedItem(Body):
    external_id: str = Field(min_length=1, max_length=500)
    image: str | None = Field(None, description="A new picture file, base64; without it the picture stays.")
    columns: Columns = Field(default_factory=dict, max_length=100, description="Those to set; the others stay.")

    @model_validator(mode="after")
    def _changes_something(self) -> "ChangedItem":
        if not self.columns and self.image is None:
            raise PydanticCustomError("nothing", "Give columns, an image, or both")
        return self


class ChangedItems(Body):
    items: list[ChangedItem] = Field(min_length=1, max_length=1000)


def decode(text: str) -> bytes:
    """Base64, with or without the head of a data: address.

    Raises:
        ApiError: 422, if it is none.
    """
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(422, "bad_base64", "A picture is not base64; encode the file's bytes.") from None


class ClassProbability(BaseModel):
    label: str
    probability: float


class HitBody(BaseModel):
    rank: int
    score: float
    id: int
    label: str | None
    payload: dict[str, Any]
    image_url: str


class SearchAnswer(BaseModel):
    """What was found.

    predicted: what the model takes the query for; null where the picture of an item that is asked about is gone.
    match: whether the best hit is near enough to be an answer; null where the model is not calibrated, and for an item.
    """

    hits: list[HitBody]
    predicted: ClassProbability | None
    match: bool | None
    processing_time_ms: float
    model: str
    catalog_version: int


class EmbedAnswer(BaseModel):
    embeddings: list[Annotated[list[float], "64 numbers, length 1"]]
    model: str
    processing_time_ms: float


class ClassifyAnswer(BaseModel):
    results: list[list[ClassProbability]]
    model: str
    processing_time_ms: float


Status = Literal["added", "replaced", "changed", "deleted", "unknown", "refused"]


class ItemStatus(BaseModel):
    external_id: str
    status: Status
    id: int | None = None
    message: str | None = None


class ItemsAnswer(BaseModel):
    items: list[ItemStatus]
    catalog_version: int


class ItemAnswer(BaseModel):
    id: int
    external_id: str
    label: str | None
    payload: dict[str, Any]
    image_url: str


class ItemList(BaseModel):
    """after: what to ask for next; null where these were the last."""

    items: list[ItemAnswer]
    after: int | None
    catalog_version: int


class Sample(BaseModel):
    """An item to start from."""

    id: int
    label: str | None
    image_url: str


class IndexAnswer(BaseModel):
    """The catalogue that is searched.

    labels: how many items each of the 100 most frequent has; distinct_labels: how many there are; unlabelled: how many
    items have none.  products: whether items name the product that they show (`product_id`).  samples: items spread
    over it.  max_k: the most hits that this server gives.
    unused_version: a newer one that this server could not take up, of another model for example; its log says why.
    created: when the version was written.
    """

    items: int
    version: int
    created: datetime | None
    unused_version: int | None
    index: dict[str, Any]
    recall: float | None
    model: str
    classes: list[str]
    labels: dict[str, int]
    distinct_labels: int
    unlabelled: int
    products: bool
    columns: list[str]
    samples: list[Sample]
    max_k: int
    writable: bool
    no_match: float | None
