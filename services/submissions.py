"""Read submissions: the shapes of their JSON, within the bounds of the settings."""

import functools
import time
from typing import Annotated, Any

import attrs

from services.queue.models import OnConflict, Priority, Unique
from services.webhooks.addresses import check_address
from settings import Settings, default
from tornado_rt.bounds import OutOfBounds, Validator, check_locale, name_of, number_of, read_moment
from tornado_rt.json_body import JSON_NAME, MOST_BYTES, MOST_ITEMS
from tornado_rt.work.params.faults import alternatives
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import MOST_KEPT, MOST_SECONDS

KIND_LENGTH = 64
SCOPES = ("waiting", "running")
MOST_SCOPE_SECONDS = 30 * 86400.0
# In the place of a bound that is none.
NO_LENGTH = 2**31


@attrs.frozen(kw_only=True)
class TaskBounds:
    """Bounds of one submission; 0 is none, durations are seconds, lengths characters."""

    params_bytes: int = default("task_params_bytes")
    label_length: int = default("task_label_length")
    key_length: int = default("task_key_length")
    max_tags: int = default("task_max_tags")
    tag_length: int = default("task_tag_length")
    max_delay: float = default("task_max_delay_seconds")
    max_timeout: float = default("task_max_timeout_seconds")
    max_attempts: int = default("task_max_attempts")
    max_batch: int = default("queue_max_batch")

    @classmethod
    def of(cls, settings: Settings) -> "TaskBounds":
        """Return those of the settings."""
        return cls(
            params_bytes=settings.tasks.task_params_bytes,
            label_length=settings.tasks.task_label_length,
            key_length=settings.tasks.task_key_length,
            max_tags=settings.tasks.task_max_tags,
            tag_length=settings.tasks.task_tag_length,
            max_delay=settings.tasks.task_max_delay_seconds,
            max_timeout=settings.tasks.task_max_timeout_seconds,
            max_attempts=settings.tasks.task_max_attempts,
            max_batch=settings.queue.queue_max_batch,
        )


def moment_within(most_seconds: float) -> Validator:
    """Return an attrs validator of a time at most this far from now; None passes.

    A time that is past is allowed: what it names is due.
    """

    def validate(_: Any, field: Any, value: str | None) -> None:
        if value is not None and read_moment(field.name, value) > time.time() + most_seconds:
            raise OutOfBounds(
                phrase(
                    "{name} must be at most {most} s from now",
                    name=field.name,
                    most=f"{most_seconds:.15g}",
                )
            )

    return validate


def check_callback(_: Any, __: Any, value: str | None) -> None:
    """Check a callback's address, as an attrs validator; None passes."""
    if value is not None:
        check_address("callback_url", value)


def _check_scope(_: Any, field: Any, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value not in SCOPES and not (is_number and 0 < value <= MOST_SCOPE_SECONDS):
        most = f"{MOST_SCOPE_SECONDS:.0f}"
        scopes = alternatives(f'"{scope}"' for scope in SCOPES)
        raise OutOfBounds(
            phrase(
                "{name} must be {scopes}, or seconds up to {most}",
                name=field.name,
                scopes=scopes,
                most=most,
            )
        )


def _check_items(_: Any, field: Any, value: list[Any]) -> None:
    if not value:
        raise OutOfBounds(phrase("{name} must name one or more", name=field.name))


@attrs.frozen(kw_only=True)
class UniqueRequest:
    """At most one task of a kind and user has this key, as long as `scope` says."""

    key: str
    scope: Any = attrs.field(
        default="running", validator=_check_scope, metadata={JSON_NAME: "while"}
    )
    on_conflict: OnConflict = OnConflict.RETURN

    def rule(self) -> Unique:
        """Return what the queue is asked for."""
        return Unique(key=self.key, scope=self.scope, on_conflict=self.on_conflict)


# Without slots it can be the second base of a class.
@attrs.frozen(kw_only=True, slots=False)
class Timing:
    """When a task may start: `delay` in seconds, or `run_at` in ISO 8601."""

    delay: float = 0.0
    run_at: str | None = None

    def starts_at(self) -> float:
        """Return `run_at` in seconds since the epoch; 0 without one."""
        return 0.0 if self.run_at is None else read_moment("run_at", self.run_at)


@attrs.frozen(kw_only=True)
class TaskFields:
    """The fields of a task that a submission and a schedule both name.

    Durations are seconds. The kind says what `label` and `max_attempts` are where they are None,
    and `timeout` where it is 0. `locale` is the language of messages about the task to users who
    have chosen none.
    """

    kind: str = attrs.field(validator=name_of(KIND_LENGTH))
    label: str | None = None
    params: dict[str, Any] = attrs.field(factory=dict)
    priority: Priority = Priority.NORMAL
    key: str = ""
    tags: list[str] = attrs.field(factory=list)
    timeout: float = 0.0
    max_attempts: int | None = None
    budget_seconds: float = 0.0
    callback_url: str | None = None
    notify: bool = True
    locale: str | None = attrs.field(default=None, validator=check_locale)


@attrs.frozen(kw_only=True)
class TaskRequest(TaskFields, Timing):
    """The body of `POST /api/tasks`."""

    unique: UniqueRequest | None = None

    def request(self) -> "TaskRequest":
        """Return what it asks for: itself."""
        return self


@attrs.frozen(kw_only=True)
class BatchItem:
    """One task of a batch; None, and fields of `params` that are not there: the batch's."""

    label: str | None = None
    params: dict[str, Any] = attrs.field(factory=dict)
    priority: Priority | None = None
    key: str | None = None


@attrs.frozen(kw_only=True)
class BatchRequest:
    """The body of `POST /api/batches`; `notify_each`: news of each task, not of the batch alone."""

    kind: str = attrs.field(validator=name_of(KIND_LENGTH))
    items: list[BatchItem] = attrs.field(validator=_check_items)
    params: dict[str, Any] = attrs.field(factory=dict)
    priority: Priority = Priority.NORMAL
    key: str = ""
    notify_each: bool = False
    locale: str | None = attrs.field(default=None, validator=check_locale)

    def request(self) -> "BatchRequest":
        """Return what it asks for: itself."""
        return self

    def tasks(self) -> list[TaskRequest]:
        """Return what each item asks for."""
        return [
            TaskRequest(
                kind=self.kind,
                label=item.label,
                params={**self.params, **item.params},
                priority=item.priority or self.priority,
                key=self.key if item.key is None else item.key,
                locale=self.locale,
            )
            for item in self.items
        ]


@functools.cache
def bounded_task(bounds: TaskBounds) -> type[TaskRequest]:
    """Return TaskRequest with these bounds."""
    most_delay = bounds.max_delay or MOST_SECONDS
    seconds = number_of(0, bounds.max_timeout or MOST_SECONDS)
    attempts = number_of(1, bounds.max_attempts or MOST_KEPT)
    key_name = name_of(bounds.key_length or NO_LENGTH, least=0)
    label_name = name_of(bounds.label_length or NO_LENGTH)
    tag_name = name_of(bounds.tag_length or NO_LENGTH)
    params_bound = {MOST_BYTES: bounds.params_bytes}

    @attrs.frozen(kw_only=True)
    class BoundedUnique(UniqueRequest):
        key: str = attrs.field(validator=name_of(bounds.key_length or NO_LENGTH))

    @attrs.frozen(kw_only=True)
    class BoundedTask(TaskRequest):
        label: str | None = attrs.field(default=None, validator=label_name)
        params: dict[str, Any] = attrs.field(factory=dict, metadata=params_bound)
        key: str = attrs.field(default="", validator=key_name)
        unique: BoundedUnique | None = None
        tags: list[Annotated[str, tag_name]] = attrs.field(
            factory=list, metadata={MOST_ITEMS: bounds.max_tags}
        )
        delay: float = attrs.field(default=0.0, validator=number_of(0, most_delay))
        run_at: str | None = attrs.field(default=None, validator=moment_within(most_delay))
        timeout: float = attrs.field(default=0.0, validator=seconds)
        budget_seconds: float = attrs.field(default=0.0, validator=seconds)
        callback_url: str | None = attrs.field(default=None, validator=check_callback)
        max_attempts: int | None = attrs.field(default=None, validator=_optional(attempts))

    return BoundedTask


@functools.cache
def bounded_batch(bounds: TaskBounds) -> type[BatchRequest]:
    """Return BatchRequest with these bounds."""
    key_name = name_of(bounds.key_length or NO_LENGTH, least=0)
    label_name = name_of(bounds.label_length or NO_LENGTH)
    params_bound = {MOST_BYTES: bounds.params_bytes}

    @attrs.frozen(kw_only=True)
    class BoundedItem(BatchItem):
        label: str | None = attrs.field(default=None, validator=label_name)
        params: dict[str, Any] = attrs.field(factory=dict, metadata=params_bound)
        key: str | None = attrs.field(default=None, validator=key_name)

    @attrs.frozen(kw_only=True)
    class BoundedBatch(BatchRequest):
        items: list[BoundedItem] = attrs.field(  # type: ignore[assignment]
            validator=_check_items, metadata={MOST_ITEMS: bounds.max_batch}
        )
        params: dict[str, Any] = attrs.field(factory=dict, metadata=params_bound)
        key: str = attrs.field(default="", validator=key_name)

    return BoundedBatch


def _optional(validator: Validator) -> Validator:
    def validate(instance: Any, field: Any, value: Any) -> None:
        if value is not None:
            validator(instance, field, value)

    return validate
