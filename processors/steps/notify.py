"""The step `notify`: the record to the topic `records`, taken back by a tombstone.

Put it last: what is published before a step that can still fail is seen by readers, and then taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from processors.errors import ConfigurationError, PipelineError, RetryLater, StepFailed
from processors.step import EffectKind, Host, Json, Step, StepCall, StepOutput, StepParams
from processors.steps.record import record_of, record_schema_of
from schemas.record import RecordSchema
from schemas.registry import RegistryCodec, RegistryNotInstalled, RegistryUnavailable, SchemaRefused

_TOPIC = "records"
_JOB_ID = "job_id"
_SINGLE_OBJECT = "application/avro;encoding=single-object"


class NotifyParams(StepParams, frozen=True):
    """Parameters of `notify`.

    `key` names the record's field that keys the topic, for example `sku`; by default the job's id does.
    A business key is for at most one job each: of two jobs with the same one the later record replaces the earlier, and
    either's compensation deletes it.
    """

    key: str = _JOB_ID


class Notify(Step):
    """Publish the record in its pipeline's own Avro schema; the compensation publishes a tombstone under its key."""

    Params: ClassVar[type[StepParams]] = NotifyParams
    params: NotifyParams
    effect = EffectKind.RECORD

    def __init__(self, name: str, params: NotifyParams, host: Host) -> None:
        super().__init__(name, params, host)
        self._registry: RegistryCodec | None = None

    @classmethod
    def check_record(cls, params: NotifyParams, schema: RecordSchema) -> None:
        """Refuse a key that is no field of the record schema; for `pipeline lint`, which knows the schema."""
        names = {column.avro_path for column in schema.columns()}
        if params.key != _JOB_ID and params.key not in names:
            raise PipelineError(
                f"key: {params.key!r} is no plain field of the record {schema.name}; use job_id, or one of "
                f"{', '.join(sorted(name for name in names if '.' not in name))}"
            )

    async def open(self) -> None:
        """Choose the wire format: Confluent's if the worker has SCRAPESAGA_SCHEMA_REGISTRY_URL."""
        url = self.host.setting("SCHEMA_REGISTRY_URL")
        if not url:
            return
        try:
            self._registry = RegistryCodec(
                url, self.host.setting("SCHEMA_REGISTRY_USER"), self.host.setting("SCHEMA_REGISTRY_PASSWORD")
            )
        except RegistryNotInstalled as error:
            raise ConfigurationError(f"SCRAPESAGA_SCHEMA_REGISTRY_URL: {error}") from error
        except ValueError as error:
            raise ConfigurationError(f"SCRAPESAGA_SCHEMA_REGISTRY_URL cannot be used: {error}") from error

    async def run(self, call: StepCall) -> StepOutput:
        """Publish the record; again with the same key if it was published before."""
        schema = record_schema_of(call)
        record = record_of(call, schema)
        key = self._key(call, schema.to_json(record))
        if key is None:
            raise StepFailed(
                f"step {call.step}: the record has no {self.params.key}, which is to be its key; make it required in "
                f"parse, or use `key: job_id`"
            )
        value = await self._encoded(schema, record)
        headers = {
            **_who(call),
            "schema-fingerprint": schema.fingerprint.hex().encode(),
            "content-type": (self._registry.content_type if self._registry else _SINGLE_OBJECT).encode(),
        }
        address = await self.host.publish(_TOPIC, key, value, headers=headers)
        return StepOutput(
            data={
                "key": key.decode(),
                "topic": address.topic,
                "partition": address.partition,
                "offset": address.offset,
                "size_bytes": address.size_bytes,
            }
        )

    async def compensate(self, call: StepCall) -> None:
        """Publish the tombstone; nothing to do if a business key was never known, as then nothing was published."""
        published = (call.output or {}).get("key")
        key = published.encode() if isinstance(published, str) else self._key(call, call.record)
        if key is not None:
            await self.host.publish(_TOPIC, key, None, headers=_who(call))

    def _key(self, call: StepCall, record: Mapping[str, Json]) -> bytes | None:
        if self.params.key == _JOB_ID:
            return call.job_id.encode()
        value = record.get(self.params.key)
        return None if value is None or value == "" else str(value).encode()

    async def _encoded(self, schema: RecordSchema, record: Mapping[str, object]) -> bytes:
        if self._registry is None:
            return schema.encode(record)
        try:
            return await self._registry.encode(schema, record)
        except RegistryUnavailable as error:
            raise RetryLater(str(error)) from error
        except SchemaRefused as error:
            raise StepFailed(f"{error}; make the record schema compatible, or change the subject's rule") from error


def _who(call: StepCall) -> dict[str, bytes]:
    return {
        "job_id": call.job_id.encode(),
        "run": str(call.run).encode(),
        "seq": str(call.seq).encode(),
        "pipeline": call.pipeline.encode(),
    }
