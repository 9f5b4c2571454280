import { expect, test } from 'vitest';
import type { VsockConnection } from '../../../src/devices/backends/vsock.js';
import { VsockEndpoint } from '../../../src/host/vsock/endpoint.js';
import { guardedVsock } from '../../../src/machine/guarded-vsock.js';
import { Guard } from '../../../src/util/guard.js';

const connection = (hostPort: number) =>
  ({ hostPort, guestPort: 1000, accept() {}, close() {}, consumed() {} }) as unknown as VsockConnection;

test.each([
  [
    'throws',
    () => {
      throw new Error('broken');
    },
  ],
  [
    'rejects',
    async () => {
      throw new Error('broken');
    },
  ],
])(
  'a listener that %s for a guest’s connection is a fault of the machine’s, not the end of its process',
  async (_, listener) => {
    const faults: string[] = [];
    const endpoint = await VsockEndpoint.open(undefined, false);
    const guard = new Guard((where, error) => void faults.push(`${where}: ${(error as Error).message}`));
    const vsock = guardedVsock(endpoint, guard);
    using served = vsock.listen(52, listener);
    endpoint.onRequest(connection(52));
    await new Promise(setImmediate);
    expect(faults).toEqual(['a listener at port 52 of the vsock: broken']);
    served[Symbol.dispose]();
    expect(endpoint.onRequest(connection(52))).toBeUndefined();
  },
);
