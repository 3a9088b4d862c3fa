"""Files: attachments of their own, and those in which the server keeps files of other records."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

from service.simulator import domains, fields
from service.simulator.orm import Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ATTACHMENT = "ir.attachment"
# What a file begins with, and what it is then.
KINDS = ((b"%PDF", "application/pdf"), (b"<", "application/xml"))


class Attachment(Model):
    """Files. A search shows those of fields only when it asks for `res_field` or for ids."""

    model = ATTACHMENT
    title = "Attachment"
    order = "id desc"
    company_rule = True
    own_fields: ClassVar[dict[str, fields.Field]] = {
        "name": fields.char("Name", required=True),
        "type": fields.selection("Type", ("url", "URL"), ("binary", "File"), default="binary"),
        "url": fields.char("Url"),
        "public": fields.boolean("Is public document"),
        "company_id": fields.many2one("res.company", "Company"),
        "res_model": fields.char("Resource Model"),
        "res_field": fields.char("Resource Field"),
        "res_id": fields.integer("Resource ID", indexed=True),
        "datas": fields.binary("File Content (base64)"),
        "file_size": fields.integer("File Size", readonly=True, default=0),
        "checksum": fields.char("Checksum/SHA1", readonly=True),
        "mimetype": fields.char("Mime Type", readonly=True),
    }

    def implied(self, tree: domains.Node) -> list[domains.Node]:
        """Hide what belongs to fields of other records."""
        hidden = super().implied(tree)
        asked = any(domains.mentions(tree, name) for name in ("id", "res_field"))
        return hidden if asked else [*hidden, domains.Leaf("res_field", "=", False)]  # noqa: FBT003 - a triple

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Describe the file."""
        return {**values, **described(values.get("datas"))}

    def on_stored(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Describe the new file."""
        if "datas" in values:
            self.store(record_id, described(values["datas"]))


def described(encoded: str | None) -> dict[str, Any]:
    """Return size, checksum and kind of a file in base64."""
    content = base64.b64decode(encoded or "")
    kinds = (kind for beginning, kind in KINDS if content.startswith(beginning))
    return {
        "file_size": len(content),
        "checksum": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        "mimetype": next(kinds, "application/octet-stream"),
    }


def keep(model: Model, record_id: int, values: Mapping[str, Any]) -> None:
    """Keep the files among written values as attachments, one for each field that has a file."""
    attachments = model.env[ATTACHMENT]
    for name, encoded in values.items():
        if model.schema.get(name, fields.char()).type != "binary":
            continue
        present = [one for one in of_record(model, record_id) if _field(attachments, one) == name]
        if not encoded:
            attachments.remove(present)
        elif present:
            attachments.store(present[0], {"datas": encoded, **described(encoded)})
        else:
            home = {"res_model": model.model, "res_field": name, "res_id": record_id}
            company = model.value(record_id, "company_id") if "company_id" in model.schema else None
            file = {"name": name, "datas": encoded, **described(encoded)}
            attachments.insert({**home, **file, "company_id": company})


def _field(attachments: Model, attachment_id: int) -> Any:
    return attachments.value(attachment_id, "res_field")


def of_record(model: Model, record_id: int) -> list[int]:
    """Return the attachments of a record, those of its fields included."""
    attachments = model.env[ATTACHMENT]
    ids = attachments.table.referring("res_id", record_id)
    return [one for one in ids if attachments.value(one, "res_model") == model.model]


def forget(model: Model, ids: Iterable[int]) -> None:
    """Delete the attachments of records."""
    gone = [one for record_id in ids for one in of_record(model, record_id)]
    if gone:
        model.env[ATTACHMENT].remove(gone)


MODELS: tuple[type[Model], ...] = (Attachment,)
