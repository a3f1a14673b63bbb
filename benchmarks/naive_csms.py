"""The baseline of the benchmark: the central system one writes first.

The `ocpp` package as it comes, websockets, and one SQLAlchemy session with one commit per message;
SQLite in WAL mode with synchronous=FULL, so that an answer is sent after its record is on disk. Per
transaction message it stores the event, each sampled value and the transaction's new state, which
is what TASCO stores. It is a fixture: nothing here is tuned, on purpose.
"""

import argparse
import json
from datetime import UTC, datetime
from typing import Any

import uvloop
from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call_result as result16
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call_result as result201
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


class Base(DeclarativeBase):
    pass


class Transaction(Base):
    __tablename__ = "transaction"
    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[str] = mapped_column(index=True)
    name: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    seq_no: Mapped[int] = mapped_column(default=0)
    energy_wh: Mapped[float] = mapped_column(default=0.0)
    updated_at: Mapped[datetime]


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    station_id: Mapped[str] = mapped_column(index=True)
    transaction_id: Mapped[int | None] = mapped_column(ForeignKey("transaction.id"))
    action: Mapped[str]
    body: Mapped[str]
    received_at: Mapped[datetime]
    samples: Mapped[list["Sample"]] = relationship()


class Sample(Base):
    __tablename__ = "sample"
    id: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("event.id"), index=True)
    taken_at: Mapped[str]
    measurand: Mapped[str]
    value: Mapped[float]
    unit: Mapped[str]


def connect(path: str) -> Any:
    """Return the engine of the SQLite file `path`, its tables made."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def _durable(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    Base.metadata.create_all(engine)
    return engine


def store(engine: Any, station_id: str, action: str, body: dict[str, Any], name: str = "") -> int:
    """Store one message in one transaction; return the charging transaction's number."""
    values = body.get("meter_value", [])
    with Session(engine) as session:
        row = None
        if name:
            ours = Transaction.id == int(name) if name.isdigit() else Transaction.name == name
            row = session.scalars(select(Transaction).where(ours)).one_or_none()
        if row is None and (name or action == "StartTransaction"):
            row = Transaction(station_id=station_id, name=name, state="", updated_at=_now())
            session.add(row)
        record = Event(
            station_id=station_id, action=action, body=json.dumps(body), received_at=_now()
        )
        record.samples = [
            Sample(
                taken_at=value["timestamp"],
                measurand=sample["measurand"],
                value=float(sample["value"]),
                unit=sample.get("unit") or sample["unit_of_measure"]["unit"],
            )
            for value in values
            for sample in value["sampled_value"]
        ]
        session.add(record)
        if row is not None:
            row.state, row.seq_no = body.get("event_type", action), body.get("seq_no", 0)
            row.updated_at = _now()
            for sample in record.samples:
                if sample.measurand == "Energy.Active.Import.Register":
                    row.energy_wh = sample.value
            session.flush()
            record.transaction_id = row.id
        session.commit()
        return row.id if row is not None else 0


def _now() -> datetime:
    return datetime.now(UTC)


class Common:
    """What both versions answer alike."""

    engine: Any = None
    result: Any = None
    id: str

    @on("BootNotification")
    def on_boot(self, **body: Any) -> Any:
        store(self.engine, self.id, "BootNotification", body)
        return self.result.BootNotification(_now().isoformat(), 300, "Accepted")

    @on("StatusNotification")
    def on_status(self, **body: Any) -> Any:
        store(self.engine, self.id, "StatusNotification", body)
        return self.result.StatusNotification()


class Station16(Common, ChargePoint16):
    result = result16

    @on("StartTransaction")
    def on_start(self, **body: Any) -> Any:
        number = store(self.engine, self.id, "StartTransaction", body)
        return result16.StartTransaction(number, {"status": "Accepted"})

    @on("MeterValues")
    def on_meter(self, **body: Any) -> Any:
        store(self.engine, self.id, "MeterValues", body, str(body["transaction_id"]))
        return result16.MeterValues()

    @on("StopTransaction")
    def on_stop(self, **body: Any) -> Any:
        store(self.engine, self.id, "StopTransaction", body, str(body["transaction_id"]))
        return result16.StopTransaction()


class Station201(Common, ChargePoint201):
    result = result201

    @on("TransactionEvent")
    def on_transaction(self, **body: Any) -> Any:
        name = body["transaction_info"]["transaction_id"]
        store(self.engine, self.id, "TransactionEvent", body, name)
        return result201.TransactionEvent()


async def main(port: int, path: str) -> None:
    """Serve until the process is ended."""
    Common.engine = connect(path)

    async def station(connection: ServerConnection) -> None:
        assert connection.request is not None
        kind = Station16 if connection.subprotocol == "ocpp1.6" else Station201
        try:
            await kind(connection.request.path.rsplit("/", 1)[1], connection).start()
        except ConnectionClosed:
            pass

    async with serve(station, "127.0.0.1", port, subprotocols=["ocpp1.6", "ocpp2.0.1"]) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("path", help="the SQLite file")
    arguments = parser.parse_args()
    uvloop.run(main(arguments.port, arguments.path))
