// A day at two tills: a member earns at the bistro and spends at the salon, and things go wrong as they do.
//
// Run it beside a sandbox (`coalition up`), in the same folder, with `coalition` on the path; see README.md
// of `proto/`. Prints what happens; exits 1 if a figure is not what the arithmetic says.

import { randomInt } from 'node:crypto';
import { isDeepStrictEqual, inspect } from 'node:util';
import { LossyWire } from './lossy_wire.js';
import { enrol, takeInPartner, token } from './sandbox.js';
import { Caller, Declined, newRequestId } from './till_client.js';

const wrong = [];

/** Notes a figure that is not what it should be. */
function expect(what, got, want) {
  if (isDeepStrictEqual(got, want)) return;
  wrong.push(`${what}: ${inspect(got)}, not ${inspect(want)}`);
  console.log(`     WRONG  ${wrong.at(-1)}`);
}

/** An amount of money on the wire: whole cents. */
const euros = (cents) => ({ currency_code: 'EUR', amount: cents });

/** An amount of money for people. */
const shown = ({ currency_code, amount }) => `${(amount / 100).toFixed(2)} ${currency_code}`;

/** Begins a step of the transcript. */
const title = (number, text) => console.log(`\n${String(number).padStart(2)}  ${text}`);

/** Prints what a till prints. */
function receipt(lines) {
  for (const line of lines) {
    expect(`length of '${line}'`, [...line].length <= 40, true);
    console.log(`     | ${line.padEnd(40)} |`);
  }
}

/** Calls what must be declined, and shows the three things a decline says: to program, screen and log. */
async function declined(till, service, method, request, reason) {
  const decline = await till.call(service, method, request).then(
    () => new Error('not declined'),
    (error) => error,
  );
  if (!(decline instanceof Declined)) throw decline;
  expect('reason', decline.reason, reason);
  console.log(`     program  ${decline.code} ${decline.reason}`);
  for (const [key, value] of Object.entries(decline.metadata).sort()) {
    console.log(`              ${key} = ${value}`);
  }
  console.log(`     cashier  ${decline.cashierSees}`);
  console.log(`     log      ${decline.message}`);
  for (const { field, description } of decline.violations) {
    console.log(`     field    ${field}: ${description}`);
  }
  return decline;
}

const endpoint = process.argv[2] ?? '127.0.0.1:7400';

console.log('Two shops, one member');
const card = `4007 ${randomInt(1000, 10000)} ${randomInt(1000, 10000)}`;
const guest = { type: 'IDENTIFIER_TYPE_CARD', value: card };
const bistroId = await takeInPartner(endpoint, 'Bistro Blum', 'PARTNER_KIND_RESTAURANT');
const salonId = await takeInPartner(endpoint, 'Salon Safran', 'PARTNER_KIND_SALON');
const memberId = await enrol(endpoint, card);
console.log(`     ${bistroId}\n     ${salonId}\n     ${memberId} with card ${card}`);
const bistro = new Caller(endpoint, token('pos', { partner: bistroId }));
const salon = new Caller(endpoint, token('pos', { partner: salonId }));

title(1, 'Dinner at the bistro, 84.50 EUR, earns 10 points per euro');
let earned = await bistro.call(bistro.earn, 'Earn', {
  request_id: newRequestId(),
  identifier: guest,
  context: { check_id: 'B-1001', terminal: 'till-1' },
  amounts: { gross: euros(8450) },
});
receipt(earned.receipt_lines);
expect('points earned', earned.points_earned, 845);
expect('balance', earned.balance.balance, 845);
expect('issuer', earned.lots.map((lot) => lot.issuer), [bistroId]);

title(2, 'At the salon, 40.00 EUR are due: how much may points pay?');
const quote = await salon.call(salon.redeem, 'Quote', { identifier: guest, amount_due: euros(4000) });
console.log(`     ${quote.points} points pay ${shown(quote.value)}`);
expect('points', quote.points, 845);
expect('value', quote.value, euros(845));

title(3, 'The guest spends 500');
const redeem = {
  request_id: newRequestId(),
  identifier: guest,
  points: 500,
  context: { check_id: 'S-77', terminal: 'chair-2' },
};
const spent = await salon.call(salon.redeem, 'Redeem', redeem);
receipt(spent.receipt_lines);
expect('value', spent.value, euros(500));
expect('balance', spent.balance.balance, 345);
expect('replayed', spent.replayed, false);

title(4, 'The till asks again, with the same request_id: the same answer');
const again = await salon.call(salon.redeem, 'Redeem', redeem);
console.log(`     replayed: ${again.replayed}; ${again.transaction_id}`);
expect('the answer', again, { ...spent, replayed: true });

title(5, 'The rest of the check, 35.00 EUR in money, earns at the salon');
earned = await salon.call(salon.earn, 'Earn', {
  request_id: newRequestId(),
  identifier: guest,
  context: { check_id: 'S-77', terminal: 'chair-2' },
  amounts: { gross: euros(4000), paid_with_points: spent.value },
});
receipt(earned.receipt_lines);
expect('points earned', earned.points_earned, 350);
expect('balance', earned.balance.balance, 695);

title(6, 'Ten thousand points? Declined');
let decline = await declined(
  salon,
  salon.redeem,
  'Redeem',
  { request_id: newRequestId(), identifier: guest, points: 10_000, context: { check_id: 'S-78' } },
  'INSUFFICIENT_POINTS',
);
expect('code', decline.code, 'FAILED_PRECONDITION');
expect('balance in the metadata', decline.metadata.balance, '695');
expect('something for the cashier', decline.cashierSees !== '', true);

title(7, 'A request with mistakes: each field is named');
decline = await declined(
  salon,
  salon.redeem,
  'Redeem',
  { request_id: '42', identifier: guest, points: 0, context: {} },
  'INVALID_ARGUMENT',
);
expect('fields', decline.violations.map(({ field }) => field).sort(), ['context.check_id', 'points', 'request_id']);

title(8, 'A card nobody has');
const stranger = { type: 'IDENTIFIER_TYPE_CARD', value: '0000' };
await declined(bistro, bistro.redeem, 'Quote', { identifier: stranger }, 'NOT_FOUND');

title(9, 'A bottle of wine goes back to the bistro: 20.00 EUR of the 84.50');
const returned = await bistro.call(bistro.earn, 'ReturnEarn', {
  request_id: newRequestId(),
  original_check_id: 'B-1001',
  returned: euros(2000),
});
receipt(returned.receipt_lines);
expect('points taken back', returned.points_clawed_back, 200);
expect('points owed', returned.points_to_debt, 0);
expect('what remains of the check', returned.basis_remaining, euros(6450));
expect('balance', returned.balance.balance, 495);

title(10, 'The salon gives back 100 of the 500 points');
const refunded = await salon.call(salon.redeem, 'RefundRedemption', {
  request_id: newRequestId(),
  original_transaction_id: spent.transaction_id,
  points: 100,
});
receipt(refunded.receipt_lines);
expect('points given back', refunded.points_refunded, 100);
expect('points that remain', refunded.points_remaining, 400);
expect('balance', refunded.balance.balance, 595);

title(11, 'The line drops before the answer: the library asks again by itself, posted once');
const wire = await LossyWire.to(endpoint);
const flaky = new Caller(wire.address, token('pos', { partner: salonId }));
await flaky.call(flaky.redeem, 'Quote', { identifier: guest }); // connects
wire.loseNextAnswer = true;
const lost = { request_id: newRequestId(), identifier: guest, points: 50, context: { check_id: 'S-79' } };
const answer = await flaky.call(flaky.redeem, 'Redeem', lost);
console.log(
  `     answers lost: ${wire.answersLost}; replayed: ${answer.replayed}; balance ${answer.balance.balance}`,
);
expect('answers lost', wire.answersLost, 1);
expect('replayed', answer.replayed, true);
expect('balance', answer.balance.balance, 545);
flaky.close();
wire.close();

title(12, 'The sale falls through: the till undoes it by the request_id alone');
const undone = await salon.call(salon.redeem, 'ReverseByReference', {
  request_id: newRequestId(),
  original_request_id: lost.request_id,
});
receipt(undone.receipt_lines);
expect('points given back', undone.points_refunded, 50);
expect('balance', undone.balance.balance, 595);

title(13, 'Undoing what never arrived: nothing was posted, and nothing will be');
const never = {
  request_id: newRequestId(),
  identifier: guest,
  context: { check_id: 'B-1002' },
  amounts: { gross: euros(1000) },
};
const undo = { request_id: newRequestId(), original_request_id: never.request_id };
await declined(bistro, bistro.earn, 'ReverseByReference', undo, 'ORIGINAL_NOT_FOUND');
await declined(bistro, bistro.earn, 'Earn', never, 'REVERSED_BEFORE_ARRIVAL');

title(14, 'No time: the deadline passes, the same request finds the truth later');
const hasty = {
  request_id: newRequestId(),
  identifier: guest,
  context: { check_id: 'B-1003' },
  amounts: { gross: euros(550) },
};
decline = await bistro.call(bistro.earn, 'Earn', hasty, 0.001).catch((error) => error);
console.log(`     ${decline.code}: ${decline.message}`);
expect('code', decline.code, 'DEADLINE_EXCEEDED');
earned = await bistro.call(bistro.earn, 'Earn', hasty);
receipt(earned.receipt_lines);
expect('points earned', earned.points_earned, 55);
expect('balance', earned.balance.balance, 650);

bistro.close();
salon.close();
console.log(wrong.length ? `\n${wrong.length} figures differ` : '\nEvery figure is what the arithmetic says.');
process.exitCode = wrong.length ? 1 : 0;
