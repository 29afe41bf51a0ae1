// What a till needs to call a coalition network: a channel, a call with a deadline, and the reason of a decline.
//
// Copy this file and rich_error.proto. It needs @grpc/grpc-js and @grpc/proto-loader; no code is generated.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const here = fileURLToPath(new URL('.', import.meta.url));
const protos = fileURLToPath(new URL('../../../proto', import.meta.url));

// A guest is waiting: no call of a till may take longer.
const DEADLINE_SECONDS = 5;

// Published beside the protos: what the library may retry by itself, namely UNAVAILABLE and nothing else.
const SERVICE_CONFIG = readFileSync(`${protos}/service_config.json`, 'utf8');

// Points and cents fit a number (10¹² at most); `value_micros` may not, should you use it: take String there.
const definitions = loadSync(
  [
    'coalition/earn/v1/earn.proto',
    'coalition/redeem/v1/redeem.proto',
    'coalition/member/v1/member.proto',
    'coalition/partner/v1/partner.proto',
    'rich_error.proto',
  ],
  { includeDirs: [protos, here], keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true },
);
const { coalition } = grpc.loadPackageDefinition(definitions);

/** Names a write. Keep it with the check: a retry must carry the same one. */
export const newRequestId = randomUUID;

/** A call that did not do what it was asked, and what the network says about it. */
export class Declined extends Error {
  constructor(error) {
    super(error.details); // for the log of the developer
    this.code = grpc.status[error.code];
    this.reason = ''; // for the program: `coalition.common.v1.ErrorReason`
    this.metadata = {}; // figures that go with the reason
    this.cashierSees = ''; // for the screen
    this.violations = []; // of an INVALID_ARGUMENT: { field, description }
    // A `google.rpc.Status`. Absent where the library itself gave up: no connection, or the deadline
    // passed here.
    const [trailer] = error.metadata?.get('grpc-status-details-bin') ?? [];
    const { details } = trailer ? definitions['google.rpc.Status'].deserialize(trailer) : { details: [] };
    for (const { type_url, value } of details) {
      const type = type_url.split('/').at(-1);
      const detail = definitions[type]?.deserialize(value);
      if (type === 'google.rpc.ErrorInfo') {
        this.reason = detail.reason;
        this.metadata = detail.metadata;
      } else if (type === 'google.rpc.LocalizedMessage') {
        this.cashierSees = detail.message;
      } else if (type === 'google.rpc.BadRequest') {
        this.violations = detail.field_violations;
      }
    }
  }
}

/** The services of one gateway, called with one token, without TLS, as a sandbox on this machine has it. */
export class Caller {
  constructor(endpoint, token) {
    const open = (Service) =>
      new Service(endpoint, grpc.credentials.createInsecure(), { 'grpc.service_config': SERVICE_CONFIG });
    this.metadata = new grpc.Metadata();
    this.metadata.set('authorization', `Bearer ${token}`);
    this.earn = open(coalition.earn.v1.EarnService);
    this.redeem = open(coalition.redeem.v1.RedeemService);
    this.members = open(coalition.member.v1.MemberService);
    this.partners = open(coalition.partner.v1.PartnerService);
  }

  /** Calls one method with a deadline; an error becomes `Declined`. */
  call(service, method, request, seconds = DEADLINE_SECONDS) {
    const deadline = Date.now() + seconds * 1000;
    return new Promise((resolve, reject) => {
      service[method](request, this.metadata, { deadline }, (error, answer) =>
        error ? reject(new Declined(error)) : resolve(answer),
      );
    });
  }

  /** Closes the connections, so that the program can end. */
  close() {
    for (const service of [this.earn, this.redeem, this.members, this.partners]) service.close();
  }
}
