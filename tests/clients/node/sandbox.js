// What the operator of a sandbox does once: takes in two shops, agrees on terms with each, enrols a member.

import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { Caller, newRequestId } from './till_client.js';

/** Signs a token with the development key in `./coalition-data`, as only a sandbox accepts it. */
export function token(role, claims = {}) {
  const flags = Object.entries(claims).flatMap(([name, value]) => [`--${name}`, value]);
  return execFileSync('coalition', ['token', '--role', role, ...flags], { encoding: 'utf8' }).trim();
}

/** Registers a partner that gives 10 points per euro, each worth a cent, and has it accept. Returns its id. */
export async function takeInPartner(endpoint, name, kind) {
  const operator = new Caller(endpoint, token('operator_maker', { subject: 'olga' }));
  const code = `${name.split(' ')[0].toLowerCase()}-${randomUUID().slice(0, 8)}`; // unique in the network
  const { partner } = await operator.call(operator.partners, 'CreatePartner', {
    request_id: newRequestId(),
    code,
    display_name: name,
    kind,
  });
  const { agreement } = await operator.call(operator.partners, 'ProposeAgreement', {
    request_id: newRequestId(),
    partner_id: partner.partner_id,
    terms: {
      currency_code: 'EUR',
      points_per_unit: '10',
      lot_lifetime_days: 365,
      settle_at_redemption: { redemption_price_per_point: '0.01', reimbursement_per_point: '0.009' },
    },
  });
  operator.close();

  const boss = new Caller(endpoint, token('partner_admin', { partner: partner.partner_id, subject: 'boss' }));
  await boss.call(boss.partners, 'AcceptAgreement', {
    request_id: newRequestId(),
    agreement_id: agreement.agreement_id,
    etag: agreement.etag,
  });
  boss.close();
  return partner.partner_id;
}

/** Takes in a member known by a card. Returns the member's id. */
export async function enrol(endpoint, card) {
  const operator = new Caller(endpoint, token('operator_maker', { subject: 'olga' }));
  const { member_id } = await operator.call(operator.members, 'Enroll', {
    request_id: newRequestId(),
    identifiers: [{ type: 'IDENTIFIER_TYPE_CARD', value: card }],
  });
  operator.close();
  return member_id;
}
