"""What ClickHouse's errors mean for a step: whose fault, whether to try again, whether something may have happened."""

from __future__ import annotations

import aiohttp
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from processors.errors import RetryLater, StepError, StepFailed

#: What the driver raises for the server and the network; anything else comes from a value that it cannot serialise.
DRIVER_ERRORS = (ClickHouseError, aiohttp.ClientError, TimeoutError)

# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_BAD_DATA = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        43,  # ILLEGAL_TYPE_OF_ARGUMENT
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        153,  # ILLEGAL_DIVISION
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        376,  # CANNOT_PARSE_UUID
        395,  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
        407,  # DECIMAL_OVERFLOW
        467,  # CANNOT_PARSE_BOOL
        469,  # VIOLATED_CONSTRAINT
        691,  # UNKNOWN_ELEMENT_OF_ENUM
    }
)
# Nothing that a smaller batch could cure: to halve it would multiply the load on a server in trouble.
_WHOLE_SERVER = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        81,  # UNKNOWN_DATABASE
        115,  # UNKNOWN_SETTING
        159,  # TIMEOUT_EXCEEDED
        164,  # READONLY
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        285,  # TOO_FEW_LIVE_REPLICAS
        286,  # UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        439,  # CANNOT_SCHEDULE_TASK
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
        999,  # KEEPER_EXCEPTION
    }
)
_TABLE_CHANGED = frozenset(
    {
        8,  # THERE_IS_NO_COLUMN
        16,  # NO_SUCH_COLUMN_IN_TABLE
        47,  # UNKNOWN_IDENTIFIER
        60,  # UNKNOWN_TABLE
    }
)


def explained(error: Exception, doing: str, *, effect_unknown: bool) -> StepError:
    """The error as a step may say it. `doing` names the server too; `effect_unknown` if the request may have worked."""
    if not isinstance(error, DRIVER_ERRORS):
        return StepFailed(f"a value does not fit its column, {doing}: {type(error).__name__}: {error}")
    if isinstance(error.__cause__, aiohttp.ClientConnectorError):
        return RetryLater(
            f"ClickHouse does not answer at {doing}; check that it runs, and SCRAPESAGA_CLICKHOUSE_URL: {error}"
        )
    if _code(error) in _BAD_DATA:
        # A materialized view may refuse a row that the table itself has already taken.
        return StepFailed(f"ClickHouse refuses the row at {doing}: {error}", effect_unknown=effect_unknown)
    return RetryLater(f"ClickHouse at {doing}: {error}", effect_unknown=effect_unknown)


def table_changed(error: Exception) -> bool:
    """Whether the table is not what it was when it was last looked at."""
    return _code(error) in _TABLE_CHANGED


def may_be_one_row(error: Exception) -> bool:
    """Whether an error that was explained may come from single rows of the batch, so that halving it helps."""
    if isinstance(error, StepFailed):
        return True
    code = _code(error.__cause__)
    # An error that we don't know may well be a row's: halving keeps it from failing its neighbours for ever.
    return code is not None and code not in _WHOLE_SERVER and code not in _TABLE_CHANGED


def _code(error: BaseException | None) -> int | None:
    return error.code if isinstance(error, ClickHouseError) else None
