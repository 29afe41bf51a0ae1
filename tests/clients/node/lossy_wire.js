// A wire between a till and the gateway that can lose an answer: the request arrives, the answer does not.

import { connect, createServer } from 'node:net';
import { once } from 'node:events';

// More than HTTP/2's own small frames (settings, pings), less than any answer.
const ANSWER_BYTES = 100;

/** Forwards TCP connections to `endpoint`; `address` is where to call instead. */
export class LossyWire {
  answersLost = 0;
  loseNextAnswer = false;

  static async to(endpoint) {
    const wire = new LossyWire();
    const [host, port] = endpoint.split(':');
    wire.server = createServer((till) => wire.forward(till, connect(Number(port), host)));
    wire.server.listen(0, '127.0.0.1');
    await once(wire.server, 'listening');
    wire.address = `127.0.0.1:${wire.server.address().port}`;
    return wire;
  }

  forward(till, network) {
    let withheld = 0;
    till.on('data', (data) => network.write(data));
    network.on('data', (data) => {
      if (!this.loseNextAnswer) {
        till.write(data);
        return;
      }
      withheld += data.length;
      if (withheld >= ANSWER_BYTES) {
        this.loseNextAnswer = false;
        this.answersLost += 1;
        till.destroy();
      }
    });
    till.on('close', () => network.destroy()).on('error', () => {});
    network.on('close', () => till.destroy()).on('error', () => {});
  }

  close() {
    this.server.close();
  }
}
