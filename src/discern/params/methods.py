"""Every method that can be described, told apart by `kind`: what stands in `methods/NAME.yaml`."""

from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter
from pydantic.fields import FieldInfo

from discern.params.floors import Floor
from discern.params.labelled import Labelled
from discern.params.model import MethodModel
from discern.params.pretext import Pretext
from discern.params.two_view import TwoView

Method = Annotated[TwoView | Pretext | Labelled | Floor, Field(discriminator="kind")]

METHOD: TypeAdapter[Method] = TypeAdapter(Method)
TWO_VIEW: TypeAdapter[TwoView] = TypeAdapter(TwoView)


def kinds(union: Any = Method) -> dict[str, type[MethodModel]]:
    """The models of a union (all methods, or TwoView, Pretext, Labelled or Floor) by their `kind`, sorted."""
    found: dict[str, type[MethodModel]] = {}
    waiting = [union]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, type) and issubclass(entry, MethodModel):
            found |= dict.fromkeys(get_args(entry.model_fields["kind"].annotation), entry)
        elif not isinstance(entry, FieldInfo):
            waiting += get_args(entry)
    return dict(sorted(found.items()))
