"""A day at two tills: a member earns at the bistro and spends at the salon, and things go wrong as they do.

Run it beside a sandbox (`coalition up`), in the same folder, with `coalition` on the path; see README.md of `proto/`.
Prints what happens; exits 1 if a figure is not what the arithmetic says.
"""

import random
import sys

import sandbox
from lossy_wire import LossyWire
from till_client import Declined, Till, new_request_id, open_channel

from coalition.common.v1 import identifier_pb2, money_pb2, pos_pb2
from coalition.earn.v1 import earn_pb2
from coalition.partner.v1 import partner_pb2
from coalition.redeem.v1 import redeem_pb2

wrong = []


def expect(what, got, want):
    """Notes a figure that is not what it should be."""
    if got != want:
        wrong.append(f"{what}: {got!r}, not {want!r}")
        print(f"     WRONG  {wrong[-1]}")


def euros(cents):
    """An amount of money on the wire: whole cents."""
    return money_pb2.Money(currency_code="EUR", amount=cents)


def shown(money):
    """An amount of money for people."""
    return f"{money.amount / 100:.2f} {money.currency_code}"


def title(number, text):
    """Begins a step of the transcript."""
    print(f"\n{number:>2}  {text}")


def receipt(lines):
    """Prints what a till prints."""
    for line in lines:
        expect(f"length of {line!r}", len(line) <= 40, True)
        print(f"     | {line:<40} |")


def declined(till, method, request, reason):
    """Calls what must be declined, and shows the three things a decline says: to program, screen and log."""
    try:
        till.call(method, request)
    except Declined as decline:
        expect("reason", decline.reason, reason)
        print(f"     program  {decline.code} {decline.reason}")
        for key, value in sorted(decline.metadata.items()):
            print(f"              {key} = {value}")
        print(f"     cashier  {decline.cashier_sees}")
        print(f"     log      {decline.text}")
        for field, description in decline.violations:
            print(f"     field    {field}: {description}")
        return decline
    expect(reason, "no error", "declined")
    sys.exit(1)


def main():
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7400"
    channel = open_channel(endpoint)

    print("Two shops, one member")
    card = "4007 %04d %04d" % (random.randrange(10000), random.randrange(10000))
    guest = identifier_pb2.Identifier(type=identifier_pb2.IDENTIFIER_TYPE_CARD, value=card)
    bistro_id = sandbox.take_in_partner(channel, "Bistro Blum", partner_pb2.PARTNER_KIND_RESTAURANT)
    salon_id = sandbox.take_in_partner(channel, "Salon Safran", partner_pb2.PARTNER_KIND_SALON)
    member_id = sandbox.enrol(channel, card)
    print(f"     {bistro_id}\n     {salon_id}\n     {member_id} with card {card}")
    bistro = Till(channel, sandbox.token("pos", partner=bistro_id))
    salon = Till(channel, sandbox.token("pos", partner=salon_id))

    title(1, "Dinner at the bistro, 84.50 EUR, earns 10 points per euro")
    earned = bistro.call(
        bistro.earn.Earn,
        earn_pb2.EarnRequest(
            request_id=new_request_id(),
            identifier=guest,
            context=pos_pb2.PosContext(check_id="B-1001", terminal="till-1"),
            amounts=earn_pb2.CheckAmounts(gross=euros(8450)),
        ),
    )
    receipt(earned.receipt_lines)
    expect("points earned", earned.points_earned, 845)
    expect("balance", earned.balance.balance, 845)
    expect("issuer", [lot.issuer for lot in earned.lots], [bistro_id])

    title(2, "At the salon, 40.00 EUR are due: how much may points pay?")
    quote = salon.call(salon.redeem.Quote, redeem_pb2.QuoteRequest(identifier=guest, amount_due=euros(4000)))
    print(f"     {quote.points} points pay {shown(quote.value)}")
    expect("points", quote.points, 845)
    expect("value", quote.value, euros(845))

    title(3, "The guest spends 500")
    redeem = redeem_pb2.RedeemRequest(
        request_id=new_request_id(),
        identifier=guest,
        points=500,
        context=pos_pb2.PosContext(check_id="S-77", terminal="chair-2"),
    )
    spent = salon.call(salon.redeem.Redeem, redeem)
    receipt(spent.receipt_lines)
    expect("value", spent.value, euros(500))
    expect("balance", spent.balance.balance, 345)
    expect("replayed", spent.replayed, False)

    title(4, "The till asks again, with the same request_id: the same answer")
    again = salon.call(salon.redeem.Redeem, redeem)
    print(f"     replayed: {again.replayed}; {again.transaction_id}")
    expect("replayed", again.replayed, True)
    again.replayed = False
    expect("the answer", again, spent)

    title(5, "The rest of the check, 35.00 EUR in money, earns at the salon")
    earned_at_salon = salon.call(
        salon.earn.Earn,
        earn_pb2.EarnRequest(
            request_id=new_request_id(),
            identifier=guest,
            context=pos_pb2.PosContext(check_id="S-77", terminal="chair-2"),
            amounts=earn_pb2.CheckAmounts(gross=euros(4000), paid_with_points=euros(500)),
        ),
    )
    receipt(earned_at_salon.receipt_lines)
    expect("points earned", earned_at_salon.points_earned, 350)
    expect("balance", earned_at_salon.balance.balance, 695)

    title(6, "Ten thousand points? Declined")
    decline = declined(
        salon,
        salon.redeem.Redeem,
        redeem_pb2.RedeemRequest(
            request_id=new_request_id(),
            identifier=guest,
            points=10_000,
            context=pos_pb2.PosContext(check_id="S-78"),
        ),
        "INSUFFICIENT_POINTS",
    )
    expect("code", decline.code, "FAILED_PRECONDITION")
    expect("balance in the metadata", decline.metadata.get("balance"), "695")
    expect("something for the cashier", bool(decline.cashier_sees), True)

    title(7, "A request with mistakes: each field is named")
    decline = declined(
        salon,
        salon.redeem.Redeem,
        redeem_pb2.RedeemRequest(request_id="42", identifier=guest, points=0, context=pos_pb2.PosContext()),
        "INVALID_ARGUMENT",
    )
    fields = sorted(field for field, _ in decline.violations)
    expect("fields", fields, ["context.check_id", "points", "request_id"])

    title(8, "A card nobody has")
    stranger = identifier_pb2.Identifier(type=identifier_pb2.IDENTIFIER_TYPE_CARD, value="0000")
    declined(bistro, bistro.redeem.Quote, redeem_pb2.QuoteRequest(identifier=stranger), "NOT_FOUND")

    title(9, "A bottle of wine goes back to the bistro: 20.00 EUR of the 84.50")
    returned = bistro.call(
        bistro.earn.ReturnEarn,
        earn_pb2.ReturnEarnRequest(
            request_id=new_request_id(), original_check_id="B-1001", returned=euros(2000)
        ),
    )
    receipt(returned.receipt_lines)
    expect("points taken back", returned.points_clawed_back, 200)
    expect("points owed", returned.points_to_debt, 0)
    expect("what remains of the check", returned.basis_remaining, euros(6450))
    expect("balance", returned.balance.balance, 495)

    title(10, "The salon gives back 100 of the 500 points")
    refunded = salon.call(
        salon.redeem.RefundRedemption,
        redeem_pb2.RefundRedemptionRequest(
            request_id=new_request_id(), original_transaction_id=spent.transaction_id, points=100
        ),
    )
    receipt(refunded.receipt_lines)
    expect("points given back", refunded.points_refunded, 100)
    expect("points that remain", refunded.points_remaining, 400)
    expect("balance", refunded.balance.balance, 595)

    title(11, "The line drops before the answer: the library asks again by itself, posted once")
    wire = LossyWire(endpoint)
    flaky = Till(open_channel(wire.address), salon.token)
    flaky.call(flaky.redeem.Quote, redeem_pb2.QuoteRequest(identifier=guest))  # connects
    wire.lose_next_answer = True
    lost = redeem_pb2.RedeemRequest(
        request_id=new_request_id(),
        identifier=guest,
        points=50,
        context=pos_pb2.PosContext(check_id="S-79"),
    )
    answer = flaky.call(flaky.redeem.Redeem, lost)
    print(f"     answers lost: {wire.answers_lost}; replayed: {answer.replayed}; balance {answer.balance.balance}")
    expect("answers lost", wire.answers_lost, 1)
    expect("replayed", answer.replayed, True)
    expect("balance", answer.balance.balance, 545)

    title(12, "The sale falls through: the till undoes it by the request_id alone")
    undone = salon.call(
        salon.redeem.ReverseByReference,
        redeem_pb2.ReverseByReferenceRequest(
            request_id=new_request_id(), original_request_id=lost.request_id
        ),
    )
    receipt(undone.receipt_lines)
    expect("points given back", undone.points_refunded, 50)
    expect("balance", undone.balance.balance, 595)

    title(13, "Undoing what never arrived: nothing was posted, and nothing will be")
    never = earn_pb2.EarnRequest(
        request_id=new_request_id(),
        identifier=guest,
        context=pos_pb2.PosContext(check_id="B-1002"),
        amounts=earn_pb2.CheckAmounts(gross=euros(1000)),
    )
    undo = earn_pb2.ReverseByReferenceRequest(
        request_id=new_request_id(), original_request_id=never.request_id
    )
    declined(bistro, bistro.earn.ReverseByReference, undo, "ORIGINAL_NOT_FOUND")
    declined(bistro, bistro.earn.Earn, never, "REVERSED_BEFORE_ARRIVAL")

    title(14, "No time: the deadline passes, the same request finds the truth later")
    hasty = earn_pb2.EarnRequest(
        request_id=new_request_id(),
        identifier=guest,
        context=pos_pb2.PosContext(check_id="B-1003"),
        amounts=earn_pb2.CheckAmounts(gross=euros(550)),
    )
    try:
        bistro.call(bistro.earn.Earn, hasty, seconds=0.001)
        expect("within a millisecond", "an answer", "DEADLINE_EXCEEDED")
    except Declined as decline:
        print(f"     {decline.code}: {decline.text}")
        expect("code", decline.code, "DEADLINE_EXCEEDED")
    earned = bistro.call(bistro.earn.Earn, hasty)
    receipt(earned.receipt_lines)
    expect("points earned", earned.points_earned, 55)
    expect("balance", earned.balance.balance, 650)

    print(f"\n{len(wrong)} figures differ" if wrong else "\nEvery figure is what the arithmetic says.")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
