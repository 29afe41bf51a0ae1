"""What a till needs to call a coalition network: a channel, a call with a deadline, and the reason of a decline.

Copy this file. It needs grpcio, grpcio-status and the classes generated from `proto/`.
"""

import pathlib
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from coalition.earn.v1 import earn_pb2_grpc
from coalition.redeem.v1 import redeem_pb2_grpc

# A guest is waiting: no call of a till may take longer.
DEADLINE_SECONDS = 5

# Published beside the protos: what the library may retry by itself, namely UNAVAILABLE and nothing else.
SERVICE_CONFIG = pathlib.Path(__file__).parents[3] / "proto" / "service_config.json"


def open_channel(endpoint):
    """Opens a channel to a gateway without TLS, as a sandbox on this machine has it."""
    options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
    return grpc.insecure_channel(endpoint, options=options)


def new_request_id():
    """Names a write. Keep it with the check: a retry must carry the same one."""
    return str(uuid.uuid4())


class Declined(Exception):
    """A call that did not do what it was asked, and what the network says about it."""

    def __init__(self, error):
        self.code = error.code().name
        self.text = error.details()  # for the log of the developer
        self.reason = ""  # for the program: `coalition.common.v1.ErrorReason`
        self.metadata = {}  # figures that go with the reason
        self.cashier_sees = ""  # for the screen
        self.violations = []  # of an INVALID_ARGUMENT: (field, what is wrong with it)
        # A `google.rpc.Status`, from the trailer `grpc-status-details-bin`. Absent where the library
        # itself gave up: no connection, or the deadline passed here.
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Is(error_details_pb2.LocalizedMessage.DESCRIPTOR):
                self.cashier_sees = error_details_pb2.LocalizedMessage.FromString(detail.value).message
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                self.violations = [(v.field, v.description) for v in bad.field_violations]
        super().__init__(f"{self.code} {self.reason}: {self.text}")


def call(method, request, token, seconds=DEADLINE_SECONDS):
    """Calls one method with a deadline, and turns its error into `Declined`."""
    try:
        return method(request, metadata=[("authorization", f"Bearer {token}")], timeout=seconds)
    except grpc.RpcError as error:
        raise Declined(error) from None


class Till:
    """One till of one partner. The partner comes from the token."""

    def __init__(self, channel, token):
        self.token = token
        self.earn = earn_pb2_grpc.EarnServiceStub(channel)
        self.redeem = redeem_pb2_grpc.RedeemServiceStub(channel)

    def call(self, method, request, seconds=DEADLINE_SECONDS):
        """Calls one method as this till."""
        return call(method, request, self.token, seconds)
