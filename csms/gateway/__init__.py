"""The only OCPP: frames, schemas, links and one adapter per protocol version."""
