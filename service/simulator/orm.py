"""Models with typed fields over the tables, and the methods every model of Odoo answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from service.simulator import domains, errors, fields, search

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from service.simulator.database import Database, Row, Table
    from service.simulator.options import Options
    from service.simulator.seed import Seed

Kind = Literal["record", "model"]
Operation = Literal["read", "write", "create", "unlink"]
Method = TypeVar("Method", bound="Callable[..., Any]")

SUPERUSER = 1
NEW_VERSION = 19
MANAGER = "manager"
VERBS: Mapping[Operation, str] = {
    "read": "access",
    "write": "modify",
    "create": "create",
    "unlink": "delete",
}
CREATE, UPDATE, DELETE, UNLINK, LINK, CLEAR, SET = range(7)


def record_method(method: Method) -> Method:
    """Let clients call a method whose first argument is a list of ids."""
    method.__dict__["odoo_kind"] = "record"
    return method


def model_method(method: Method) -> Method:
    """Let clients call a method that needs no record."""
    method.__dict__["odoo_kind"] = "model"
    return method


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Who calls, when the transaction began, and what they may see."""

    database: Database
    registry: Mapping[str, type[Model]]
    version: int
    user_id: int
    now: datetime
    options: Options
    seed: Seed
    snapshot: int = 0
    context: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Model:
        return self.registry[name](self)

    def __contains__(self, name: str) -> bool:
        return name in self.registry

    @property
    def user(self) -> Row:
        """The row of the calling user."""
        return self.database.tables["res.users"].rows[self.user_id]

    @property
    def unrestricted(self) -> bool:
        """Whether no rule holds for the caller."""
        return self.user_id == SUPERUSER

    def company_ids(self) -> tuple[int, ...]:
        """Return the companies of the call; refuse those that are not the user's."""
        own = tuple(self.user["company_ids"])
        asked = self.context.get("allowed_company_ids") or ()
        if not asked:
            return own
        if not self.unrestricted and not set(asked) <= set(own):
            raise errors.AccessError("Access to unauthorized or invalid companies.")
        return tuple(asked)

    @property
    def company_id(self) -> int:
        """The company in which new records are made."""
        asked = self.context.get("allowed_company_ids") or ()
        return int(asked[0]) if asked else int(self.user["company_id"])

    def overtaken(self, model: str, record_id: int, method: str) -> bool:
        """Whether another call of the method has committed while this one was computing."""
        return self.database.marked_since(model, record_id, method, self.snapshot)


@dataclass(frozen=True)
class Record:
    """One record, for business code: raw values by name, references as records."""

    model: Model
    id: int

    def __getitem__(self, name: str) -> Any:
        return self.model.value(self.id, name)

    def one(self, name: str) -> Record | None:
        """Return the record that a many2one refers to."""
        value = self[name]
        if value is None:
            return None
        return Record(self.model.env[self.model.field(name).relation or ""], value)

    def many(self, name: str) -> list[Record]:
        """Return the records of a one2many or many2many."""
        target = self.model.env[self.model.field(name).relation or ""]
        return [Record(target, other) for other in self[name] or ()]

    def update(self, **values: Any) -> None:
        """Write stored values as the server itself: no access check and no hook."""
        self.model.store(self.id, values)

    @property
    def label(self) -> str:
        """The display name."""
        return self.model.display(self.id)


def _base_fields() -> dict[str, fields.Field]:
    return {
        "id": fields.integer("ID", readonly=True),
        "display_name": fields.char(
            "Display Name", readonly=True, compute=lambda record: record.label
        ),
        "create_date": fields.moment("Created on", readonly=True, copied=False),
        "create_uid": fields.many2one(
            "res.users", "Created by", readonly=True, copied=False, indexed=False
        ),
        "write_date": fields.moment("Last Updated on", readonly=True, copied=False),
        "write_uid": fields.many2one(
            "res.users", "Last Updated by", readonly=True, copied=False, indexed=False
        ),
    }


class Model:
    """A model bound to an environment. Subclasses declare `model`, `title` and `own_fields`.

    `varied` is the field that changes when somebody just wants a change.
    """

    model: ClassVar[str]
    title: ClassVar[str]
    own_fields: ClassVar[dict[str, fields.Field]]
    order: ClassVar[str] = "id"
    varied: ClassVar[str] = "name"
    name_field: ClassVar[str] = "name"
    parent_field: ClassVar[str] = "parent_id"
    company_rule: ClassVar[bool] = False
    groups: ClassVar[Mapping[tuple[int, Operation], tuple[str, ...]]] = {}
    schema: ClassVar[dict[str, fields.Field]]

    def __init__(self, env: Environment) -> None:
        self.env = env

    def __init_subclass__(cls) -> None:
        cls.schema = {**_base_fields(), **getattr(cls, "own_fields", {})}

    # What the server's own code uses.

    @property
    def table(self) -> Table:
        """The rows of the model."""
        return self.env.database.tables[self.model]

    def field(self, name: str) -> fields.Field:
        """Return a field that exists in this version; refuse any other name."""
        definition = self.schema.get(name)
        if definition is None or self.env.version not in definition.versions:
            raise self._unknown_field(name)
        return definition

    def has(self, record_id: int) -> bool:
        """Whether the record exists."""
        return record_id in self.table.rows

    def record(self, record_id: int) -> Record:
        """Return one record."""
        return Record(self, record_id)

    def records(self, ids: Iterable[int]) -> list[Record]:
        """Return several records, refusing missing ones."""
        listed = list(ids)
        self.require(listed)
        return [Record(self, record_id) for record_id in listed]

    def require(self, ids: Iterable[int]) -> None:
        """Refuse when a record is missing."""
        for record_id in ids:
            if not self.has(record_id):
                raise errors.MissingError.of(self.model, record_id, self.env.user_id)

    def value(self, record_id: int, name: str) -> Any:
        """Return the raw value: an id, a sequence of ids, a number, a text, or None."""
        if name == "id":
            return record_id
        definition = self.field(name)
        if definition.compute is not None:
            return definition.compute(self.record(record_id))
        if definition.type == "one2many":
            return self._referring_ids(definition, record_id)
        row = self.table.rows.get(record_id)
        return None if row is None else row.get(name)

    def getter(self, name: str) -> Callable[[int], Any]:
        """Return the way to the raw value of a field, for many records."""
        definition = self.field(name)
        if name == "id" or not definition.stored:
            return lambda record_id: self.value(record_id, name)
        rows = self.table.rows
        return lambda record_id: rows[record_id].get(name)

    def _referring_ids(self, definition: fields.Field, record_id: int) -> list[int]:
        target = self.env[definition.relation or ""]
        ids = target.table.referring(definition.inverse or "", record_id)
        if "active" in target.schema and self.env.context.get("active_test", True):
            ids = [one for one in ids if target.table.rows[one].get("active")]
        return target.sorted_ids(ids, target.order, same=definition.inverse)

    def display(self, record_id: int) -> str:
        """Return the display name of a record."""
        name = self.value(record_id, self.name_field) if self.name_field in self.schema else None
        return str(name) if name is not None else f"{self.model},{record_id}"

    def store(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Write stored values and the time and user of the transaction."""
        row = {**self.table.rows[record_id], **values}
        row["write_date"], row["write_uid"] = self.env.now, self.env.user_id
        self.env.database.put(self.model, record_id, row)

    def store_quietly(self, record_id: int, values: Mapping[str, Any]) -> None:
        """Write stored values as the database itself does, which leaves no stamp."""
        row = {**self.table.rows[record_id], **values}
        self.env.database.put(self.model, record_id, row)

    def insert(self, values: Mapping[str, Any], record_id: int | None = None) -> int:
        """Insert a row of stored values with defaults, without checks; return its id."""
        new_id = self.table.take_id() if record_id is None else record_id
        stamps = {
            "create_date": self.env.now,
            "create_uid": self.env.user_id,
            "write_date": self.env.now,
            "write_uid": self.env.user_id,
        }
        self.env.database.put(self.model, new_id, {**self._defaults(values), **stamps, **values})
        return new_id

    def insert_all(self, rows: Iterable[Mapping[str, Any]]) -> list[int]:
        """Insert many rows of stored values at once; stamps may be among the values."""
        stamps = {"create_uid": self.env.user_id, "write_uid": self.env.user_id}
        moments = {"create_date": self.env.now, "write_date": self.env.now}
        common = {**self._defaults({}), **stamps, **moments}
        ids: list[int] = []
        for values in rows:
            ids.append(self.table.take_id())
            self.env.database.put(self.model, ids[-1], {**common, **values})
        return ids

    def _defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        defaults = (
            (name, definition.default_value(self.env))
            for name, definition in self._present_fields()
            if definition.stored and name not in given and name != "id"
        )
        # A row keeps what is not empty: 100,000 rows are to fit into little memory.
        return {name: value for name, value in defaults if value is not None}

    def _present_fields(self) -> Iterator[tuple[str, fields.Field]]:
        for name, definition in self.schema.items():
            if self.env.version in definition.versions:
                yield name, definition

    # Rules.

    def check_access(self, operation: Operation) -> None:
        """Refuse when the user's groups do not allow the operation on the model."""
        self.env.company_ids()
        if self.env.unrestricted or MANAGER in self.env.user["roles"]:
            return
        allowed = self.groups.get((self.env.version, operation))
        if allowed is None and operation == "read":
            return
        listed = "".join(f"\n\t- {group}" for group in allowed or ("Administration/Settings",))
        raise errors.AccessError(
            f"You are not allowed to {VERBS[operation]} '{self.title}' ({self.model}) records."
            f"\n\nThis operation is allowed for the following groups:{listed}"
            "\n\nContact your administrator to request access if necessary."
        )

    def visible(self, record_id: int) -> bool:
        """Whether the record belongs to no company or to one of the call's companies."""
        return all(test(record_id) for test in self._company_tests())

    def _company_tests(self) -> list[Callable[[int], bool]]:
        if not self.company_rule or self.env.unrestricted:
            return []
        rows, allowed = self.table.rows, {None, *self.env.company_ids()}
        return [lambda record_id: rows[record_id].get("company_id") in allowed]

    def check_rules(self, ids: Iterable[int], operation: Operation) -> None:
        """Refuse when a record belongs to a company outside the call."""
        tests = self._company_tests()
        if not all(test(record_id) for test in tests for record_id in ids):
            raise errors.AccessError(
                "Uh-oh! Looks like you have stumbled upon some top-secret records.\n\n"
                f"Sorry, {self.env.user['name']} (id={self.env.user_id}) doesn't have "
                f"'{operation}' access to:\n- {self.title} ({self.model})\n\n"
                "If you really, really need access, perhaps you can win over your friendly "
                "administrator with a batch of freshly baked cookies."
            )

    def prepare(self, values: dict[str, Any]) -> dict[str, Any]:
        """Complete the values of a new record; models override this."""
        return values

    def on_created(self, record_id: int) -> None:
        """React to a new record; models override this."""

    def on_stored(self, record_id: int, values: Mapping[str, Any]) -> None:
        """React to a write before its line commands are carried out; models override this."""

    def on_written(self, record_id: int, values: Mapping[str, Any]) -> None:
        """React to a whole write by a client; models override this."""

    def on_unlinking(self, record_id: int) -> None:
        """Refuse or prepare a deletion; models override this."""

    # What every model answers to a client.

    @model_method
    def fields_get(
        self, allfields: Sequence[str] | None = None, attributes: Sequence[str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Describe the fields."""
        return {
            name: _described(name, definition, attributes)
            for name, definition in self._present_fields()
            if not allfields or name in allfields
        }

    @model_method
    def search(
        self,
        domain: Any,
        offset: int = 0,
        limit: int | None = None,
        order: str | None = None,
    ) -> list[int]:
        """Return the ids of matching records."""
        self.check_access("read")
        end = offset + limit if limit else None
        way = (order or self.order).strip().lower().removesuffix(" asc")
        if way in {"id", "id desc"}:
            found = self.matching(domain, wanted=end, backwards=way == "id desc")
            return list(islice(found, offset, end))
        return self.sorted_ids(self.matching(domain), order or self.order)[offset:end]

    @model_method
    def search_count(self, domain: Any, limit: int | None = None) -> int:
        """Return how many records match."""
        self.check_access("read")
        found = sum(1 for _ in self.matching(domain))
        return min(found, limit) if limit else found

    @model_method
    def check_access_rights(self, operation: Operation, raise_exception: bool = True) -> bool:  # noqa: FBT001  Odoo's own signature
        """Tell, or refuse, whether the user may do the operation on the model."""
        try:
            self.check_access(operation)
        except errors.AccessError:
            if raise_exception:
                raise
            return False
        return True

    @record_method
    def has_access(self, ids: list[int], operation: Operation) -> bool:
        """Tell whether the user may do the operation on these records."""
        try:
            self.check_access(operation)
            self.check_rules(ids, operation)
        except errors.AccessError:
            return False
        return True

    @record_method
    def read(
        self,
        ids: list[int],
        fields: Sequence[str] | None = None,
        load: str | None = "_classic_read",
    ) -> list[dict[str, Any]]:
        """Return values of records; missing ids are left out."""
        self.check_access("read")
        names = list(fields or [name for name, _ in self._present_fields()])
        readers = {name: self._reader(name, load) for name in names}
        present = [record_id for record_id in ids if self.has(record_id)]
        self.check_rules(present, "read")
        return [
            {"id": record_id, **{name: read(record_id) for name, read in readers.items()}}
            for record_id in present
        ]

    @model_method
    def search_read(
        self,
        domain: Any = None,
        fields: Sequence[str] | None = None,
        offset: int = 0,
        limit: int | None = None,
        order: str | None = None,
        *,
        load: str | None = "_classic_read",
    ) -> list[dict[str, Any]]:
        """Search, then read what was found."""
        ids = self.search(domain or [], offset=offset, limit=limit, order=order)
        return self.read(ids, fields, load)

    @model_method
    def name_search(
        self, name: str = "", args: Any = None, operator: str = "ilike", limit: int = 100
    ) -> list[list[Any]]:
        """Return `[id, name]` of records whose name matches."""
        domain = [*(args or []), [self.name_field, operator, name]]
        return [[found, self.display(found)] for found in self.search(domain, limit=limit)]

    @model_method
    def create(self, vals_list: Any) -> int | list[int]:
        """Create one record or a list of records."""
        self.check_access("create")
        if isinstance(vals_list, dict):
            return self._create_one(vals_list)
        return [self._create_one(values) for values in vals_list]

    @record_method
    def write(self, ids: list[int], vals: Any) -> bool:
        """Change records."""
        self.check_access("write")
        self.require(ids)
        self.check_rules(ids, "write")
        for record_id in ids:
            self._write_one(record_id, dict(vals))
        return True

    @record_method
    def unlink(self, ids: list[int]) -> bool:
        """Delete records."""
        self.check_access("unlink")
        self.require(ids)
        self.check_rules(ids, "unlink")
        for record_id in ids:
            self.on_unlinking(record_id)
        self.remove(ids)
        return True

    @record_method
    def copy(self, ids: list[int], default: Mapping[str, Any] | None = None) -> Any:
        """Duplicate records; 17 answers the id of one, 19 a list."""
        self.require(ids)
        made = [self._copy_one(record_id, default or {}) for record_id in ids]
        return made if self.env.version >= NEW_VERSION else made[0]

    # How they do it.

    def matching(
        self, domain: Any, *, wanted: int | None = None, backwards: bool = False
    ) -> Iterator[int]:
        """Return the ids that match a domain and the user may see, in order of id.

        `wanted` is how many of them will be taken at most, when that is known.
        """
        tree = domains.parse(self, domain)
        whole = domains.Both((tree, *self.implied(tree)))
        test = domains.all_of([*self._company_tests(), whole.test(self)])
        looked_at = search.candidates(self, whole, wanted=wanted, backwards=backwards)
        return filter(test, looked_at)

    def implied(self, tree: domains.Node) -> list[domains.Node]:
        """Return what a search asks besides its domain: archived records are hidden."""
        if "active" not in self.schema or not self.env.context.get("active_test", True):
            return []
        return [] if domains.mentions(tree, "active") else [domains.Leaf("active", "=", True)]  # noqa: FBT003 - a triple

    def sorted_ids(self, ids: Iterable[int], order: str, same: str | None = None) -> list[int]:
        """Sort by `field [asc|desc], …`; empty values last, or first when descending.

        `same` is a field in which the records do not differ.
        """
        result = list(ids)
        for name, descending in reversed(_order_parts(order)):
            definition = self.field_for_order(name)
            if name != same and len(result) > 1:
                result.sort(key=self._sort_key(name, definition), reverse=descending)
        return result

    def field_for_order(self, name: str) -> fields.Field:
        """Return the field to sort by; both versions word the refusal alike."""
        if name not in self.schema:
            raise errors.value_error(f"Invalid field {name!r} on model {self.model!r}")
        return self.schema[name]

    def _sort_key(self, name: str, definition: fields.Field) -> Callable[[int], Any]:
        value_of = self.getter(name)
        label = self._labels(definition) if definition.type == "many2one" else None

        def key(record_id: int) -> tuple[bool, Any]:
            value = value_of(record_id)
            if value is None:
                return (True, 0)
            return (False, label(value) if label else value)

        return key

    def _labels(self, definition: fields.Field) -> Callable[[int], str]:
        """Return display names of what a field refers to, each made once."""
        target = self.env[definition.relation or ""]
        known: dict[int, str] = {}

        def label(other: int) -> str:
            if other not in known:
                known[other] = target.display(other)
            return known[other]

        return label

    def _reader(self, name: str, load: str | None) -> Callable[[int], Any]:
        """Return the way to what a client reads of a field, for many records."""
        definition, value_of = self.field(name), self.getter(name)
        if definition.type == "many2one":
            return self._references(definition, value_of, load)
        if definition.type in fields.TO_MANY:
            return lambda record_id: self._listed(definition, value_of(record_id))
        if definition.type == "binary" and self.env.context.get("bin_size"):
            return lambda record_id: fields.human_size(value_of(record_id))
        return lambda record_id: fields.wire_value(definition, value_of(record_id))

    def _listed(self, definition: fields.Field, value: Any) -> list[int]:
        target = self.env[definition.relation or ""]
        tests = target._company_tests()  # noqa: SLF001 - another model, same class
        known = [
            other
            for other in value or ()
            if target.has(other) and all(test(other) for test in tests)
        ]
        # The records that refer to this one come sorted.
        return known if definition.type == "one2many" else target.sorted_ids(known, target.order)

    def _references(
        self, definition: fields.Field, value_of: Callable[[int], Any], load: str | None
    ) -> Callable[[int], Any]:
        label = self._labels(definition)

        def reference(record_id: int) -> Any:
            value = value_of(record_id)
            if value is None:
                return False
            return [value, label(value)] if load == "_classic_read" else value

        return reference

    def _create_one(self, values: Mapping[str, Any]) -> int:
        for name in values:
            if name not in self.schema or self.env.version not in self.schema[name].versions:
                raise self._unknown_field(name, "create")
        completed = self.prepare(dict(values))
        scalars, commands = self._split(completed)
        record = {**self._defaults(scalars), **scalars}
        self._check_required(record)
        new_id = self.insert(scalars)
        self._apply_commands(new_id, commands)
        self.on_created(new_id)
        return new_id

    def _write_one(self, record_id: int, values: dict[str, Any]) -> None:
        for name in values:
            if name not in self.schema or self.env.version not in self.schema[name].versions:
                raise self._unknown_field(name, "write")
        scalars, commands = self._split(values)
        self._check_required({**self.table.rows[record_id], **scalars})
        self.store(record_id, scalars)
        self.on_stored(record_id, values)
        self._apply_commands(record_id, commands)
        self.on_written(record_id, values)

    def _split(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        scalars: dict[str, Any] = {}
        commands: dict[str, Any] = {}
        for name, value in values.items():
            definition = self.field(name)
            if definition.type in fields.TO_MANY:
                commands[name] = value or []
            elif definition.stored and name != "id":
                scalars[name] = fields.stored_value(self.model, name, definition, value)
                self._check_reference(name, definition, scalars[name])
        return scalars, commands

    def _check_reference(self, name: str, definition: fields.Field, value: Any) -> None:
        if definition.type != "many2one" or value is None:
            return
        target = self.env[definition.relation or ""]
        if target.has(value):
            return
        if self.env.version >= NEW_VERSION:
            raise errors.MissingError.of(target.model, value, self.env.user_id)
        raise self._foreign_key(name)

    def _foreign_key(self, name: str) -> errors.ValidationError:
        constraint = f"{self.model.replace('.', '_')}_{name}_fkey"
        return errors.ValidationError(
            "The operation cannot be completed: another model requires the record being deleted. "
            f"If possible, archive it instead.\n\nModel: {self.title} ({self.model})"
            f"\nConstraint: {constraint}\n"
        )

    def _check_required(self, record: Mapping[str, Any]) -> None:
        for name, definition in self._present_fields():
            if definition.required and definition.stored and record.get(name) is None:
                raise self._mandatory(name, fields.label_of(name, definition))

    def _mandatory(self, name: str, label: str) -> errors.ValidationError:
        if self.env.version >= NEW_VERSION:
            return errors.ValidationError(
                "The operation cannot be completed: Missing required value for the field "
                f"'{label}' ({name}).\nModel: '{self.title}' ({self.model})"
                "\n- create/update: a mandatory field is not set"
                "\n- delete: another model requires the record being deleted, "
                "you can archive it instead\n"
            )
        return errors.ValidationError(
            "The operation cannot be completed:"
            "\n- Create/update: a mandatory field is not set."
            "\n- Delete: another model requires the record being deleted. "
            f"If possible, archive it instead.\n\nModel: {self.title} ({self.model})"
            f"\nField: {label} ({name})\n"
        )

    def _apply_commands(self, record_id: int, commands: Mapping[str, Any]) -> None:
        for name, listed in commands.items():
            definition = self.field(name)
            for command in listed:
                if definition.type == "one2many":
                    self._change_line(record_id, definition, command)
                else:
                    self._change_links(record_id, name, definition, command)

    def _change_line(self, record_id: int, definition: fields.Field, command: Any) -> None:
        lines = self.env[definition.relation or ""]
        inverse = definition.inverse or ""
        code, target, payload = _unpacked(command)
        if code == CREATE:
            lines.create({**payload, inverse: record_id})
        elif code == UPDATE:
            lines.write([target], payload)
        elif code == LINK:
            lines.write([target], {inverse: record_id})
        elif code in {DELETE, UNLINK}:
            lines.unlink([target])
        else:
            kept = set(payload if code == SET and payload else ())
            lines.unlink(
                [one for one in self._referring_ids(definition, record_id) if one not in kept]
            )

    def _change_links(
        self, record_id: int, name: str, definition: fields.Field, command: Any
    ) -> None:
        linked = self.env[definition.relation or ""]
        code, target, payload = _unpacked(command)
        present: tuple[int, ...] = self.value(record_id, name) or ()
        if code == CREATE:
            created = linked.create(payload)
            present = (*present, *(created if isinstance(created, list) else [created]))
        elif code == UPDATE:
            linked.write([target], payload)
        elif code in {DELETE, UNLINK}:
            present = tuple(other for other in present if other != target)
            if code == DELETE:
                linked.unlink([target])
        elif code == LINK:
            linked.require([target])
            present = (*(other for other in present if other != target), target)
        else:
            present = tuple(payload) if code == SET and payload else ()
            linked.require(present)
        self.store(record_id, {name: present})

    def remove(self, ids: Iterable[int]) -> None:
        """Delete rows, and do to the rows that refer to them what the database does."""
        gone = list(dict.fromkeys(ids))
        for other, name, definition in self._referring_fields():
            holders = {one for record_id in gone for one in other.table.referring(name, record_id)}
            if not holders:
                continue
            match definition.on_deletion:
                case "restrict":
                    raise other._foreign_key(name)  # noqa: SLF001 - another model, same class
                case "cascade":
                    other.remove(sorted(holders))
                case "set null":
                    for one in holders:
                        other.store_quietly(one, {name: None})
        for record_id in gone:
            self.env.database.delete(self.model, record_id)

    def _referring_fields(self) -> list[tuple[Model, str, fields.Field]]:
        return [
            (model(self.env), name, definition)
            for model in self.env.registry.values()
            for name, definition in model.schema.items()
            if definition.relation == self.model and definition.indexed and definition.stored
        ]

    def _copy_one(self, record_id: int, default: Mapping[str, Any]) -> int:
        row = self.table.rows[record_id]
        values = {
            name: row.get(name)
            for name, definition in self._present_fields()
            if definition.stored and definition.copied and name != "id"
        }
        if values.get("name") and self.name_field == "name":
            values["name"] = f"{values['name']} (copy)"
        scalars, _ = self._split(default)
        new_id = self.insert({**values, **scalars})
        self.on_created(new_id)
        return new_id

    def _unknown_field(self, name: str, operation: Operation = "read") -> errors.ServerError:
        if self.env.version < NEW_VERSION:
            return errors.value_error(f"Invalid field {name!r} on model {self.model!r}")
        if operation == "write":
            return errors.PythonError("KeyError", name)
        word = "in" if operation == "create" else "on"
        return errors.value_error(f"Invalid field {name!r} {word} {self.model!r}")


def _unpacked(command: Any) -> tuple[int, int, Any]:
    if isinstance(command, int):
        return LINK, command, None
    padded = [*command, 0, None]
    code = int(padded[0])
    payload = command[2] if len(command) > 2 else None  # noqa: PLR2004 - code, id, values
    return code, int(padded[1] or 0), payload


@lru_cache(maxsize=256)
def _order_parts(order: str) -> list[tuple[str, bool]]:
    """Return the fields of an order, and whether each is descending."""
    parts = (part.strip().partition(" ") for part in order.split(","))
    return [(name, word.strip().lower().startswith("desc")) for name, _, word in parts]


def _described(
    name: str, definition: fields.Field, attributes: Sequence[str] | None
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": definition.type,
        "string": fields.label_of(name, definition),
        "required": definition.required,
        "readonly": definition.readonly or definition.compute is not None,
        "store": definition.stored or definition.type == "one2many",
        "searchable": definition.searchable,
        "name": name,
    }
    if definition.relation is not None:
        described["relation"] = definition.relation
    if definition.inverse is not None:
        described["relation_field"] = definition.inverse
    if definition.type == "selection":
        described["selection"] = [list(choice) for choice in definition.selection]
    return {key: described[key] for key in described if not attributes or key in attributes}


def index_fields(model: type[Model]) -> frozenset[str]:
    """Return the names of the fields that the model's table keeps an index of."""
    return frozenset(
        name
        for name, definition in model.schema.items()
        if definition.indexed and definition.stored
    )
