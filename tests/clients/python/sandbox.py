"""What the operator of a sandbox does once: takes in two shops, agrees on terms with each, enrols a member."""

import subprocess
import uuid

from coalition.common.v1 import identifier_pb2
from coalition.member.v1 import member_pb2, member_pb2_grpc
from coalition.partner.v1 import partner_pb2, partner_pb2_grpc, terms_pb2
from till_client import call, new_request_id


def token(role, **claims):
    """Signs a token with the development key in `./coalition-data`, as only a sandbox accepts it."""
    flags = [flag for name, value in claims.items() for flag in (f"--{name}", value)]
    command = ["coalition", "token", "--role", role, *flags]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def take_in_partner(channel, name, kind):
    """Registers a partner that gives 10 points per euro, each worth a cent, and has it accept. Returns its id."""
    partners = partner_pb2_grpc.PartnerServiceStub(channel)
    operator = token("operator_maker", subject="olga")
    code = f"{name.split()[0].lower()}-{uuid.uuid4().hex[:8]}"  # unique in the network

    create = partner_pb2.CreatePartnerRequest(
        request_id=new_request_id(), code=code, display_name=name, kind=kind
    )
    partner_id = call(partners.CreatePartner, create, operator).partner.partner_id

    terms = terms_pb2.Terms(
        currency_code="EUR",
        points_per_unit="10",
        lot_lifetime_days=365,
        settle_at_redemption=terms_pb2.SettleAtRedemption(
            redemption_price_per_point="0.01", reimbursement_per_point="0.009"
        ),
    )
    propose = partner_pb2.ProposeAgreementRequest(
        request_id=new_request_id(), partner_id=partner_id, terms=terms
    )
    agreement = call(partners.ProposeAgreement, propose, operator).agreement

    accept = partner_pb2.AcceptAgreementRequest(
        request_id=new_request_id(), agreement_id=agreement.agreement_id, etag=agreement.etag
    )
    boss = token("partner_admin", partner=partner_id, subject="boss")
    call(partners.AcceptAgreement, accept, boss)
    return partner_id


def enrol(channel, card):
    """Takes in a member known by a card. Returns the member's id."""
    members = member_pb2_grpc.MemberServiceStub(channel)
    request = member_pb2.EnrollRequest(
        request_id=new_request_id(),
        identifiers=[identifier_pb2.Identifier(type=identifier_pb2.IDENTIFIER_TYPE_CARD, value=card)],
    )
    return call(members.Enroll, request, token("operator_maker", subject="olga")).member_id
